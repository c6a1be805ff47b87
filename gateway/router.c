/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/router.h"

#include <stdio.h>
#include <string.h>

#include "common/base/str.h"

/* Takes one component into out; NULL when it does not fit or is empty. */
static const char *component(const char *path, char *out, size_t size)
{
    size_t len = strcspn(path, "/");
    if (len == 0 || len >= size)
        return NULL;
    memcpy(out, path, len);
    out[len] = '\0';
    return path + len;
}

static bool match(const char *pattern, const char *path, struct gw_route_params *params)
{
    bool one = false;
    params->first[0] = params->second[0] = '\0';
    while (*pattern) {
        if (pattern[0] == '{' && pattern[1] == '}') {
            path = one ? component(path, params->second, sizeof(params->second))
                       : component(path, params->first, sizeof(params->first));
            if (!path)
                return false;
            one = true;
            pattern += 2;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return !*path;
}

const struct gw_route *gw_route_find(const struct gw_route *table, size_t n, const char *method,
                                     const char *path, struct gw_route_params *params,
                                     bool *ret_known, char *allow, size_t allow_size)
{
    const char *wanted = dbx_streq(method, "HEAD") ? "GET" : method;
    size_t used = 0;
    *ret_known = false;
    for (size_t i = 0; i < n; i++) {
        if (!match(table[i].pattern, path, params))
            continue;
        if (dbx_streq(table[i].method, wanted))
            return &table[i];
        *ret_known = true;
        int len =
            snprintf(allow + used, allow_size - used, "%s%s", used ? ", " : "", table[i].method);
        if (len > 0 && (size_t)len < allow_size - used)
            used += (size_t)len;
    }
    params->first[0] = params->second[0] = '\0';
    return NULL;
}
