/* SPDX-License-Identifier: Apache-2.0 */
/* Routes: a table of method and pattern. "{}" in a pattern stands for one path component. Pure. */
#pragma once

#include "common/base/def.h"

struct gw_req;

enum gw_auth { GW_AUTH_NONE, GW_AUTH_KEY };
#define GW_ROUTE_PARAM 64 /* the longest component that "{}" takes, with NUL */

struct gw_route {
    const char *method, *pattern;
    void (*handler)(struct gw_req *rq);
    enum gw_auth auth;
    size_t max_body;
};

/* The route, with what stood for "{}" in param ("" when there was none). NULL: *ret_known says
 * whether the path has other methods; allow (of allow_size) then lists them, as the header wants
 * it. HEAD counts as GET. */
const struct gw_route *gw_route_find(const struct gw_route *table, size_t n, const char *method,
                                     const char *path, char param[static GW_ROUTE_PARAM],
                                     bool *ret_known, char *allow, size_t allow_size);
