/* SPDX-License-Identifier: Apache-2.0 */
/* Routes: a table of method and pattern. "{}" in a pattern stands for one path component. Pure. */
#pragma once

#include "common/base/def.h"

struct gw_req;

enum gw_auth {
    GW_AUTH_NONE,
    GW_AUTH_OPTIONAL, /* who is signed in is known as such; who is not is nobody */
    /* A key or a session, else 401. What a key's scopes must hold, else 403: */
    GW_AUTH_KEY,     /* read for GET, else write */
    GW_AUTH_RUN,     /* run */
    GW_AUTH_ACCOUNT, /* account */
    GW_AUTH_ANY,     /* any of them */
};
#define GW_ROUTE_PARAM 64   /* the longest component that "{}" takes, with NUL */
#define GW_ROUTE_PARAM2 768 /* and the second one of a pattern: an escaped e-mail address */

struct gw_route {
    const char *method, *pattern;
    void (*handler)(struct gw_req *rq);
    enum gw_auth auth;
    size_t max_body;
};

struct gw_route_params {
    char first[GW_ROUTE_PARAM], second[GW_ROUTE_PARAM2]; /* "" when there is none */
};

/* The route, with what stood for each "{}" in params. NULL: *ret_known says
 * whether the path has other methods; allow (of allow_size) then lists them, as the header wants
 * it. HEAD counts as GET. */
const struct gw_route *gw_route_find(const struct gw_route *table, size_t n, const char *method,
                                     const char *path, struct gw_route_params *params,
                                     bool *ret_known, char *allow, size_t allow_size);
