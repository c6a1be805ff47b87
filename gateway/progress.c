/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/progress.h"

#include <errno.h>
#include <string.h>

#include "common/base/str.h"
#include "common/ext/json.h"

static const char *const stream_names[GW_STREAMS] = {"stdout", "stderr", "pty"};

const char *gw_stream_name(enum gw_stream stream)
{
    return stream_names[stream];
}

int gw_stream_parse(const char *name, enum gw_stream *ret)
{
    for (size_t i = 0; i < GW_STREAMS; i++)
        if (dbx_streq(name, stream_names[i])) {
            *ret = (enum gw_stream)i;
            return 0;
        }
    return -EINVAL;
}

static bool stream_of(uint8_t type, enum gw_stream *ret)
{
    if (type < DBX_REC_STDOUT || type > DBX_REC_PTY)
        return false;
    *ret = (enum gw_stream)(type - DBX_REC_STDOUT);
    return true;
}

static void enter(struct gw_progress *p, enum gw_phase phase, struct gw_event *ret)
{
    p->phase = phase;
    memset(p->pos, 0, sizeof(p->pos));
    ret->kind = GW_EV_PHASE;
    ret->phase = phase;
}

static enum gw_phase phase_of(const struct dbx_record *r)
{
    return (r->flags & DBX_REC_COMPILE) ? GW_PHASE_COMPILE : GW_PHASE_RUN;
}

static void next_data(struct gw_progress *p, const struct dbx_record *r, enum gw_stream stream,
                      size_t max, struct gw_event *ret)
{
    uint64_t *pos = &p->pos[stream], stop;
    if (__builtin_add_overflow(r->offset, r->len, &stop) || stop <= *pos)
        return;
    ret->stream = stream;
    if (r->offset > *pos) {
        ret->kind = GW_EV_GAP;
        ret->from = *pos;
        ret->to = *pos = r->offset;
        return;
    }
    size_t skip = (size_t)(*pos - r->offset), len = r->len - skip;
    ret->kind = GW_EV_DATA;
    ret->offset = *pos;
    ret->data = r->data + skip;
    ret->len = len < max ? len : max;
    *pos += ret->len;
    p->end = false;
}

static void next_gap(struct gw_progress *p, const struct dbx_record *r, struct gw_event *ret)
{
    struct dbx_reader rd = {.p = r->data, .left = r->len};
    (void)dbx_rd_u64(&rd); /* from: our own position says it */
    uint64_t to = dbx_rd_u64(&rd);
    uint8_t type = dbx_rd_u8(&rd);
    if (rd.bad || !stream_of(type, &ret->stream) || to <= p->pos[ret->stream])
        return;
    ret->kind = GW_EV_GAP;
    ret->from = p->pos[ret->stream];
    ret->to = p->pos[ret->stream] = to;
}

/* {"status":"running","phase":...}; the flags say the same, the words win. */
static enum gw_phase status_phase(const struct dbx_record *r)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    if (dbx_json_parse(r->data, r->len, NULL, &doc, NULL) < 0)
        return phase_of(r);
    const char *phase = dbx_json_get_str(dbx_json_root(doc), "phase");
    if (dbx_streq(phase, "compile"))
        return GW_PHASE_COMPILE;
    return dbx_streq(phase, "run") ? GW_PHASE_RUN : phase_of(r);
}

static enum dbx_verdict end_verdict(const struct dbx_record *r)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    if (dbx_json_parse(r->data, r->len, NULL, &doc, NULL) < 0)
        return DBX_V_NONE;
    const char *verdict = dbx_json_get_str(dbx_json_root(doc), "verdict");
    return verdict ? dbx_verdict_parse(verdict) : DBX_V_NONE;
}

void gw_progress_next(struct gw_progress *p, const struct dbx_record *r, size_t max,
                      struct gw_event *ret)
{
    enum gw_stream stream;
    *ret = (struct gw_event){.kind = GW_EV_NONE, .phase = p->phase};
    if (r->type == DBX_REC_STATUS) {
        enum gw_phase phase = status_phase(r);
        p->end = false; /* another attempt follows the end of a lost one */
        if (phase > p->phase)
            enter(p, phase, ret);
        return;
    }
    if (r->type == DBX_REC_END) {
        if (!p->end)
            ret->kind = GW_EV_END;
        p->end = true;
        p->verdict = end_verdict(r);
        return;
    }
    bool data = stream_of(r->type, &stream);
    if (!data && r->type != DBX_REC_GAP)
        return;
    enum gw_phase phase = phase_of(r);
    if (phase < p->phase)
        return;
    if (phase > p->phase)
        enter(p, phase, ret); /* its STATUS record is gone */
    else if (data)
        next_data(p, r, stream, max, ret);
    else
        next_gap(p, r, ret);
}
