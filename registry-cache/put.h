/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs that daemons put: layers, for other nodes. Admin side only, with a daemon's token. */
#pragma once

#include "registry-cache/rc.h"

#define RC_MAX_PUT (64u << 20) /* bytes of one; the body is in memory while it comes */

/* rc_put_may answers and returns false when the caller may not; digest: 64 hex digits. */
bool rc_put_may(struct rc *rc, struct dbx_http_req *req);
void rc_put_blob(struct rc *rc, struct dbx_http_req *req, const char *digest);
