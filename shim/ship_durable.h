/* SPDX-License-Identifier: Apache-2.0 */
/* What shipping leaves for the next shim, in memory that the keeper holds (keeper_durable): which
 * bytes the log has acknowledged, which records were given to it and are not acknowledged, the
 * hashes of what was given. The shim may be killed between any two instructions here; whoever loads
 * it finds a state from which the same records follow. */
#pragma once

#include "common/base/err.h"
#include "common/proto/record.h"
#include "shim/keeper_protocol.h"

struct dbx_sha256_ctx;

void shim_durable_init(struct keeper_durable *d, uint64_t next_seq);
/* Before rec is given to the log. NULL: there is no room, wait for an acknowledgement. */
struct keeper_intent *shim_durable_intend(struct keeper_durable *d, const struct dbx_record *rec);
/* The log did not take it; or it has acknowledged it, and shim_durable_acked was told. */
void shim_durable_forget(struct keeper_intent *it);
/* Numbers below next_seq are used. */
void shim_durable_given(struct keeper_durable *d, uint64_t next_seq);
/* Of stream, all that was given until now; before anything of it can be acknowledged. */
void shim_durable_hash(struct keeper_durable *d, int stream, const struct dbx_sha256_ctx *ctx);
/* Before the room in the ring is given back. */
void shim_durable_acked(struct keeper_durable *d, int stream, uint64_t upto);

struct shim_durable_state {
    uint64_t acked[2], given[2], next_seq;
    struct keeper_intent *intents[KEEPER_INTENTS]; /* into d; by seq; none is acknowledged */
    size_t n;
    struct dbx_sha256_state hash[2]; /* of the first `bytes` bytes: between acked and given */
};
/* at, head: where the rings stand. -EBADMSG: it cannot be. */
int shim_durable_load(struct keeper_durable *d, const uint64_t at[static 2],
                      const uint64_t head[static 2], struct shim_durable_state *ret,
                      struct dbx_err *err) DBX_MUST_USE;
