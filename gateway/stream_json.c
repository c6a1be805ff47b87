/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/stream_json.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "common/ext/json.h"

#define MAX_MESSAGE (8u * GW_MESSAGE_BYTES) /* six bytes a byte at worst, and the rest of it */
#define TEXT_AGAIN 32                       /* so many bytes of valid text end a base64 message */

struct out {
    struct gw_text *t;
    gw_text_emit *emit;
    void *user;
};

void gw_text_init(struct gw_text *t, const struct dbx_id *process)
{
    *t = (struct gw_text){0};
    dbx_id_format(process, t->process);
}

bool gw_text_same(const struct gw_text *a, const struct gw_text *b)
{
    const struct gw_progress *p = &a->progress, *q = &b->progress;
    bool carried = false;
    if (p->phase != q->phase || p->end != q->end || p->verdict != q->verdict ||
        memcmp(p->pos, q->pos, sizeof(p->pos)) != 0 || strcmp(a->process, b->process) != 0)
        return false;
    for (size_t i = 0; i < GW_STREAMS; i++) {
        __auto_type x = &a->carry[i];
        __auto_type y = &b->carry[i];
        if (x->len != y->len || memcmp(x->bytes, y->bytes, x->len) != 0 ||
            (x->len && x->log_offset != y->log_offset))
            return false;
        carried |= x->len > 0;
    }
    /* Only what is carried is ever sent with the words of an earlier record. */
    return !carried || (a->last_offset == b->last_offset && a->last_ts_us == b->last_ts_us);
}

void gw_text_resume(struct gw_text *t, const struct gw_stream_id *id)
{
    t->progress = id->at;
    memset(t->carry, 0, sizeof(t->carry));
    t->last_offset = id->log_offset;
}

/* `done` bytes of `stream` have been given; of the other streams all but what is carried. */
static void make_id(const struct gw_text *t, enum gw_stream stream, uint64_t done, char *out)
{
    struct gw_stream_id id = {.log_offset = t->last_offset, .at = t->progress};
    for (size_t i = 0; i < GW_STREAMS; i++) {
        if (!t->carry[i].len)
            continue;
        id.at.pos[i] -= t->carry[i].len;
        if (t->carry[i].log_offset < id.log_offset)
            id.log_offset = t->carry[i].log_offset;
    }
    id.at.pos[stream] = done;
    gw_stream_id_format(&id, out);
}

static void send(struct out *o, struct dbx_buf *buf, struct dbx_jw **w, size_t bytes)
{
    dbx_jw_object_end(*w);
    int r = dbx_jw_end(w);
    dbx_assert(r == 0); /* sizes are bounded, text was checked */
    o->emit(dbx_buf_cstr(buf), buf->len, bytes, o->user);
    dbx_buf_done(buf);
}

static struct dbx_jw *begin(struct out *o, struct dbx_buf *buf, const char *type)
{
    dbx_buf_init(buf, MAX_MESSAGE);
    struct dbx_jw *w = dbx_jw_new(buf);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "type", type);
    dbx_jw_kstr(w, "process_id", o->t->process);
    return w;
}

static void put_phase(struct out *o, struct dbx_jw *w)
{
    if (o->t->progress.phase == GW_PHASE_COMPILE)
        dbx_jw_kstr(w, "phase", "compile");
}

static void send_output(struct out *o, enum gw_stream stream, const uint8_t *data, size_t len,
                        bool text, uint64_t done)
{
    struct dbx_buf buf;
    char id[GW_STREAM_ID_MAX];
    struct dbx_jw *w = begin(o, &buf, "output");
    dbx_jw_kstr(w, "stream", gw_stream_name(stream));
    put_phase(o, w);
    dbx_jw_key(w, "data");
    if (text) {
        dbx_jw_strn(w, (const char *)data, len);
    } else {
        char *b64 = dbx_malloc((len + 2) / 3 * 4 + 1);
        dbx_jw_strn(w, b64, dbx_base64_encode(data, len, b64, false));
        free(b64);
        dbx_jw_kstr(w, "encoding", "base64");
    }
    dbx_jw_ki64(w, "timestamp", o->t->last_ts_us / 1000);
    make_id(o->t, stream, done, id);
    dbx_jw_kstr(w, "id", id);
    send(o, &buf, &w, len);
}

static void send_phase(struct out *o, enum gw_phase phase)
{
    struct dbx_buf buf;
    struct dbx_jw *w = begin(o, &buf, "status");
    dbx_jw_kstr(w, "status", "running");
    dbx_jw_kstr(w, "phase", phase == GW_PHASE_COMPILE ? "compile" : "run");
    send(o, &buf, &w, 0);
}

static void send_gap(struct out *o, enum gw_stream stream, uint64_t from, uint64_t to)
{
    struct dbx_buf buf;
    char id[GW_STREAM_ID_MAX];
    struct dbx_jw *w = begin(o, &buf, "gap");
    dbx_jw_kstr(w, "stream", gw_stream_name(stream));
    put_phase(o, w);
    dbx_jw_ki64(w, "from", (int64_t)from);
    dbx_jw_ki64(w, "to", (int64_t)to);
    make_id(o->t, stream, to, id);
    dbx_jw_kstr(w, "id", id);
    send(o, &buf, &w, 0);
}

/* Length of what goes as base64 from an invalid byte on: up to the next stretch of text that is
 * worth a message of its own, or that goes on to the end. */
static size_t binary_run(const uint8_t *data, size_t len)
{
    size_t i = 1;
    while (i < len) {
        bool incomplete = false;
        size_t n = dbx_utf8_prefix(data + i, len - i, &incomplete);
        if (n >= TEXT_AGAIN || i + n == len || incomplete)
            return i;
        i += n + 1;
    }
    return len;
}

/* Sends bytes that follow each other; `offset` is that of the first. What may be the beginning of a
 * character is carried, unless nothing will follow. */
static void send_bytes(struct out *o, enum gw_stream stream, const uint8_t *data, size_t len,
                       uint64_t offset, bool last)
{
    __auto_type carry = &o->t->carry[stream];
    while (len > 0) {
        bool incomplete = false;
        size_t n = dbx_utf8_prefix(data, len, &incomplete);
        bool text = n > 0;
        if (!text && incomplete && !last) {
            dbx_assert(len < sizeof(carry->bytes));
            memcpy(carry->bytes, data, len);
            carry->len = (uint8_t)len;
            carry->log_offset = o->t->last_offset;
            return;
        }
        if (!text)
            n = binary_run(data, len);
        send_output(o, stream, data, n, text, offset + n);
        data += n;
        len -= n;
        offset += n;
    }
}

static void flush_carry(struct out *o, enum gw_stream stream)
{
    __auto_type carry = &o->t->carry[stream];
    uint8_t bytes[sizeof(carry->bytes)];
    size_t len = carry->len;
    memcpy(bytes, carry->bytes, sizeof(bytes));
    carry->len = 0;
    send_bytes(o, stream, bytes, len, o->t->progress.pos[stream] - len, true);
}

static void on_data(struct out *o, const struct gw_event *ev)
{
    __auto_type carry = &o->t->carry[ev->stream];
    size_t held = carry->len;
    if (held == 0) {
        send_bytes(o, ev->stream, ev->data, ev->len, ev->offset, false);
        return;
    }
    uint8_t *joined = dbx_malloc(held + ev->len);
    memcpy(joined, carry->bytes, held);
    memcpy(joined + held, ev->data, ev->len);
    int64_t offset_of_carry = carry->log_offset;
    carry->len = 0;
    send_bytes(o, ev->stream, joined, held + ev->len, ev->offset - held, false);
    if (carry->len > ev->len) /* some of the old carry is still in it */
        carry->log_offset = offset_of_carry;
    free(joined);
}

static void flush_all(struct out *o)
{
    for (size_t i = 0; i < GW_STREAMS; i++)
        if (o->t->carry[i].len)
            flush_carry(o, (enum gw_stream)i);
}

bool gw_text_record(struct gw_text *t, const struct dbx_record *r, int64_t log_offset, size_t max,
                    gw_text_emit *emit, void *user)
{
    struct out o = {.t = t, .emit = emit, .user = user};
    for (;;) {
        struct gw_progress next = t->progress;
        struct gw_event ev;
        size_t want = max < GW_MESSAGE_BYTES ? max : GW_MESSAGE_BYTES;
        gw_progress_next(&next, r, want ? want : 1, &ev);
        if (ev.kind == GW_EV_DATA && max == 0)
            return false;
        if (ev.kind == GW_EV_PHASE || ev.kind == GW_EV_END)
            flush_all(&o); /* within the phase that it belongs to */
        if (ev.kind == GW_EV_GAP && t->carry[ev.stream].len)
            flush_carry(&o, ev.stream);
        t->progress = next;
        t->last_offset = log_offset;
        t->last_ts_us = r->ts_us;
        switch (ev.kind) {
        case GW_EV_NONE:
        case GW_EV_END:
            return true;
        case GW_EV_PHASE:
            send_phase(&o, ev.phase);
            break;
        case GW_EV_GAP:
            send_gap(&o, ev.stream, ev.from, ev.to);
            break;
        case GW_EV_DATA:
            on_data(&o, &ev);
            max -= ev.len;
            break;
        }
    }
}

void gw_text_flush(struct gw_text *t, gw_text_emit *emit, void *user)
{
    struct out o = {.t = t, .emit = emit, .user = user};
    flush_all(&o);
}

void gw_text_gap(struct gw_text *t, enum gw_stream stream, uint64_t to, gw_text_emit *emit,
                 void *user)
{
    struct out o = {.t = t, .emit = emit, .user = user};
    uint64_t from = t->progress.pos[stream];
    if (to <= from)
        return;
    if (t->carry[stream].len)
        flush_carry(&o, stream);
    t->progress.pos[stream] = to;
    send_gap(&o, stream, from, to);
}
