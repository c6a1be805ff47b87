/* SPDX-License-Identifier: Apache-2.0 */
/* The lock lives as long as the session. A session whose server does not answer is given up: the
 * server may have dropped it, and the lock with it, without our hearing of it. Should two believe
 * that they lead, the epoch tells them apart. */
#include "scheduler/leader.h"

#include "common/base/clock.h"
#include "common/ext/pg.h"
#include "common/io/loop.h"
#include <stdlib.h>

#define TICK_MS 500
#define PROBE_MS 2000
#define SILENT_MS 6000

/* Any number; all schedulers of a database use it. */
#define TRY_LOCK "select pg_try_advisory_lock(7311486250361002818) as got"
#define TAKE_EPOCH "update scheduler_epoch set epoch = epoch + 1 returning epoch"

struct sched_leader {
    struct dbx_loop *loop;
    const char *conninfo; /* borrowed */
    struct sched_leader_handlers h;
    void *user;
    struct dbx_pg_session *session;
    struct dbx_timer *tick;
    bool up, busy, leads;
    uint64_t asked, answered;
};

static void open_session(struct sched_leader *ld);

static void lose(struct sched_leader *ld, const char *why)
{
    bool led = ld->leads;

    ld->leads = false;
    if (led)
        ld->h.on_lost(why, ld->user);
}

static void reopen(struct sched_leader *ld, const char *why)
{
    ld->up = ld->busy = false;
    ld->session = dbx_pg_session_free(ld->session);
    lose(ld, why);
    open_session(ld);
}

static void ask(struct sched_leader *ld, const char *sql, dbx_pg_fn *fn)
{
    ld->busy = true;
    ld->asked = dbx_now_ms();
    dbx_pg_session_exec(ld->session, sql, fn, ld);
}

static void on_epoch(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct sched_leader *ld = user;

    ld->busy = false;
    ld->answered = dbx_now_ms();
    if (err || dbx_pg_rows(res) != 1)
        return; /* the next tick tries again: the lock is ours, or the session broke */
    ld->leads = true;
    ld->h.on_lead(dbx_pg_i64(res, 0, "epoch", 0), ld->user);
}

static void on_lock(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct sched_leader *ld = user;
    const char *got = err || dbx_pg_rows(res) == 0 ? NULL : dbx_pg_text(res, 0, "got", NULL);

    ld->busy = false;
    if (got && got[0] == 't')
        ask(ld, TAKE_EPOCH, on_epoch);
}

static void on_probe(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct sched_leader *ld = user;

    (void)res;
    ld->busy = false;
    if (!err)
        ld->answered = dbx_now_ms();
}

static void on_tick(void *user)
{
    struct sched_leader *ld = user;
    uint64_t now = dbx_now_ms();

    if (!ld->up)
        return;
    if (ld->busy && now - ld->asked > SILENT_MS)
        reopen(ld, "the database does not answer");
    else if (!ld->busy && !ld->leads)
        ask(ld, TRY_LOCK, on_lock);
    else if (!ld->busy && now - ld->answered > PROBE_MS)
        ask(ld, "select 1", on_probe);
}

static void on_up(struct dbx_pg_session *session, void *user)
{
    struct sched_leader *ld = user;

    ld->session = session;
    ld->up = true;
    ld->busy = false;
    ask(ld, TRY_LOCK, on_lock);
}

static void on_down(struct dbx_pg_session *session, const struct dbx_err *err, void *user)
{
    struct sched_leader *ld = user;

    (void)session;
    ld->up = ld->busy = false;
    lose(ld, err && err->msg[0] ? err->msg : "the database session broke");
}

static const struct dbx_pg_session_handlers session_handlers = {.on_up = on_up, .on_down = on_down};

static void open_session(struct sched_leader *ld)
{
    ld->session = dbx_pg_session_new(ld->loop, ld->conninfo, &session_handlers, ld);
}

struct sched_leader *sched_leader_new(struct dbx_loop *loop, const char *conninfo,
                                      const struct sched_leader_handlers *h, void *user)
{
    struct sched_leader *ld = DBX_NEW(struct sched_leader);

    ld->loop = loop;
    ld->conninfo = conninfo;
    ld->h = *h;
    ld->user = user;
    ld->tick = dbx_timer_new(loop, on_tick, ld);
    dbx_timer_start(ld->tick, TICK_MS, TICK_MS);
    open_session(ld);
    return ld;
}

void sched_leader_resign(struct sched_leader *ld)
{
    ld->leads = false;
    reopen(ld, "resigned");
}

struct sched_leader *sched_leader_free(struct sched_leader *ld)
{
    if (!ld)
        return NULL;
    dbx_timer_free(ld->tick);
    dbx_pg_session_free(ld->session);
    free(ld);
    return NULL;
}

bool sched_leader_connected(const struct sched_leader *ld)
{
    return ld->up;
}
