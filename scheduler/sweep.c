/* SPDX-License-Identifier: Apache-2.0 */
/* What nobody asks for any more goes out of the database: a page of each kind at a time, so that no
 * statement takes long; the rest waits for the next time. */
#include <inttypes.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/ext/pg.h"
#include "scheduler/sched.h"

static void on_swept(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    (void)res;
    if (err)
        dbx_log(DBX_LOG_WARN, NULL, "removing old rows (%s), trying again: %s", (const char *)user,
                err->msg);
}

static void sweep_days(struct sched *s, const char *stmt, uint64_t days)
{
    char text[24];
    const struct dbx_pg_param param = DBX_PG_TEXT(text);

    snprintf(text, sizeof(text), "%" PRIu64, days);
    if (days > 0)
        dbx_pg_query(s->pg, stmt, &param, 1, on_swept, (void *)stmt);
}

void sched_sweep(struct sched *s)
{
    static const char *const statements[] = {"sweep_keys", "sweep_events", "sweep_logins",
                                             "sweep_recoveries", "sweep_sessions"};
    uint64_t now = dbx_now_ms();

    if (now - s->last_sweep < s->cfg->sweep_ms)
        return;
    s->last_sweep = now;
    for (size_t i = 0; i < DBX_ARRAY_LEN(statements); i++)
        dbx_pg_query(s->pg, statements[i], NULL, 0, on_swept, (void *)statements[i]);
    sweep_days(s, "sweep_guests", s->cfg->guest_days);
    sweep_days(s, "sweep_audit", s->cfg->audit_days);
    sweep_days(s, "sweep_outputs", s->cfg->output_days);
    sched_garbage(s);
}
