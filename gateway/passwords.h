/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords are hashed on threads of their own, two at a time; of those that wait there is a bound.
 */
#pragma once

#include "common/ext/password.h"

struct gw_passwords;
struct dbx_loop;

struct gw_passwords *gw_passwords_new(struct dbx_loop *loop);
/* Before the loop. What waits or runs is called back with nothing. */
struct gw_passwords *gw_passwords_free(struct gw_passwords *pw);

/* fn once, never before this has returned. hash: what was made, or NULL (out of memory). */
typedef void gw_password_fn(const char *hash, bool matches, void *arg);
/* Both copy the password. -EAGAIN: too many wait; fn is not called. */
int gw_password_hash(struct gw_passwords *pw, const char *password, gw_password_fn *fn,
                     void *arg) DBX_MUST_USE;
/* hash NULL: there is none to compare with, and it takes as long as if there were one. */
int gw_password_check(struct gw_passwords *pw, const char *hash, const char *password,
                      gw_password_fn *fn, void *arg) DBX_MUST_USE;
