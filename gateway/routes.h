/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "gateway/router.h"

/* A route with this asks for the limit of uploads instead of that of other bodies. */
#define GW_UPLOAD_BODY SIZE_MAX

extern const struct gw_route gw_routes[];
extern const size_t gw_routes_len;

/* GET /api/stream/{sandbox_id} is no route: it is a WebSocket (session.h). */
#define GW_STREAM_PREFIX "/api/stream/"
