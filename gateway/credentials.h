/* SPDX-License-Identifier: Apache-2.0 */
/* What callers identify themselves with, as text: cookies, scopes, e-mail addresses, secrets. Pure
 * (but for the random bytes of a new secret). */
#pragma once

#include "common/base/def.h"
#include "common/ext/crypto.h"

/* --- scopes of a key --- */
enum gw_scope {
    GW_SCOPE_READ = 1,    /* GET */
    GW_SCOPE_WRITE = 2,   /* workspaces, files, members, links */
    GW_SCOPE_RUN = 4,     /* executions, processes, sandboxes */
    GW_SCOPE_ACCOUNT = 8, /* the account itself: keys, sessions, password */
    GW_SCOPE_ADMIN = 16,  /* what an administrator may, if the user is one */
    GW_SCOPE_ALL = 31,
};
#define GW_SCOPES_TEXT 40 /* all names with spaces between, with NUL */
/* Names with single spaces between, each at most once; -EINVAL for anything else. "" is none. */
int gw_scopes_parse(const char *text, uint32_t *ret) DBX_MUST_USE;
void gw_scopes_text(uint32_t scopes, char out[static GW_SCOPES_TEXT]);
uint32_t gw_scope_named(const char *name); /* 0: no such */

/* --- e-mail addresses: names here; nothing is ever sent to them --- */
#define GW_EMAIL_TEXT 255 /* with NUL */
/* Lower case (ASCII), one @, no space, control character, quote or comment; -EINVAL. */
int gw_email_normalize(const char *text, char out[static GW_EMAIL_TEXT]) DBX_MUST_USE;
/* The same from a path component: percent-escapes are decoded first. */
int gw_email_of_path(const char *text, char out[static GW_EMAIL_TEXT]) DBX_MUST_USE;

/* --- secrets: 32 random bytes as base64url --- */
#define GW_SECRET_LEN 43
#define GW_SECRET_TEXT (GW_SECRET_LEN + 1)
#define GW_KEY_PREFIX "dbx_"
#define GW_CSRF_TEXT 33
void gw_secret_new(char out[static GW_SECRET_TEXT]);
/* What stands in the database for a secret; use keeps those of one kind from passing as another. */
void gw_secret_hash(const char *use, const char *secret, uint8_t out[static DBX_SHA256_LEN]);
/* The CSRF token that goes with a session's secret. */
void gw_csrf_token(const char *secret, char out[static GW_CSRF_TEXT]);
bool gw_csrf_matches(const char *secret, const char *given); /* in constant time */

/* The value of a cookie, if it looks like a secret: false when there is none of that name. Of
 * several the first counts. */
bool gw_cookie_secret(const char *header, const char *name, char out[static GW_SECRET_TEXT]);
/* Where a login may send a browser: a path of this site, else "/". */
const char *gw_return_to(const char *given);
