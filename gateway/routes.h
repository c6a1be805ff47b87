/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "gateway/router.h"

extern const struct gw_route gw_routes[];
extern const size_t gw_routes_len;

/* GET /api/stream/{sandbox_id} is no route: it is a WebSocket (session.h). */
#define GW_STREAM_PREFIX "/api/stream/"
