/* SPDX-License-Identifier: Apache-2.0 */
/* Removes objects of the blob store that the scheduler found nobody to refer to (schema 009), when
 * they are due. Removing one twice changes nothing, so nothing is kept here: who dies in between is
 * followed by any other. */
#pragma once

#include "common/ext/pg.h"

struct gw;
struct gw_garbage;

struct gw_garbage *gw_garbage_new(struct gw *gw);
struct gw_garbage *gw_garbage_free(struct gw_garbage *g); /* before the blob store and the store */

extern const struct dbx_pg_stmt gw_garbage_sql[];
extern const size_t gw_garbage_sql_len;
