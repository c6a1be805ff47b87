/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords by argon2id (libsodium). Both take tens of milliseconds and 64 MiB: never on a loop's
 * thread (dbx_loop_work). */
#pragma once

#include "common/base/def.h"

#define DBX_PASSWORD_TEXT 128 /* of a hash, with NUL */

/* -ENOMEM when there is no memory for it. */
int dbx_password_hash(const char *password, size_t len,
                      char out[static DBX_PASSWORD_TEXT]) DBX_MUST_USE;
/* hash: what dbx_password_hash wrote; anything else matches nothing. */
bool dbx_password_matches(const char *hash, const char *password, size_t len);
