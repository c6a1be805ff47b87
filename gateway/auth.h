/* SPDX-License-Identifier: Apache-2.0 */
/* Who calls: an API key, or a session's cookie with its CSRF header. What the database said about
 * either is remembered for two seconds, by its hash. */
#pragma once

#include "gateway/store.h"

/* The session's cookie. Its plain twin is set where there is no TLS (on loopback): Chromium sends
 * Secure cookies there, Python's and other clients do not. */
#define GW_COOKIE_HOST "__Host-devbox"
#define GW_COOKIE_PLAIN "devbox"

struct gw_auth_cache;

struct gw_auth_cache *gw_auth_new(void);
struct gw_auth_cache *gw_auth_free(struct gw_auth_cache *au);
/* Puts the user of "Authorization: Bearer KEY", or of the session, into rq and calls next, perhaps
 * at once; or answers 401, 403 (no CSRF header, or not with these scopes) or 503. On a route that
 * is GW_AUTH_OPTIONAL next is called whoever it is. */
void gw_auth_request(struct gw_req *rq, void (*next)(struct gw_req *rq));
/* What a stream or a socket may that the caller opens, who is `role` to it: a key that is not good
 * for running only looks. */
enum dbx_role gw_auth_live_role(const struct gw_user *user, enum dbx_role role);
/* All that is remembered: something was revoked. */
void gw_auth_forget(struct gw_auth_cache *au);
/* Whether browsers reach us by TLS. */
bool gw_auth_secure(const struct gw *gw);
/* Whether the request comes from a page of ours, or from no page. */
bool gw_auth_own_origin(struct gw_req *rq);
/* Tries to make the administrator's key known; to be called until gw->admin_known. */
void gw_auth_announce_admin(struct gw *gw);

/* Pure: the key in the header's value, or NULL. */
const char *gw_bearer(const char *header);
