/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/buf.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <stdlib.h>

static void test_append(void)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf;
    dbx_buf_init(&buf, 10);
    CHECK_STR(dbx_buf_cstr(&buf), "");
    CHECK_EQ(dbx_buf_append(&buf, NULL, 0), 0);
    CHECK_EQ(dbx_buf_str(&buf, "hello"), 0);
    CHECK_EQ(dbx_buf_str(&buf, "world"), 0);
    CHECK_STR(dbx_buf_cstr(&buf), "helloworld");
    CHECK_EQ(dbx_buf_str(&buf, "!"), -E2BIG);
    CHECK_EQ(dbx_buf_reserve(&buf, SIZE_MAX), -E2BIG);
    CHECK_STR(dbx_buf_cstr(&buf), "helloworld");
    dbx_buf_consume(&buf, 5);
    CHECK_STR(dbx_buf_cstr(&buf), "world");
    CHECK_EQ(dbx_buf_printf(&buf, "%d", 12345), 0);
    CHECK_EQ(dbx_buf_printf(&buf, "%s", "x"), -E2BIG);
    CHECK_STR(dbx_buf_cstr(&buf), "world12345");
    dbx_buf_clear(&buf);
    CHECK_STR(dbx_buf_cstr(&buf), "");
    CHECK_EQ(dbx_buf_str(&buf, "a"), 0);
    uint8_t *taken = dbx_buf_take(&buf);
    CHECK_STR((char *)taken, "a");
    free(taken);
    CHECK(buf.data == NULL && buf.len == 0 && buf.max == 10);
    dbx_buf_consume(&buf, 0);

    struct dbx_buf none;
    dbx_buf_init(&none, 0);
    CHECK_EQ(dbx_buf_append(&none, "x", 1), -E2BIG);
    CHECK_EQ(dbx_buf_append(&none, "", 0), 0);
    dbx_buf_done(&none);
    CHECK_EQ(none.len, 0);
}

static void test_growth(void)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf;
    dbx_buf_init(&buf, 1 << 20);
    for (int i = 0; i < 100000; i++)
        if (dbx_buf_printf(&buf, "%05d,", i) < 0)
            break;
    CHECK_EQ(buf.len, 600000);
    CHECK_EQ(memcmp(buf.data + 599994, "99999,", 7), 0);
    CHECK(buf.cap <= buf.max + 1);
}

static void test_wire(void)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf;
    dbx_buf_init(&buf, 64);
    CHECK_EQ(dbx_buf_u8(&buf, 0x12) | dbx_buf_u16(&buf, 0x3456) | dbx_buf_u32(&buf, 0x789abcdeu) |
                 dbx_buf_u64(&buf, 0x0123456789abcdefu) | dbx_buf_str(&buf, "tail"),
             0);
    CHECK_EQ(
        memcmp(buf.data, "\x12\x56\x34\xde\xbc\x9a\x78\xef\xcd\xab\x89\x67\x45\x23\x01tail", 19),
        0);
    struct dbx_reader r = {.p = buf.data, .left = buf.len};
    CHECK_EQ(dbx_rd_u8(&r), 0x12);
    CHECK_EQ(dbx_rd_u16(&r), 0x3456);
    CHECK_EQ(dbx_rd_u32(&r), 0x789abcdeu);
    CHECK(dbx_rd_u64(&r) == 0x0123456789abcdefu);
    const uint8_t *tail = dbx_rd_bytes(&r, 4);
    CHECK(tail && memcmp(tail, "tail", 4) == 0);
    CHECK(!r.bad && r.left == 0);
    CHECK_EQ(dbx_rd_u8(&r), 0);
    CHECK(r.bad);

    r = (struct dbx_reader){.p = buf.data, .left = 3};
    CHECK_EQ(dbx_rd_u32(&r), 0);
    CHECK(r.bad);
    CHECK_EQ(dbx_rd_u8(&r), 0); /* stays bad */
    CHECK(dbx_rd_bytes(&r, 0) == NULL);
}

int main(void)
{
    test_append();
    test_growth();
    test_wire();
    return check_result();
}
