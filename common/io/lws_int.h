/* SPDX-License-Identifier: Apache-2.0 */
/* The one libwebsockets context of a loop, made at first use, taken down with the loop. */
#pragma once

#include "common/base/err.h"

struct dbx_loop;
struct lws_context;
struct lws_vhost;

#define DBX_LWS_CLIENT_PROTOCOL "client"

struct lws_context *dbx_lws_context(struct dbx_loop *loop);
struct lws_vhost *dbx_lws_vhost(struct dbx_loop *loop); /* serves, and connects without TLS */
/* Connects with TLS and trusts ca_file only, or the system's authorities when it is NULL. */
int dbx_lws_tls_vhost(struct dbx_loop *loop, const char *ca_file, struct lws_vhost **ret,
                      struct dbx_err *err) DBX_MUST_USE;
/* lws looks at its timers only after one of its descriptors had an event; whoever arms one from
 * outside says so. */
void dbx_lws_kick(struct dbx_loop *loop);
/* True while the loop takes the context down. */
bool dbx_lws_ending(struct dbx_loop *loop);

/* What adopted and connected sockets call; in ws.c. */
struct lws;
int dbx_ws__callback(struct lws *wsi, unsigned reason, void *in, size_t len);
