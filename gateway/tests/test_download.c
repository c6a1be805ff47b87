/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/download.h"

#include <stdlib.h>

#include "common/base/str.h"
#include "tests/unit/check.h"

int main(void)
{
    static const struct {
        const char *header;
        uint64_t size;
        int r;
        uint64_t from, to;
    } ranges[] = {
        {NULL, 10, 0, 0, 0},         {"bytes=0-4", 10, 1, 0, 4},
        {"bytes=5-", 10, 1, 5, 9},   {"bytes=5-99", 10, 1, 5, 9},
        {"bytes=-3", 10, 1, 7, 9},   {"bytes=-30", 10, 1, 0, 9},
        {"bytes=-0", 10, -1, 0, 0},  {"bytes=10-", 10, -1, 0, 0},
        {"bytes=0-", 0, -1, 0, 0},   {"bytes=-1", 0, -1, 0, 0},
        {"bytes=4-2", 10, 0, 0, 0},  {"bytes=0-1,3-4", 10, 0, 0, 0},
        {"lines=0-4", 10, 0, 0, 0},  {"bytes=x-4", 10, 0, 0, 0},
        {"bytes=", 10, 0, 0, 0},     {"bytes=-", 10, 0, 0, 0},
        {"bytes= 0-1", 10, 0, 0, 0}, {"bytes=0-18446744073709551616", 10, 0, 0, 0},
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(ranges); i++) {
        uint64_t from = 0, to = 0;
        int r = gw_range_parse(ranges[i].header, ranges[i].size, &from, &to);
        CHECK_EQ(r, ranges[i].r);
        CHECK(r != 1 || (from == ranges[i].from && to == ranges[i].to));
    }
    CHECK(gw_etag_listed("\"ab\"", "ab") && gw_etag_listed("\"x\", W/\"ab\"", "ab"));
    CHECK(gw_etag_listed("*", "ab") && !gw_etag_listed("\"abc\"", "ab") &&
          !gw_etag_listed(NULL, ""));
    CHECK(!gw_etag_listed("\"", "ab"));
    static const struct {
        const char *path, *suffix, *want;
    } names[] = {
        {"a/b.txt", "", "attachment; filename=\"b.txt\"; filename*=UTF-8''b.txt"},
        {"ü \"\r\n;", ".zip",
         "attachment; filename=\"_______.zip\"; filename*=UTF-8''%C3%BC%20%22%0D%0A%3B.zip"},
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(names); i++) {
        char *got = gw_disposition(names[i].path, names[i].suffix);
        CHECK_STR(got, names[i].want);
        free(got);
    }
    return check_result();
}
