/* SPDX-License-Identifier: Apache-2.0 */
/* TLS in front of the server: ends it, and hands the clear text on through a socketpair, so that
 * neither the HTTP nor the WebSocket code knows of it. */
#pragma once

#include "common/base/err.h"
#include "common/io/listen_int.h"

struct dbx_loop;
struct dbx_tls_front;

/* fn gets the clear end once the handshake is done. A client that takes none of its answer for
 * stall_ms is cut off. */
int dbx_tls_front_new(struct dbx_loop *loop, const char *cert, const char *key, uint64_t stall_ms,
                      dbx_accept_fn *fn, void *user, struct dbx_tls_front **ret,
                      struct dbx_err *err) DBX_MUST_USE;
void dbx_tls_front_take(struct dbx_tls_front *front, int fd,
                        const char *peer); /* fd becomes its own */
struct dbx_tls_front *dbx_tls_front_free(struct dbx_tls_front *front);
