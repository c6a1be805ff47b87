/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/archive.h"

#include <string.h>

#include "tests/unit/check.h"

static struct dbx_buf make(enum gw_archive_kind kind, size_t max, int *ret)
{
    static const struct gw_archive_entry entries[] = {
        {.path = "d", .folder = true, .mtime = 1700000000},
        {.path = "d/a", .mtime = 1700000000, .data = (const uint8_t *)"#!x", .len = 3}};
    struct dbx_buf out;
    struct gw_archive a;
    dbx_buf_init(&out, max);
    gw_archive_init(&a, kind, &out);
    *ret = 0;
    for (size_t i = 0; *ret == 0 && i < 2; i++)
        *ret = gw_archive_add(&a, &entries[i]);
    if (*ret == 0)
        *ret = gw_archive_end(&a);
    gw_archive_done(&a);
    return out;
}

int main(void)
{
    int r;
    struct dbx_buf zip = make(GW_ARCHIVE_ZIP, 4096, &r);
    CHECK_EQ(r, 0);
    CHECK(memcmp(zip.data, "PK\3\4", 4) == 0 && memmem(zip.data, zip.len, "d/a#!x", 6));
    dbx_buf_done(&zip);
    struct dbx_buf tar = make(GW_ARCHIVE_TAR, 8192, &r);
    CHECK_EQ(r, 0);
    CHECK_EQ(tar.len, 5 * 512); /* two headers, one block, two of zeros */
    CHECK(memcmp(tar.data + 257, "ustar", 6) == 0 && memcmp(tar.data + 1024, "#!x", 3) == 0);
    dbx_buf_done(&tar);
    for (size_t max = 1; max < 250; max += 7) {
        struct dbx_buf small = make(GW_ARCHIVE_ZIP, max, &r);
        CHECK(r < 0 || small.len <= max);
        dbx_buf_done(&small);
    }
    return check_result();
}
