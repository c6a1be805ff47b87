/* SPDX-License-Identifier: Apache-2.0 */
/* API keys. What the database said about a key is remembered for two seconds, by its hash. */
#pragma once

#include "gateway/store.h"

struct gw_auth_cache;

struct gw_auth_cache *gw_auth_new(void);
struct gw_auth_cache *gw_auth_free(struct gw_auth_cache *au);
/* Puts the user of "Authorization: Bearer KEY" into rq and calls next, perhaps at once; or answers
 * 401 or 503. */
void gw_auth_request(struct gw_req *rq, void (*next)(struct gw_req *rq));
/* Tries to make the administrator's key known; to be called until gw->admin_known. */
void gw_auth_announce_admin(struct gw *gw);

/* Pure: the key in the header's value, or NULL. */
const char *gw_bearer(const char *header);
