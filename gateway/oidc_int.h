/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of the provider (oidc_provider.c), for those who come and go (oidc.c). */
#pragma once

#include "common/base/list.h"
#include "common/ext/json.h"
#include "common/io/http_client.h"
#include "gateway/oidc.h"

#define GW_OIDC_TIMEOUT_MS 10000

struct gw_oidc {
    struct gw *gw;
    struct dbx_http_client *http;
    char *secret; /* owned; "" for a public client */
    /* As the provider describes itself; NULL until it was asked. */
    struct dbx_json_doc *about, *keys;
    uint64_t about_ms, keys_ms;
    struct dbx_list waiting; /* struct gw_oidc_wait */
    bool asking;
};

/* err NULL: about and keys are there. */
typedef void gw_oidc_fn(const struct dbx_err *err, void *arg);
/* Asks the provider unless what is known is fresh. fresh_keys: the keys are asked for again, if
 * that was not done a moment ago. Calls back once, never before it has returned. */
void gw_oidc_know(struct gw_oidc *oi, bool fresh_keys, gw_oidc_fn *fn, void *arg);
/* After gw_oidc_know: an endpoint of the provider's description. */
const char *gw_oidc_about(const struct gw_oidc *oi, const char *name);
