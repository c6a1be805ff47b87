/* SPDX-License-Identifier: Apache-2.0 */
/* A listening socket of its own (TCP, Unix, inherited), and an accept loop that survives running
 * out of descriptors. */
#pragma once

#include "common/base/err.h"

struct dbx_loop;
struct dbx_listener;

/* fd is the callee's (non-blocking, close-on-exec); peer: its address in words. */
typedef void dbx_accept_fn(int fd, const char *peer, void *user);

int dbx_listener_new(struct dbx_loop *loop, const char *spec, dbx_accept_fn *fn, void *user,
                     struct dbx_listener **ret, struct dbx_err *err) DBX_MUST_USE;
uint16_t dbx_listener_port(const struct dbx_listener *ls); /* 0 unless TCP */
struct dbx_listener *dbx_listener_free(struct dbx_listener *ls);

/* "host:port" or "[v6]:port", numeric; port 0..65535. */
struct sockaddr_storage;
int dbx_addr_parse(const char *spec, struct sockaddr_storage *ret, unsigned *ret_len,
                   struct dbx_err *err) DBX_MUST_USE;
