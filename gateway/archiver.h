/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps what ended processes wrote beyond the output log's retention: each gateway takes some that
 * have just ended, for archive_lease_ms that each piece renews, reads them from the log, and writes
 * their entries in pieces (process_outputs, schema 011; large ones into the blob store, by
 * conditional put). All of it counts with the statement that marks the process; who dies or is too
 * late leaves it to the next, under another number. So it happens once, and what is away costs time
 * only.
 *
 * It is the gateways' work and not the shims': nodes run foreign code, and so hold no keys of the
 * database and the store. */
#pragma once

#include "common/ext/pg.h"

struct gw;
struct gw_archiver;

struct gw_archiver *gw_archiver_new(struct gw *gw);
struct gw_archiver *gw_archiver_free(struct gw_archiver *ar); /* before gw->store, gw->blobs */

extern const struct dbx_pg_stmt gw_archiver_sql[];
extern const size_t gw_archiver_sql_len;
