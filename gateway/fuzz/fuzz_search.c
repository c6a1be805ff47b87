/* SPDX-License-Identifier: Apache-2.0 */
/* How to search, in the first byte; a line with the pattern; the text. The pattern is a glob too.
 */
#include "gateway/regex.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size > 1 ? memchr(data + 1, '\n', size - 1) : NULL;
    if (!end)
        return 0;
    const struct gw_regex_opts opts = {
        .literal = data[0] & 1, .ignore_case = data[0] & 2, .whole_word = data[0] & 4};
    char *pattern = dbx_strndup((const char *)data + 1, (size_t)(end - data - 1));
    char *text = dbx_strndup((const char *)end + 1, size - (size_t)(end + 1 - data));
    struct gw_regex *re = NULL;
    size_t at = 0, from, len = strlen(text);
    if (gw_regex_new(pattern, &opts, &re, NULL) == 0)
        while (gw_regex_find(re, text, len, at, &from, &at) == 1)
            dbx_assert(from < at && at <= len);
    gw_regex_free(re);
    (void)gw_glob_match(pattern, text);
    free(pattern);
    free(text);
    return 0;
}
