/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of the blob store that nobody refers to any more (schema 009). A blob without references
 * that nobody wrote for a grace loses its row, a page of rows a turn, by digest, round and round;
 * its object, which then has a name that nobody will ever be given again, is garbage, and gateways
 * remove it a grace later (who reads it just now has that long). */
#include <inttypes.h>
#include <stdio.h>

#include "common/base/log.h"
#include "common/base/str.h"
#include "common/ext/pg.h"
#include "scheduler/sched.h"

/* A reference that came in between refuses the whole page: the next turn sees it. */
static void on_page(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct sched *s = user;
    const char *last = err ? NULL : dbx_pg_text(res, 0, "last", NULL);
    s->looking_for_garbage = false;
    if (err)
        dbx_log(DBX_LOG_WARN, NULL, "look for garbage, trying again: %s", err->msg);
    else
        (void)dbx_strcpy(s->blob_cursor, sizeof(s->blob_cursor), last ? last : "");
}

void sched_garbage(struct sched *s)
{
    char grace[24];
    if (s->looking_for_garbage)
        return;
    snprintf(grace, sizeof(grace), "%" PRIu64, s->cfg->blob_grace_ms);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(s->blob_cursor), DBX_PG_TEXT(grace)};
    s->looking_for_garbage = true;
    dbx_pg_query(s->pg, "sweep_blobs", params, DBX_ARRAY_LEN(params), on_page, s);
}
