/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/router.h"
#include "gateway/routes.h"
#include "tests/unit/check.h"

static const struct {
    const char *method, *path, *pattern, *param, *allow;
} cases[] = {
    {"GET", "/", "/", "", NULL},
    {"POST", "/api/executions", "/api/executions", "", NULL},
    {"GET", "/api/executions/abc", "/api/executions/{}", "abc", NULL},
    {"HEAD", "/api/executions/abc", "/api/executions/{}", "abc", NULL},
    {"GET", "/api/executions/abc/output", "/api/executions/{}/output", "abc", NULL},
    {"GET", "/api/processes/x/output", "/api/processes/{}/output", "x", NULL},
    {"PUT", "/api/executions", NULL, "", "POST, GET"},
    {"POST", "/api/executions/abc", NULL, "", "GET, DELETE"},
    {"DELETE", "/healthz", NULL, "", "GET"},
    {"GET", "/api/executions/", NULL, "", NULL},
    {"GET", "/api/executions/a/b", NULL, "", NULL},
    {"GET", "/api/executions/a/output/", NULL, "", NULL},
    {"GET", "/api/executions//output", NULL, "", NULL},
    {"GET", "/API/executions", NULL, "", NULL},
    {"GET", "", NULL, "", NULL},
    {"GET",
     "/api/executions/"
     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
     NULL, "", NULL},
};

int main(void)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(cases); i++) {
        struct gw_route_params params;
        char allow[64] = "";
        bool known;
        const struct gw_route *r =
            gw_route_find(gw_routes, gw_routes_len, cases[i].method, cases[i].path, &params, &known,
                          allow, sizeof(allow));
        CHECK_EQ(r != NULL, cases[i].pattern != NULL);
        CHECK_STR(r ? r->pattern : "", cases[i].pattern ? cases[i].pattern : "");
        CHECK_STR(params.first, cases[i].param);
        if (!r) {
            CHECK_EQ(known, cases[i].allow != NULL);
            CHECK_STR(allow, cases[i].allow ? cases[i].allow : "");
        }
    }
    struct gw_route_params params;
    char allow[64];
    bool known;
    const struct gw_route *r =
        gw_route_find(gw_routes, gw_routes_len, "PUT", "/api/workspaces/w/members/a%40b.c", &params,
                      &known, allow, sizeof(allow));
    CHECK(r != NULL);
    CHECK_STR(params.first, "w");
    CHECK_STR(params.second, "a%40b.c");
    return check_result();
}
