/* SPDX-License-Identifier: Apache-2.0 */
/* A viewer's socket: /api/stream/{sandbox_id}?token=... */
#pragma once

#include "common/io/httpd.h"

struct gw;
struct gw_req;

/* For httpd's on_upgrade: checks token, Origin and the resume parameters; answers by itself when it
 * refuses. */
int gw_session_upgrade(struct gw_req *rq, const struct dbx_ws_handlers **ret_handlers,
                       void **ret_ws_user, const char **ret_subprotocol);
void gw_session_opened(struct dbx_ws *ws, void *ws_user);
void gw_sessions_tell_log(void *gw);   /* for dbx_olog_on_away */
void gw_sessions_close(struct gw *gw); /* all, with 1001 "reconnect" */

/* Pure: whether a page of this Origin may open a stream here. No Origin: not a browser. */
bool gw_origin_ok(const char *origin, const char *host, const char *allowed);
