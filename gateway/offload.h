/* SPDX-License-Identifier: Apache-2.0 */
/* Moves contents that are too large for a row into the blob store: what programs wrote (their
 * nodes and the scheduler know no blob store), and what stood there before there was one. Object
 * first, then the row by its etag: who dies in between is followed by any other gateway, and two
 * at the same file change nothing twice. */
#pragma once

#include "common/ext/pg.h"

struct gw;
struct gw_offload;

struct gw_offload *gw_offload_new(struct gw *gw);
struct gw_offload *gw_offload_free(struct gw_offload *o); /* before the blob store and the store */

extern const struct dbx_pg_stmt gw_offload_sql[];
extern const size_t gw_offload_sql_len;
