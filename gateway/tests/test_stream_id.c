/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/stream_id.h"

#include "common/base/rand.h"
#include "tests/unit/check.h"

static uint64_t any_number(void)
{
    return dbx_random_below(1ull << dbx_random_below(63));
}

static void test_round_trip(void)
{
    for (int i = 0; i < 2000; i++) {
        char text[GW_STREAM_ID_MAX], next[GW_STREAM_ID_MAX];
        struct gw_stream_id id = {.log_offset = (int64_t)any_number()}, back;
        id.at.phase = dbx_random_below(2) ? GW_PHASE_COMPILE : GW_PHASE_RUN;
        for (size_t k = 0; k < GW_STREAMS; k++)
            id.at.pos[k] = any_number();
        gw_stream_id_format(&id, text);
        CHECK_EQ(gw_stream_id_parse(text, &back), 0);
        CHECK(back.log_offset == id.log_offset && back.at.phase == id.at.phase);
        CHECK(memcmp(back.at.pos, id.at.pos, sizeof(id.at.pos)) == 0);
        /* Ordered as strings are. */
        id.at.pos[dbx_random_below(GW_STREAMS)] += 1 + dbx_random_below(1000);
        gw_stream_id_format(&id, next);
        CHECK(strcmp(text, next) < 0);
        id.log_offset += 1 + (int64_t)dbx_random_below(1000);
        gw_stream_id_format(&id, text);
        CHECK(strcmp(next, text) < 0);
    }
}

static void test_bad(void)
{
    static const char *const bad[] = {
        "x",          "c",        "r0",         "r0000000g",
        "R00000000",  "r1000000", "r00000000 ", "rf800000000000000000000000",
        "zzz",        "-1",       "00",         "r000000000",
        "r101000000x"};
    struct gw_stream_id id;
    uint64_t seq;
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK(gw_stream_id_parse(bad[i], &id) < 0);
    CHECK_EQ(gw_stream_id_parse("r00000000", &id), 0);
    CHECK_EQ(gw_stream_id_parse("", &id), 0);
    CHECK_EQ(id.at.phase, GW_PHASE_NONE);
    CHECK_EQ(gw_stream_id_parse("0", &id), 0);
    CHECK_EQ(gw_stream_seq_parse("s17", &seq), 0);
    CHECK_EQ(seq, 18);
    CHECK_EQ(gw_stream_seq_parse("0", &seq), 0);
    CHECK_EQ(seq, 0);
    CHECK(gw_stream_seq_parse("17", &seq) < 0);
    CHECK(gw_stream_seq_parse("s", &seq) < 0);
    CHECK(gw_stream_seq_parse("s-1", &seq) < 0);
    CHECK(gw_stream_seq_parse("s99999999999999999999", &seq) < 0);
}

static void test_resume(void)
{
    struct dbx_id id;
    CHECK_EQ(gw_resume_parse("0192aa00-0000-7000-8000-000000000001:r00000000", false, &id), 0);
    CHECK_EQ(id.b[15], 1);
    CHECK_EQ(gw_resume_parse("0192aa00-0000-7000-8000-000000000001:", false, &id), 0);
    CHECK_EQ(gw_resume_parse("0192aa00-0000-7000-8000-000000000001:s3", true, &id), 0);
    CHECK(gw_resume_parse("0192aa00-0000-7000-8000-000000000001:s3", false, &id) < 0);
    CHECK(gw_resume_parse("0192aa00-0000-7000-8000-000000000001", false, &id) < 0);
    CHECK(gw_resume_parse("x:r00000000", false, &id) < 0);
    CHECK(gw_resume_parse("", false, &id) < 0);
}

int main(void)
{
    test_round_trip();
    test_bad();
    test_resume();
    return check_result();
}
