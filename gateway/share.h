/* SPDX-License-Identifier: Apache-2.0 */
/* What one record became for one viewer, kept for the next who stands where he stood: messages are
 * made once for all who watch a sandbox, and their bytes are shared between the sockets' queues.
 *
 * A memory of the last few, bounded over the whole gateway; who does not find his makes it anew, so
 * it never decides what is shown. A key is (process, offset in the log), and in JSON a viewer's
 * state besides, for that is all that his messages depend on. */
#pragma once

#include "common/io/ws.h"
#include "gateway/stream_json.h"

#define GW_SHARES_MAX (4u << 20) /* bytes of messages and of what holds them */

struct gw_shares;
struct gw_audience; /* those who watch one sandbox here */

struct gw_shares *gw_shares_new(size_t max);
struct gw_shares *gw_shares_free(struct gw_shares *s); /* every audience has been left */
size_t gw_shares_bytes(const struct gw_shares *s);

struct gw_audience *gw_audience_join(struct gw_shares *s, const struct dbx_id *sandbox);
struct gw_audience *gw_audience_leave(struct gw_audience *a); /* NULL-tolerant */
bool gw_audience_is_one(const struct gw_audience *a);         /* sharing would be for nobody */

/* The messages of one record. The frames belong to it. */
struct gw_shared_message {
    struct dbx_ws_frame *frame;
    size_t bytes; /* of output in it */
};
struct gw_shared {
    const struct gw_shared_message *messages;
    size_t n;
    struct gw_text after; /* JSON: where a viewer then stands */
};
/* Valid until the next _keep or _leave. before: NULL for the binary protocol. */
const struct gw_shared *gw_shares_find(struct gw_shares *s, const struct dbx_id *process,
                                       int64_t offset, const struct gw_text *before);

/* Collects while a record is shown for the first time, and keeps it. */
struct gw_sharing {
    struct gw_text before;
    struct gw_shared_message *messages;
    size_t n;
};
/* Takes over the reference. */
void gw_sharing_add(struct gw_sharing *sh, struct dbx_ws_frame *frame, size_t bytes);
/* after: NULL for the binary protocol. Empties sh. */
void gw_shares_keep(struct gw_shares *s, const struct dbx_id *process, int64_t offset,
                    struct gw_sharing *sh, const struct gw_text *after);
