/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens: HMAC-SHA-256 over scoped claims, short-lived, verified without a database.
 * Text: "dbx1." base64url(payload) "." base64url(mac); the mac is over the text before its dot.
 * Payload: key id u8, kind u8, role u8, reserved u8, expiry i64 (unix seconds), subject 16 bytes,
 * user 16 bytes, label (0..64 bytes). Keys rotate: the ring's first key signs, all verify. */
#pragma once

#include "common/proto/id.h"

enum dbx_token_kind {
    DBX_TOKEN_STREAM = 1,    /* subject: sandbox id */
    DBX_TOKEN_DAEMON = 2,    /* label: "gateway", "scheduler", "node:<name>" */
    DBX_TOKEN_WORKSPACE = 3, /* subject: workspace id */
    DBX_TOKEN_LAYER = 4,     /* label: see common/proto/layer_map.h */
};
enum dbx_role { DBX_ROLE_NONE, DBX_ROLE_VIEWER, DBX_ROLE_EDITOR, DBX_ROLE_OWNER, DBX_ROLE_ADMIN };

#define DBX_TOKEN_MAX 256 /* text with NUL */

struct dbx_token {
    enum dbx_token_kind kind;
    enum dbx_role role;
    int64_t expires; /* unix seconds */
    struct dbx_id subject, user;
    char label[65];
};

struct dbx_keyring;
struct dbx_loop;
/* File: lines "<id 0-255> <64 hex digits>", # comments; the first line signs. At most 16 keys. */
int dbx_keyring_load(const char *path, struct dbx_keyring **ret, struct dbx_err *err) DBX_MUST_USE;
/* From now on the file is looked at each second, and what it says then is taken over in place; what
 * cannot be read or understood changes nothing. A key that has come first signs after 3 s, when all
 * daemons know it. on_change is told of either (err NULL: taken over).
 * The ring has to be freed before the loop. */
typedef void dbx_keyring_fn(const struct dbx_err *err, void *user);
void dbx_keyring_watch(struct dbx_keyring *ring, struct dbx_loop *loop, dbx_keyring_fn *on_change,
                       void *user);
struct dbx_keyring *dbx_keyring_free(struct dbx_keyring *ring);
int dbx_token_sign(const struct dbx_keyring *ring, const struct dbx_token *t,
                   char out[static DBX_TOKEN_MAX]) DBX_MUST_USE;
/* now: unix seconds. Wrong, foreign or malformed: -EACCES, kind DENIED; expired: -ETIME (60 s of
 * leeway). The mac is checked first, in constant time; nothing of the payload is looked at before.
 */
int dbx_token_verify(const struct dbx_keyring *ring, const char *text, enum dbx_token_kind kind,
                     int64_t now, struct dbx_token *ret, struct dbx_err *err) DBX_MUST_USE;
