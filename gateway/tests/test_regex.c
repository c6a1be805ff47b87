/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/regex.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/check.h"

static int find(const char *pattern, struct gw_regex_opts opts, const char *text)
{
    struct gw_regex *re = NULL;
    struct dbx_err err = {0};
    size_t from = 0, to = 0;
    if (gw_regex_new(pattern, &opts, &re, &err) < 0)
        return -EINVAL;
    int r = gw_regex_find(re, text, strlen(text), 0, &from, &to);
    gw_regex_free(re);
    return r == 1 ? (int)(from * 100 + to) : (r == 0 ? -1 : r);
}

int main(void)
{
    const struct gw_regex_opts regex = {0}, literal = {.literal = true};
    CHECK_EQ(find("b+", regex, "abbc"), 103);
    CHECK_EQ(find("a.c", literal, "abc a.c"), 407);
    CHECK_EQ(find("A", regex, "ba"), -1);
    CHECK_EQ(find("A", (struct gw_regex_opts){.ignore_case = true}, "ba"), 102);
    CHECK_EQ(find("in", (struct gw_regex_opts){.literal = true, .whole_word = true}, "inner in"),
             608);
    CHECK_EQ(find("x*", regex, "abc"), -1); /* empty matches are none */
    CHECK_EQ(find("ä", literal, "\xff\xc3\xa4"), 103);
    CHECK_EQ(find("(", regex, ""), -EINVAL);
    CHECK_EQ(find("(a+)+$", regex, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"),
             -E2BIG);
    CHECK_EQ(find("((((((((((a{1,99}){1,99}){1,99}))))))))", regex, "b"), -EINVAL); /* too large */
    static const struct {
        const char *glob, *path;
        bool fits;
    } globs[] = {
        {"*.py", "a.py", true},
        {"*.py", "d/e/a.py", true},
        {"*.py", "a.pyc", false},
        {"src/*.py", "src/a.py", true},
        {"src/*.py", "src/d/a.py", false},
        {"src/**", "src/d/a.py", true},
        {"**/a.py", "a.py", true},
        {"**/d/*.py", "x/y/d/a.py", true},
        {"node_modules", "x/node_modules/y/z", true},
        {"src", "src2/a", false},
        {"a?c", "abc", true},
        {"a?c", "a/c", false},
        {"/a", "a/b", true},
        {"*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(globs); i++)
        CHECK(gw_glob_match(globs[i].glob, globs[i].path) == globs[i].fits);
    return check_result();
}
