/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/base/err.h"

struct gw;
struct gw_config;
struct dbx_loop;

/* Everything that must be right at start is checked here; what is merely away (database, scheduler,
 * log) is tried again until it is there. unpacker: of unpack.h, the caller's. */
int gw_server_start(const struct gw_config *cfg, struct dbx_loop *loop, int unpacker,
                    struct gw **ret, struct dbx_err *err) DBX_MUST_USE;
/* SIGTERM: takes nothing new, tells viewers to reconnect, lets requests finish, then stops the loop
 * with 0. */
void gw_server_drain(struct gw *gw);
/* To be called whenever a request or a session has gone: ends a drain when it was the last. */
void gw_server_check_drained(struct gw *gw);
struct gw *gw_server_free(struct gw *gw);

/* Whether requests can be served; why (or NULL) gets a word for the first thing that is away. */
bool gw_server_ready(const struct gw *gw, const char **ret_why);
