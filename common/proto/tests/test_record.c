/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/record.h"
#include "tests/unit/check.h"
#include <errno.h>

static void test_layout(void)
{
    struct dbx_record r = {
        .type = DBX_REC_STDERR,
        .flags = DBX_REC_COMPILE,
        .seq = 0x0102030405060708,
        .ts_us = -2,
        .offset = 0x1122334455667788,
        .len = 3,
    };
    static const uint8_t want[DBX_REC_HEADER] = {
        0xDB, 1, 2, 1,   3,    0,    0,    0,    8,    7,    6,    5,
        4,    3, 2, 1,   0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xa,  0, 0, 0,   0,    0,    0,    0,    0,    0,    0,    0,
        0,    0, 0, 0xb, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
    };
    uint8_t out[DBX_REC_HEADER + 3];
    struct dbx_record back;

    r.process.b[0] = 0xa;
    r.process.b[15] = 0xb;
    dbx_record_header(&r, out);
    CHECK(memcmp(out, want, sizeof(want)) == 0);
    memcpy(out + DBX_REC_HEADER, "abc", 3);
    CHECK_EQ(dbx_record_decode(out, sizeof(out), &back), 0);
    CHECK_EQ(back.type, DBX_REC_STDERR);
    CHECK_EQ(back.flags, DBX_REC_COMPILE);
    CHECK(back.seq == r.seq && back.ts_us == r.ts_us && back.offset == r.offset);
    CHECK(dbx_id_equal(&back.process, &r.process));
    CHECK(back.len == 3 && memcmp(back.data, "abc", 3) == 0);
}

static void test_bad(void)
{
    struct dbx_record r = {.type = 99, .len = 0}, back;
    uint8_t out[DBX_REC_HEADER + 1] = {0};

    dbx_record_header(&r, out);
    CHECK_EQ(dbx_record_decode(out, DBX_REC_HEADER, &back), 0);
    CHECK_EQ(back.type, 99);
    CHECK_EQ(dbx_record_decode(out, DBX_REC_HEADER - 1, &back), -EBADMSG);
    CHECK_EQ(dbx_record_decode(out, DBX_REC_HEADER + 1, &back), -EBADMSG);
    out[0] = 0;
    CHECK_EQ(dbx_record_decode(out, DBX_REC_HEADER, &back), -EBADMSG);
    out[0] = 0xDB;
    out[1] = 2;
    CHECK_EQ(dbx_record_decode(out, DBX_REC_HEADER, &back), -EBADMSG);
}

int main(void)
{
    test_layout();
    test_bad();
    return check_result();
}
