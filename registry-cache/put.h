/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes put for each other: layers, as blobs, and which blobs a layer's key stands for. Admin
 * side only, with a node's token. */
#pragma once

#include "registry-cache/rc.h"

#define RC_MAX_PUT (64u << 20) /* bytes of one; the body is in memory while it comes */

/* rc_put_may answers and returns false when the caller may not; digest: 64 hex digits. */
bool rc_put_may(struct rc *rc, struct dbx_http_req *req);
void rc_put_blob(struct rc *rc, struct dbx_http_req *req, const char *digest);
/* key: 64 hex digits. The words of common/proto/layer_map.h; their seal is for nodes to judge, this
 * cache has no key for it. What was put last counts. */
void rc_put_layer(struct rc *rc, struct dbx_http_req *req, const char *key);
void rc_get_layer(struct rc *rc, struct dbx_http_req *req, const char *key);
