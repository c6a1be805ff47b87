/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever was first, everyone is shown what he would have been shown alone; and what is kept for
 * that stays within its bound. */
#include "gateway/share.h"

#include "common/base/rand.h"
#include "tests/unit/check.h"

#define VIEWERS 5
#define RECORDS 600
#define MAX 30000u

static const struct dbx_id process = {{1}}, sandbox = {{2}};
static struct gw_shares *shares;
static size_t found, kept;

struct viewer {
    struct gw_text shared, alone; /* where he stands in either way */
    struct dbx_buf by_sharing, by_himself;
    size_t next; /* record */
};

static void take(const char *text, size_t len, size_t bytes, void *user)
{
    (void)bytes;
    CHECK_EQ(dbx_buf_append(&((struct viewer *)user)->by_himself, text, len), 0);
}

static void share(const char *text, size_t len, size_t bytes, void *user)
{
    gw_sharing_add(user, dbx_ws_frame_new(false, text, len, NULL, 0), bytes);
}

static void show(struct viewer *v, const struct dbx_record *r, int64_t offset)
{
    const struct gw_shared *got = gw_shares_find(shares, &process, offset, &v->shared);
    CHECK(gw_text_record(&v->alone, r, offset, SIZE_MAX, take, v));
    if (!got) {
        struct gw_sharing sharing = {.before = v->shared};
        CHECK(gw_text_record(&v->shared, r, offset, SIZE_MAX, share, &sharing));
        for (size_t i = 0; i < sharing.n; i++) {
            size_t len;
            const uint8_t *text = dbx_ws_frame_data(sharing.messages[i].frame, &len);
            CHECK_EQ(dbx_buf_append(&v->by_sharing, text, len), 0);
        }
        gw_shares_keep(shares, &process, offset, &sharing, &v->shared);
        kept++;
        return;
    }
    found++;
    for (size_t i = 0; i < got->n; i++) {
        size_t len;
        const uint8_t *text = dbx_ws_frame_data(got->messages[i].frame, &len);
        CHECK_EQ(dbx_buf_append(&v->by_sharing, text, len), 0);
    }
    v->shared = got->after;
}

/* Cut through characters, with bytes that are none, on three streams. */
static void make_records(struct dbx_record *r, uint8_t *data, size_t n)
{
    static const char words[] = "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x8e\x89\xff";
    uint64_t at[3] = {0};
    for (size_t i = 0; i < n; i++) {
        size_t stream = dbx_random_below(3), len = 1 + dbx_random_below(30);
        for (size_t k = 0; k < len; k++)
            data[k] = (uint8_t)words[(at[stream] + k) % (sizeof(words) - 1)];
        r[i] = (struct dbx_record){.type = (enum dbx_rec_type)(DBX_REC_STDOUT + stream),
                                   .seq = i,
                                   .ts_us = (int64_t)i * 1000,
                                   .process = process,
                                   .offset = at[stream],
                                   .data = data,
                                   .len = (uint32_t)len};
        at[stream] += len;
        data += len;
    }
}

static void test_same_as_alone(void)
{
    static struct dbx_record r[RECORDS];
    static uint8_t data[RECORDS * 31];
    struct viewer v[VIEWERS] = {0};
    make_records(r, data, RECORDS);
    shares = gw_shares_new(MAX);
    struct gw_audience *a = gw_audience_join(shares, &sandbox);
    for (size_t i = 0; i < VIEWERS; i++) {
        gw_text_init(&v[i].shared, &process);
        gw_text_init(&v[i].alone, &process);
        dbx_buf_init(&v[i].by_sharing, 16u << 20);
        dbx_buf_init(&v[i].by_himself, 16u << 20);
        v[i].next = i == 0 ? 7 : 0; /* one who does not begin where the others do */
    }
    for (size_t left = VIEWERS; left > 0;) {
        /* Near each other, and now and then not. */
        struct viewer *one = &v[dbx_random_below(VIEWERS)];
        for (size_t i = 0; i < VIEWERS && dbx_random_below(20); i++)
            one = v[i].next + 10 < one->next ? &v[i] : one;
        for (size_t n = dbx_random_below(12); n > 0 && one->next < RECORDS; n--, one->next++) {
            show(one, &r[one->next], (int64_t)one->next * 100);
            CHECK(gw_shares_bytes(shares) <= MAX);
        }
        left = 0;
        for (size_t i = 0; i < VIEWERS; i++)
            left += v[i].next < RECORDS;
    }
    for (size_t i = 0; i < VIEWERS; i++) {
        CHECK(v[i].by_himself.len > 0);
        CHECK_EQ(v[i].by_sharing.len, v[i].by_himself.len);
        CHECK(memcmp(v[i].by_sharing.data, v[i].by_himself.data, v[i].by_himself.len) == 0);
        dbx_buf_done(&v[i].by_sharing);
        dbx_buf_done(&v[i].by_himself);
    }
    CHECK(found > RECORDS && kept >= RECORDS);
    gw_audience_leave(a);
    CHECK_EQ(gw_shares_bytes(shares), 0);
    shares = gw_shares_free(shares);
}

static void test_audience(void)
{
    const struct dbx_id other = {{3}};
    struct gw_sharing sharing = {0};
    shares = gw_shares_new(MAX);
    struct gw_audience *a = gw_audience_join(shares, &sandbox),
                       *b = gw_audience_join(shares, &other);
    CHECK(a != b && gw_audience_is_one(a) && gw_audience_is_one(b));
    CHECK(gw_audience_join(shares, &sandbox) == a && !gw_audience_is_one(a));
    gw_audience_leave(a);
    CHECK(gw_audience_is_one(a));
    /* Larger than all that may be kept: not kept. */
    gw_sharing_add(&sharing, dbx_ws_frame_new(true, (char[MAX]){0}, MAX, NULL, 0), MAX);
    gw_shares_keep(shares, &process, 0, &sharing, NULL);
    CHECK(!sharing.messages && !gw_shares_find(shares, &process, 0, NULL));
    gw_sharing_add(&sharing, dbx_ws_frame_new(true, "x", 1, "y", 1), 1);
    gw_shares_keep(shares, &process, 0, &sharing, NULL);
    const struct gw_shared *got = gw_shares_find(shares, &process, 0, NULL);
    CHECK(got && got->n == 1 && got->messages[0].bytes == 1);
    CHECK(!gw_shares_find(shares, &process, 0, &(struct gw_text){0})); /* that is the text's */
    CHECK(!gw_shares_find(shares, &process, 1, NULL));
    gw_audience_leave(a);
    gw_audience_leave(b);
    CHECK_EQ(gw_shares_bytes(shares), 0);
    shares = gw_shares_free(shares);
}

int main(void)
{
    test_same_as_alone();
    test_audience();
    return check_result();
}
