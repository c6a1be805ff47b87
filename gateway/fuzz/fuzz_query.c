/* SPDX-License-Identifier: Apache-2.0 */
/* What comes in a URL and in headers: paths, resume parameters, origins, keys, trace contexts. */
#include <stdlib.h>

#include "gateway/auth.h"
#include "gateway/routes.h"
#include "gateway/session.h"
#include "gateway/stream_id.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = dbx_strndup((const char *)data, size);
    struct gw_route_params params;
    char allow[32], id[65], trace[GW_TRACE_TEXT];
    struct dbx_id process;
    bool known;
    (void)gw_route_find(gw_routes, gw_routes_len, "PUT", text, &params, &known, allow,
                        sizeof(allow));
    (void)!gw_resume_parse(text, size & 1, &process);
    (void)gw_origin_ok(text, "localhost:7000", text);
    (void)gw_bearer(text);
    gw_request_id(text, id);
    gw_traceparent(text, trace);
    free(text);
    return 0;
}
