/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/regex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MAX_STEPS 50000
#define MAX_DEPTH 2000
#define MAX_HEAP_KIB 4096

struct gw_regex {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *limits;
};

struct gw_regex *gw_regex_free(struct gw_regex *re)
{
    if (!re)
        return NULL;
    pcre2_match_context_free(re->limits);
    pcre2_match_data_free(re->data);
    pcre2_code_free(re->code);
    free(re);
    return NULL;
}

int gw_regex_new(const char *pattern, const struct gw_regex_opts *opts, struct gw_regex **ret,
                 struct dbx_err *err)
{
    uint32_t flags = PCRE2_UTF | PCRE2_MATCH_INVALID_UTF |
                     (opts->literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C) |
                     (opts->ignore_case ? PCRE2_CASELESS : 0);
    pcre2_compile_context *cc = pcre2_compile_context_create(NULL);
    PCRE2_SIZE at = 0;
    int code = 0;
    if (opts->whole_word)
        pcre2_set_compile_extra_options(cc, PCRE2_EXTRA_MATCH_WORD);
    pcre2_set_parens_nest_limit(cc, 50);
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, flags, &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (!compiled) {
        char why[160];
        if (pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof(why)) < 0)
            why[0] = '\0';
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "%s (at %zu)", why, (size_t)at);
    }
    struct gw_regex *re = DBX_NEW(struct gw_regex);
    re->code = compiled;
    re->data = pcre2_match_data_create(1, NULL);
    re->limits = pcre2_match_context_create(NULL);
    pcre2_set_match_limit(re->limits, MAX_STEPS);
    pcre2_set_depth_limit(re->limits, MAX_DEPTH);
    pcre2_set_heap_limit(re->limits, MAX_HEAP_KIB);
    *ret = re;
    return 0;
}

int gw_regex_find(struct gw_regex *re, const char *text, size_t len, size_t at, size_t *ret_from,
                  size_t *ret_to)
{
    int r = pcre2_match(re->code, (PCRE2_SPTR)text, len, at, PCRE2_NOTEMPTY, re->data, re->limits);
    if (r == PCRE2_ERROR_NOMATCH)
        return 0;
    if (r < 0)
        return -E2BIG;
    const PCRE2_SIZE *place = pcre2_get_ovector_pointer(re->data);
    *ret_from = place[0];
    *ret_to = place[1];
    return place[1] > place[0] && place[0] >= at ? 1 : 0; /* \K can say otherwise */
}

/* Two places to go back to: the last "*" (within a component) and the last "**". */
static bool fits(const char *g, const char *p)
{
    const char *star = NULL, *star_p = NULL, *deep = NULL, *deep_p = NULL;
    for (;;) {
        if (g[0] == '*' && g[1] == '*') {
            g += 2;
            if (*g == '/')
                g++; /* also no component at all */
            deep = g;
            deep_p = p;
            star = NULL;
        } else if (*g == '*') {
            star = ++g;
            star_p = p;
        } else if (*g && (*g == *p || (*g == '?' && *p && *p != '/'))) {
            g++;
            p++;
        } else if ((!*g && !*p) || (!*g && *p == '/')) {
            return true;
        } else if (star && *star_p && *star_p != '/') {
            p = ++star_p;
            g = star;
        } else if (deep && *deep_p) {
            p = ++deep_p;
            g = deep;
            star = NULL;
        } else {
            return false;
        }
    }
}

bool gw_glob_match(const char *glob, const char *path)
{
    if (strchr(glob, '/'))
        return fits(glob + (*glob == '/'), path);
    for (const char *p = path; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
        if (fits(glob, p))
            return true;
    return false;
}
