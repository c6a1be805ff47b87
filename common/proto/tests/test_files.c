/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/files.h"
#include "tests/unit/check.h"
#include <errno.h>

static struct dbx_file file_of(const char *path, const char *data)
{
    return (struct dbx_file){.mode = 0644,
                             .path = path,
                             .path_len = (uint16_t)strlen(path),
                             .data = (const uint8_t *)data,
                             .size = strlen(data)};
}

static void test_round_trip(void)
{
    struct dbx_buf out;
    struct dbx_file a = file_of("src/main.py", "print(1)\n"), d = file_of("empty", ""), f;
    size_t offset = 0;

    d.folder = true;
    d.mode = 0755;
    dbx_buf_init(&out, 4096);
    CHECK_EQ(dbx_files_begin(&out), 0);
    CHECK_EQ(dbx_files_check(out.data, out.len, NULL), 0);
    CHECK_EQ(dbx_files_add(&out, &a), 0);
    CHECK_EQ(dbx_files_add(&out, &d), 0);
    CHECK_EQ(dbx_files_check(out.data, out.len, NULL), 0);
    CHECK_EQ(dbx_files_next(out.data, out.len, &offset, &f), 1);
    CHECK(f.path_len == 11 && memcmp(f.path, "src/main.py", 11) == 0);
    CHECK(f.size == 9 && memcmp(f.data, "print(1)\n", 9) == 0);
    CHECK_EQ(f.mode, 0644);
    CHECK(!f.folder);
    CHECK_EQ(dbx_files_next(out.data, out.len, &offset, &f), 1);
    CHECK(f.folder && f.size == 0);
    CHECK_EQ(dbx_files_next(out.data, out.len, &offset, &f), 0);
    dbx_buf_done(&out);
}

static void test_refused(void)
{
    struct dbx_buf out;
    struct dbx_file up = file_of("../x", ""), big = file_of("x", "0123456789");
    size_t before;

    dbx_buf_init(&out, 30);
    CHECK_EQ(dbx_files_begin(&out), 0);
    before = out.len;
    CHECK_EQ(dbx_files_add(&out, &up), -EINVAL);
    CHECK_EQ(dbx_files_add(&out, &big), -E2BIG);
    CHECK_EQ(out.len, before);
    CHECK_EQ(dbx_files_check(out.data, out.len, NULL), 0);
    dbx_buf_done(&out);
}

/* Each byte of a good block is bent once; whatever comes of it, the walk stays inside and ends. */
static void test_bent(void)
{
    struct dbx_buf out;
    struct dbx_file a = file_of("a", "xy");

    dbx_buf_init(&out, 4096);
    CHECK_EQ(dbx_files_begin(&out), 0);
    CHECK_EQ(dbx_files_add(&out, &a), 0);
    for (size_t n = 0; n < out.len; n++)
        CHECK(dbx_files_check(out.data, n, NULL) < 0);
    for (size_t i = 0; i < 24; i++) {
        uint8_t was = out.data[i];
        out.data[i] ^= 0x82;
        if (i != 12) /* the low byte of the mode may be another */
            CHECK(dbx_files_check(out.data, out.len, NULL) < 0);
        out.data[i] = was;
    }
    CHECK_EQ(dbx_files_check(out.data, out.len, NULL), 0);
    dbx_buf_done(&out);
}

int main(void)
{
    test_round_trip();
    test_refused();
    test_bent();
    return check_result();
}
