/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what archiver.c has kept of a sandbox: entries of the output log, as they were, between two
 * offsets of its partition; each process in order. */
#pragma once

#include "common/base/buf.h"
#include "common/ext/pg.h"
#include "common/proto/output_log.h"
#include "common/proto/record.h"

struct gw;
struct gw_archived;

struct gw_archived_handlers {
    /* Whether anything of the process is wanted. */
    bool (*wants)(const struct dbx_id *process, void *user);
    /* As gw_follow_handlers'; e->next means nothing. */
    bool (*on_record)(const struct dbx_record *r, const struct dbx_olog_entry *e, void *user);
    /* Once: all that is kept was given, or it cannot be read now. */
    void (*on_done)(const struct dbx_err *err, void *user);
};

/* Offsets in [from, to). Never calls back before it returned. May be freed in its own callbacks. */
struct gw_archived *gw_archived_new(struct gw *gw, const struct dbx_id *sandbox, int64_t from,
                                    int64_t to, const struct gw_archived_handlers *h, void *user);
struct gw_archived *gw_archived_free(struct gw_archived *a);
void gw_archived_resume(struct gw_archived *a); /* harmless when it is not held back */

/* A piece is a sequence of entries: offset u64, length u32 (little-endian), value. */
#define GW_ARCHIVED_HEAD 12
int gw_archived_put(struct dbx_buf *piece, const struct dbx_olog_entry *e) DBX_MUST_USE;
/* The next one of a piece; false: there is none, or (r->bad) it is none of ours. */
bool gw_archived_next(struct dbx_reader *r, struct dbx_olog_entry *ret);

extern const struct dbx_pg_stmt gw_archived_sql[];
extern const size_t gw_archived_sql_len;
