/* SPDX-License-Identifier: Apache-2.0 */
/* The workspace's multiplexed socket: /api/workspaces/{id}/socket (docs/protocols.md). One
 * connection carries channels that the client opens: the tree's events, searches, the streams of
 * sandboxes. */
#pragma once

#include "common/io/httpd.h"

struct gw;
struct gw_req;
struct gw_rooms;

#define GW_SOCKET_MAGIC 0x53574753u

/* Takes over a request that asks for the upgrade: answers, now or later. */
void gw_socket_upgrade(struct gw_req *rq);
/* The same without an upgrade: 426. */
void gw_socket_get(struct gw_req *rq);
void gw_socket_opened(struct dbx_ws *ws, void *ws_user);
void gw_sockets_close(struct gw *gw); /* all, with 1001 "reconnect" */
/* Something may have been taken away from somebody: asks for all their roles again. */
void gw_sockets_check(struct gw *gw);
/* POST /api/workspaces/{id}/token */
void gw_socket_token(struct gw_req *rq);

/* Who watches which workspace here, and the events that wake them (socket_rooms.c). */
struct gw_rooms *gw_rooms_new(struct gw *gw);
struct gw_rooms *gw_rooms_free(struct gw_rooms *rooms); /* no socket is left */
