/* SPDX-License-Identifier: Apache-2.0 */
/* The two sides: the admin's (TCP: everything), and the sandboxes' (a Unix socket that the shim
 * connects, one connection for each of theirs: packages and nothing else). */
#pragma once

#include "registry-cache/rc.h"

int rc_server_start(struct rc *rc, struct dbx_err *err) DBX_MUST_USE;
void rc_server_stop(struct rc *rc); /* aborts what runs */
void rc_metrics_init(struct rc_metrics *m);
/* "http://" and the Host header, when that is one: a client hears nothing but its own words. */
bool rc_base_of(const char *host, char *out, size_t size);
