/* SPDX-License-Identifier: Apache-2.0 */
/* Login at an OpenID Connect provider: authorization code with PKCE, state and nonce. The login on
 * its way stands in the database, so any gateway takes the answer; it is bound to the browser by a
 * cookie, and good for one answer within ten minutes. */
#pragma once

#include "common/base/err.h"

struct gw;
struct gw_oidc;
struct gw_req;
struct dbx_json;

int gw_oidc_new(struct gw *gw, struct gw_oidc **ret, struct dbx_err *err) DBX_MUST_USE;
struct gw_oidc *gw_oidc_free(struct gw_oidc *oi);

void gw_oidc_login(struct gw_req *rq);    /* GET /api/auth/oidc/login?return_to=/path */
void gw_oidc_callback(struct gw_req *rq); /* GET /api/auth/oidc/callback?code=&state= */
