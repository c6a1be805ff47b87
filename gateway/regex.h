/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns of search (PCRE2) and of file names. Bounded whatever the pattern: a line that would
 * take more than a fixed number of steps counts as one that could not be searched. */
#pragma once

#include "common/base/err.h"

struct gw_regex;

struct gw_regex_opts {
    bool literal, ignore_case, whole_word;
};

/* -EINVAL: err says what is wrong with the pattern, and where. */
int gw_regex_new(const char *pattern, const struct gw_regex_opts *opts, struct gw_regex **ret,
                 struct dbx_err *err) DBX_MUST_USE;
struct gw_regex *gw_regex_free(struct gw_regex *re);
/* The first match in text from `at` on, an empty one not counted: 1, 0: none, -E2BIG: the limit. */
int gw_regex_find(struct gw_regex *re, const char *text, size_t len, size_t at, size_t *ret_from,
                  size_t *ret_to);

/* Whether a path fits a glob: "*" and "?" within a component, "**" across them, "[...]" is not
 * special. Without a "/" it may be any component of the path, else it begins at the root; what fits
 * a folder fits all in it. Time: at most length times length. */
bool gw_glob_match(const char *glob, const char *path);
