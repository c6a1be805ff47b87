/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/path.h"
#include "tests/unit/check.h"

#define NUL_PATH "a\0b"

int main(void)
{
    static const char *const good[] = {"a",       "a/b/c",    ".hidden",        "...", "a b",
                                       "..a/b..", "\xc3\xa9", "a/\xe2\x82\xac", "-rf"};
    static const char *const bad[] = {"",
                                      "/",
                                      "/a",
                                      "a/",
                                      "a//b",
                                      ".",
                                      "..",
                                      "a/.",
                                      "./a",
                                      "a/../b",
                                      "a/..",
                                      "a\nb",
                                      "\xc2\x85x",
                                      "\x7f",
                                      "\xff",
                                      "a\xc0\xaf"
                                      "b",
                                      "\xed\xa0\x80"};
    char longest[1100];
    struct dbx_err err = {0};

    for (size_t i = 0; i < DBX_ARRAY_LEN(good); i++)
        CHECK_EQ(dbx_path_check(good[i], strlen(good[i]), "path", NULL), 0);
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK(dbx_path_check(bad[i], strlen(bad[i]), "path", NULL) < 0);
    CHECK(dbx_path_check(NUL_PATH, sizeof(NUL_PATH) - 1, "files[3].path", &err) < 0);
    CHECK_STR(err.field, "files[3].path");
    CHECK_EQ(err.kind, DBX_INVALID);

    memset(longest, 'a', sizeof(longest));
    CHECK_EQ(dbx_path_check(longest, 255, "path", NULL), 0);
    CHECK(dbx_path_check(longest, 256, "path", NULL) < 0);
    for (size_t i = 200; i < sizeof(longest); i += 200)
        longest[i] = '/';
    CHECK_EQ(dbx_path_check(longest, 1024, "path", NULL), 0);
    CHECK(dbx_path_check(longest, 1025, "path", NULL) < 0);
    return check_result();
}
