/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever the records are cut into, and wherever a viewer resumes: the bytes are exact and no
 * character is split. */
#include "gateway/stream_json.h"

#include <stdlib.h>

#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "tests/unit/check.h"

#define MAX_RECORDS 512

struct seen {
    struct dbx_buf out[2][GW_STREAMS]; /* compile, run */
    char ids[4096][GW_STREAM_ID_MAX];
    size_t marks[4096][2][GW_STREAMS]; /* lengths of out when ids[i] was given */
    size_t n_ids, base64, gaps, phases;
    uint64_t gap_from, gap_to;
};

static void seen_init(struct seen *s)
{
    memset(s, 0, sizeof(*s));
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < GW_STREAMS; k++)
            dbx_buf_init(&s->out[i][k], 16u << 20);
}

static void seen_done(struct seen *s)
{
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < GW_STREAMS; k++)
            dbx_buf_done(&s->out[i][k]);
}

static void take_output(struct seen *s, const struct dbx_json *root, size_t bytes)
{
    enum gw_stream stream;
    size_t len;
    const char *data = dbx_json_str(dbx_json_get(root, "data"), &len);
    const char *encoding = dbx_json_get_str(root, "encoding");
    size_t phase = dbx_streq(dbx_json_get_str(root, "phase"), "compile") ? 0 : 1;
    uint8_t *raw = malloc(len + 4);
    CHECK_EQ(gw_stream_parse(dbx_json_get_str(root, "stream"), &stream), 0);
    if (encoding) {
        CHECK_STR(encoding, "base64");
        CHECK_EQ(dbx_base64_decode(data, len, raw, &len, false), 0);
        CHECK(!dbx_utf8_valid(raw, len));
        s->base64++;
    } else {
        memcpy(raw, data, len);
    }
    CHECK_EQ(len, bytes);
    CHECK_EQ(dbx_buf_append(&s->out[phase][stream], raw, len), 0);
    free(raw);
    const char *id = dbx_json_get_str(root, "id");
    CHECK(id && (s->n_ids == 0 || strcmp(s->ids[s->n_ids - 1], id) < 0));
    if (id && s->n_ids < DBX_ARRAY_LEN(s->ids)) {
        (void)dbx_strcpy(s->ids[s->n_ids], GW_STREAM_ID_MAX, id);
        for (size_t i = 0; i < 2; i++)
            for (size_t k = 0; k < GW_STREAMS; k++)
                s->marks[s->n_ids][i][k] = s->out[i][k].len;
        s->n_ids++;
    }
}

static void emit(const char *text, size_t len, size_t bytes, void *user)
{
    struct seen *s = user;
    struct dbx_json_doc *doc = NULL;
    CHECK_EQ(dbx_json_parse(text, len, NULL, &doc, NULL), 0);
    const struct dbx_json *root = dbx_json_root(doc);
    const char *type = dbx_json_get_str(root, "type");
    if (dbx_streq(type, "output")) {
        take_output(s, root, bytes);
    } else if (dbx_streq(type, "gap")) {
        s->gaps++;
        s->gap_from = (uint64_t)dbx_json_get_i64(root, "from", -1);
        s->gap_to = (uint64_t)dbx_json_get_i64(root, "to", -1);
    } else {
        CHECK_STR(type, "status");
        s->phases++;
    }
    dbx_json_doc_free(doc);
}

/* A log of one process: random bytes of both streams in both phases, cut at random. */
struct log {
    struct dbx_record r[MAX_RECORDS];
    size_t n;
    uint8_t *data[2][2];
    size_t len[2][2];
};

static size_t random_text(uint8_t *out, size_t max, bool valid)
{
    static const char *const chars[] = {"a", "\n", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x8e\x89",
                                        "\0"};
    size_t n = 0;
    while (n + 4 < max) {
        if (!valid && dbx_random_below(8) == 0) {
            dbx_random(out + n++, 1);
            continue;
        }
        const char *c = chars[dbx_random_below(DBX_ARRAY_LEN(chars))];
        size_t len = *c ? strlen(c) : 1;
        memcpy(out + n, c, len);
        n += len;
    }
    return n;
}

static void add_record(struct log *l, struct dbx_record r)
{
    r.seq = l->n;
    r.ts_us = (int64_t)l->n * 1000;
    r.process.b[0] = 7;
    if (l->n < MAX_RECORDS)
        l->r[l->n++] = r;
}

static void make_phase(struct log *l, size_t phase, bool valid)
{
    static const char *const words[] = {"{\"status\":\"running\",\"phase\":\"compile\"}",
                                        "{\"status\":\"running\",\"phase\":\"run\"}"};
    size_t at[2] = {0, 0};
    uint8_t flags = phase == 0 ? DBX_REC_COMPILE : 0;
    add_record(l, (struct dbx_record){.type = DBX_REC_STATUS,
                                      .flags = flags,
                                      .data = (const uint8_t *)words[phase],
                                      .len = (uint32_t)strlen(words[phase])});
    for (size_t k = 0; k < 2; k++) {
        size_t size = 5 + dbx_random_below(400);
        l->data[phase][k] = malloc(size);
        l->len[phase][k] = random_text(l->data[phase][k], size, valid);
    }
    while (at[0] < l->len[phase][0] || at[1] < l->len[phase][1]) {
        size_t k = dbx_random_below(2), n = 1 + dbx_random_below(9);
        if (n > l->len[phase][k] - at[k])
            n = l->len[phase][k] - at[k];
        if (n == 0)
            continue;
        add_record(l, (struct dbx_record){.type = k ? DBX_REC_STDERR : DBX_REC_STDOUT,
                                          .flags = flags,
                                          .offset = at[k],
                                          .data = l->data[phase][k] + at[k],
                                          .len = (uint32_t)n});
        at[k] += n;
    }
}

static void make_log(struct log *l, bool valid)
{
    static const char end[] = "{\"verdict\":\"OK\"}";
    memset(l, 0, sizeof(*l));
    make_phase(l, 0, valid);
    make_phase(l, 1, valid);
    add_record(l, (struct dbx_record){
                      .type = DBX_REC_END, .data = (const uint8_t *)end, .len = sizeof(end) - 1});
}

static void free_log(struct log *l)
{
    for (size_t i = 0; i < 4; i++)
        free(l->data[i / 2][i % 2]);
}

/* Plays records from log offset `from` on; some come twice, some in two goes for want of room. */
static void play(const struct log *l, struct gw_text *t, int64_t from, struct seen *s)
{
    for (size_t i = (size_t)from; i < l->n; i++) {
        if (dbx_random_below(10) == 0 && i > (size_t)from)
            CHECK(gw_text_record(t, &l->r[i - 1], (int64_t)i - 1, SIZE_MAX, emit, s));
        while (!gw_text_record(t, &l->r[i], (int64_t)i, dbx_random_below(4), emit, s))
            ;
    }
    gw_text_flush(t, emit, s);
}

static void check_whole(const struct log *l, const struct seen *s,
                        const size_t marks[2][GW_STREAMS])
{
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < 2; k++) {
            size_t skip = marks ? marks[i][k] : 0;
            CHECK_EQ(s->out[i][k].len, l->len[i][k] - skip);
            if (s->out[i][k].len == l->len[i][k] - skip)
                CHECK(memcmp(s->out[i][k].data ? s->out[i][k].data : (const uint8_t *)"",
                             l->data[i][k] + skip, s->out[i][k].len) == 0);
        }
}

static void one_round(bool valid)
{
    struct log l;
    struct seen *first = malloc(sizeof(*first)), *again = malloc(sizeof(*again));
    struct gw_text t;
    make_log(&l, valid);
    seen_init(first);
    gw_text_init(&t, &l.r[0].process);
    play(&l, &t, 0, first);
    check_whole(&l, first, NULL);
    CHECK_EQ(first->gaps, 0);
    CHECK_EQ(first->phases, 2);
    if (valid)
        CHECK_EQ(first->base64, 0);
    for (int i = 0; i < 8 && first->n_ids > 0; i++) {
        size_t at = dbx_random_below(first->n_ids);
        struct gw_stream_id id = {0};
        CHECK_EQ(gw_stream_id_parse(first->ids[at], &id), 0);
        seen_init(again);
        gw_text_init(&t, &l.r[0].process);
        gw_text_resume(&t, &id);
        play(&l, &t, id.log_offset, again);
        if (id.at.phase == GW_PHASE_RUN) /* nothing of what came before */
            for (size_t k = 0; k < 2; k++)
                first->marks[at][0][k] = l.len[0][k];
        check_whole(&l, again, (const size_t(*)[GW_STREAMS])first->marks[at]);
        CHECK_EQ(again->gaps, 0);
        seen_done(again);
    }
    seen_done(first);
    free_log(&l);
    free(first);
    free(again);
}

static void test_segments(void)
{
    struct seen *s = malloc(sizeof(*s));
    struct gw_text t;
    static const uint8_t data[] = "ok\xff\xfe\n";
    struct dbx_record r = {.type = DBX_REC_STDOUT, .data = data, .len = 5};
    seen_init(s);
    gw_text_init(&t, &r.process);
    CHECK(gw_text_record(&t, &r, 0, SIZE_MAX, emit, s));
    CHECK_EQ(s->n_ids, 3); /* text, base64, text */
    CHECK_EQ(s->base64, 1);
    seen_done(s);
    free(s);
}

static void test_gaps(void)
{
    struct seen *s = malloc(sizeof(*s));
    struct gw_text t;
    struct dbx_record r = {.type = DBX_REC_STDOUT, .data = (const uint8_t *)"\xc3", .len = 1};
    seen_init(s);
    gw_text_init(&t, &r.process);
    CHECK(gw_text_record(&t, &r, 0, SIZE_MAX, emit, s));
    CHECK_EQ(s->out[1][0].len, 0); /* waits */
    r.offset = 10;
    r.data = (const uint8_t *)"abc";
    r.len = 3;
    CHECK(gw_text_record(&t, &r, 1, SIZE_MAX, emit, s));
    CHECK_EQ(s->gaps, 1);
    CHECK(s->gap_from == 1 && s->gap_to == 10);
    CHECK_EQ(s->out[1][0].len, 4);
    gw_text_gap(&t, GW_STDOUT, 20, emit, s);
    CHECK_EQ(s->gaps, 2);
    CHECK(s->gap_from == 13 && s->gap_to == 20);
    gw_text_gap(&t, GW_STDOUT, 20, emit, s);
    CHECK_EQ(s->gaps, 2);
    uint8_t body[17] = {0};
    body[8] = 30;
    body[16] = DBX_REC_STDOUT;
    struct dbx_record gap = {.type = DBX_REC_GAP, .data = body, .len = sizeof(body)};
    CHECK(gw_text_record(&t, &gap, 2, SIZE_MAX, emit, s));
    CHECK(s->gap_from == 20 && s->gap_to == 30);
    gap.len = 9; /* hostile: too short */
    CHECK(gw_text_record(&t, &gap, 3, SIZE_MAX, emit, s));
    CHECK_EQ(s->gaps, 3);
    r.offset = UINT64_MAX - 1; /* hostile: beyond the end of numbers */
    CHECK(gw_text_record(&t, &r, 4, SIZE_MAX, emit, s));
    seen_done(s);
    free(s);
}

int main(void)
{
    for (int i = 0; i < 60; i++)
        one_round(i % 2 == 0);
    test_segments();
    test_gaps();
    return check_result();
}
