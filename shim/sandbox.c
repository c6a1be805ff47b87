/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/sandbox_int.h"

#include "bundles/bundles.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "common/proto/files.h"
#include "shim/init_client.h"
#include "shim/keeper_client.h"
#include "shim/ledger.h"
#include "shim/record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the states ---- */

#define BIT(st) (1u << SHIM_SB_##st)

static const struct {
    const char *name;
    uint32_t next; /* states that may follow */
} states[SHIM_SB_STATES] = {
    [SHIM_SB_PROVISIONING] = {"provisioning", BIT(WARM) | BIT(TERMINATING)},
    [SHIM_SB_WARM] = {"warm", BIT(ASSIGNED) | BIT(TERMINATING)},
    [SHIM_SB_ASSIGNED] = {"assigned", BIT(RUNNING) | BIT(TERMINATING)},
    [SHIM_SB_RUNNING] = {"running", BIT(IDLE) | BIT(TERMINATING)},
    [SHIM_SB_IDLE] = {"idle", BIT(RUNNING) | BIT(TERMINATING)},
    [SHIM_SB_TERMINATING] = {"terminating", BIT(TERMINATED)},
    [SHIM_SB_TERMINATED] = {"terminated", 0},
};

const char *shim_sb_state_name(enum shim_sb_state st)
{
    return (unsigned)st < SHIM_SB_STATES ? states[st].name : "?";
}

bool shim_sb_may(enum shim_sb_state from, enum shim_sb_state to)
{
    return (unsigned)from < SHIM_SB_STATES && (unsigned)to < SHIM_SB_STATES &&
           (states[from].next & (1u << to));
}

static void count_state(enum shim_sb_state st, double by)
{
    static struct dbx_metric *gauges[SHIM_SB_STATES];
    if (st == SHIM_SB_TERMINATED)
        return;
    if (!gauges[st]) {
        char labels[48];
        snprintf(labels, sizeof(labels), "state=\"%s\"", states[st].name);
        gauges[st] = dbx_gauge("devbox_shim_sandboxes", labels, "Sandboxes by state");
    }
    dbx_metric_add(gauges[st], by);
}

static uint64_t deadline_of(const struct shim_sandbox *sb, enum shim_sb_state st)
{
    switch (st) {
    case SHIM_SB_PROVISIONING:
        return sb->node->provision_ms ? sb->node->provision_ms : 10000;
    case SHIM_SB_ASSIGNED:
        return sb->node->assigned_ms ? sb->node->assigned_ms : 60000;
    case SHIM_SB_TERMINATING:
        return sb->node->terminate_ms ? sb->node->terminate_ms : 10000;
    default:
        return 0;
    }
}

static void enter(struct shim_sandbox *sb, enum shim_sb_state st)
{
    sb->state = st;
    count_state(st, 1);
    uint64_t ms = deadline_of(sb, st);
    if (ms)
        dbx_timer_start(sb->deadline, ms, 0);
    else
        dbx_timer_stop(sb->deadline);
}

void shim_sb__set_state(struct shim_sandbox *sb, enum shim_sb_state st)
{
    dbx_assert(shim_sb_may(sb->state, st));
    dbx_log(DBX_LOG_DEBUG, &sb->log, "%s -> %s", states[sb->state].name, states[st].name);
    count_state(sb->state, -1);
    enter(sb, st);
}

static void on_deadline(void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    struct dbx_err err = {0};
    if (sb->state == SHIM_SB_TERMINATING) {
        dbx_log(DBX_LOG_ERR, &sb->log, "could not be taken down in %" PRIu64 " ms; trying on",
                deadline_of(sb, sb->state));
        return;
    }
    dbx_err_set(&err, -ETIMEDOUT, DBX_TIMEOUT,
                sb->state == SHIM_SB_PROVISIONING ? "sandbox not ready in %" PRIu64 " ms"
                                                  : "sandbox not used for %" PRIu64 " ms",
                deadline_of(sb, sb->state));
    shim_sb__lose(sb, &err);
}

/* ---- its life ---- */

struct shim_sandbox *shim_sb__ref(struct shim_sandbox *sb)
{
    sb->refs++;
    return sb;
}

void shim_sb__unref(struct shim_sandbox *sb)
{
    if (--sb->refs)
        return;
    dbx_timer_free(sb->deadline);
    dbx_timer_free(sb->sweep);
    shim_yield_end(&sb->yield);
    dbx_close(sb->pidfd);
    dbx_close(sb->words);
    dbx_close(sb->seat_control);
    free(sb->dir);
    sb->magic = 0;
    free(sb);
}

/* Whatever happens in here is told later. */
static void begin(void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    struct dbx_err err = {0};
    if (sb->state == SHIM_SB_PROVISIONING && shim_sb__start(sb, &err) < 0)
        shim_sb__lose(sb, &err);
    shim_sb__unref(sb);
}

static struct shim_sandbox *sandbox_new(const struct shim_node *node, const struct dbx_id *id,
                                        const struct shim_sandbox_opts *opts,
                                        const struct shim_sandbox_handlers *h, void *user)
{
    struct shim_sandbox *sb = DBX_NEW(struct shim_sandbox);
    sb->magic = SHIM_SANDBOX_MAGIC;
    sb->refs = 1;
    sb->node = node;
    sb->opts = *opts;
    sb->maker = h;
    sb->maker_user = user;
    sb->pidfd = sb->words = sb->seat_control = -1;
    sb->id = *id;
    dbx_id_format(&sb->id, sb->id_text);
    dbx_log_ctx_init(&sb->log, node->log, "instance", sb->id_text);
    sb->dir = dbx_asprintf("%s/" SHIM_SANDBOX_DIR "/%s", node->state_dir, sb->id_text);
    sb->deadline = dbx_timer_new(node->loop, on_deadline, sb);
    (void)dbx_strcpy(sb->digest, sizeof(sb->digest), opts->tpl->digest ? opts->tpl->digest : "");
    sb->began_ms = dbx_now_ms();
    return sb;
}

struct shim_sandbox *shim_sandbox_create(const struct shim_node *node,
                                         const struct shim_sandbox_opts *opts,
                                         const struct shim_sandbox_handlers *h, void *user)
{
    struct shim_seat seat;
    /* there are none in the background, where nobody waits for a sandbox */
    bool seated =
        node->seats && opts->weight != SHIM_WEIGHT_IDLE && shim_seats_take(node->seats, &seat);
    if (!seated)
        seat.id = dbx_id_new();
    struct shim_sandbox *sb = sandbox_new(node, &seat.id, opts, h, user);
    if (seated)
        shim_sb__seat(sb, &seat);
    enter(sb, SHIM_SB_PROVISIONING);
    dbx_loop_defer(node->loop, begin, shim_sb__ref(sb));
    return sb;
}

struct shim_sandbox *shim_sandbox_adopt(const struct shim_node *node, const struct dbx_id *id,
                                        const struct shim_sandbox_record *rec,
                                        const struct bnd_template *tpl, int control, bool claimed,
                                        const struct shim_sandbox_handlers *h, void *user)
{
    const struct shim_sandbox_opts opts = {.tpl = tpl,
                                           .disk_mb = rec->disk_mb,
                                           .memory_mb = rec->memory_mb,
                                           .cpu_millis = rec->cpu_millis,
                                           .processes = rec->processes,
                                           .weight = claimed ? SHIM_WEIGHT_FULL : SHIM_WEIGHT_AHEAD,
                                           .plain = rec->plain};
    struct shim_sandbox *sb = sandbox_new(node, id, &opts, h, user);
    sb->cg = shim_cgroup_adopt(node->cgroups, sb->id_text);
    if (claimed && shim_cgroup_is_idle(sb->cg))
        shim_sandbox_yield(sb); /* and looked after, as before */
    (void)dbx_strcpy(sb->digest, sizeof(sb->digest), rec->digest);
    sb->mark = rec->mark;
    sb->limit_bytes = rec->limit_bytes;
    sb->idle_bytes = rec->idle_bytes;
    enter(sb, claimed ? SHIM_SB_RUNNING : SHIM_SB_WARM);
    shim_sb__take_over(sb, control, rec->sentry);
    return sb;
}

void shim_sb__save(struct shim_sandbox *sb)
{
    if (!sb->node->ledger)
        return;
    struct shim_sandbox_record rec = {.disk_mb = sb->opts.disk_mb,
                                      .memory_mb = sb->opts.memory_mb,
                                      .cpu_millis = sb->opts.cpu_millis,
                                      .processes = sb->opts.processes,
                                      .plain = sb->opts.plain,
                                      .sentry = sb->sentry,
                                      .limit_bytes = sb->limit_bytes,
                                      .idle_bytes = sb->idle_bytes,
                                      .mark = sb->mark,
                                      .fresh = sb->state <= SHIM_SB_WARM};
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    (void)dbx_strcpy(rec.digest, sizeof(rec.digest), sb->digest);
    int r = dbx_strcpy(rec.template, sizeof(rec.template), sb->opts.tpl->name) ? 0 : -E2BIG;
    if (r == 0)
        r = shim_sandbox_record_encode(&rec, &buf);
    if (r == 0)
        r = shim_ledger_put(sb->node->ledger, SHIM_LG_SANDBOX, &sb->id, buf.data, buf.len);
    if (r < 0)
        dbx_log(DBX_LOG_WARN, &sb->log, "the next shim will not know it: %s", strerror(-r));
}

void shim_sb__ready(struct shim_sandbox *sb)
{
    static struct dbx_metric *took;
    if (!took)
        took = dbx_histogram("devbox_shim_sandbox_start_seconds", NULL,
                             "From the order to init's readiness");
    sb->ready_ms = dbx_now_ms() - sb->began_ms;
    dbx_metric_observe(took, (double)sb->ready_ms / 1000.0);
    shim_sb__set_state(sb, SHIM_SB_WARM);
    shim_sandbox_wants(sb, false);
    shim_sb__save(sb);
    if (sb->maker && sb->maker->on_ready)
        sb->maker->on_ready(sb, sb->maker_user);
}

static void take_down(void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    shim_sb__take_down(sb);
    shim_sb__unref(sb);
}

/* The processes die now; all that could call somebody back happens when this has returned. */
static void terminate(struct shim_sandbox *sb)
{
    sb->end_ms = dbx_now_ms();
    shim_yield_end(&sb->yield);
    shim_sb__set_state(sb, SHIM_SB_TERMINATING);
    shim_ledger_del(sb->node->ledger, SHIM_LG_SANDBOX, &sb->id);
    shim_sb__kill(sb);
    dbx_loop_defer(sb->node->loop, take_down, shim_sb__ref(sb));
}

void shim_sb__lose(struct shim_sandbox *sb, const struct dbx_err *err)
{
    if (sb->state >= SHIM_SB_TERMINATING)
        return;
    dbx_log(sb->state == SHIM_SB_PROVISIONING ? DBX_LOG_WARN : DBX_LOG_INFO, &sb->log,
            "lost while %s: %s", states[sb->state].name, err->msg);
    struct shim_sandbox_usage last;
    shim_sandbox_usage(sb, &last); /* kept: the cgroup goes */
    terminate(sb);
    const struct shim_sandbox_handlers *h = sb->owner ? sb->owner : sb->maker;
    void *user = sb->owner ? sb->owner_user : sb->maker_user;
    if (h && h->on_lost)
        h->on_lost(sb, err, user);
}

void shim_sandbox_end(struct shim_sandbox *sb)
{
    if (sb->state >= SHIM_SB_TERMINATING)
        return;
    struct shim_sandbox_usage last;
    shim_sandbox_usage(sb, &last);
    terminate(sb);
}

void shim_sb__gone(struct shim_sandbox *sb)
{
    static struct dbx_metric *took;
    if (!took)
        took = dbx_histogram("devbox_shim_sandbox_teardown_seconds", NULL,
                             "From the order until nothing is left");
    dbx_metric_observe(took, (double)(dbx_now_ms() - sb->end_ms) / 1000.0);
    shim_sb__set_state(sb, SHIM_SB_TERMINATED);
    dbx_timer_stop(sb->sweep);
    if (sb->owner && sb->owner->on_gone)
        sb->owner->on_gone(sb, sb->owner_user);
    if (sb->maker && sb->maker->on_gone)
        sb->maker->on_gone(sb, sb->maker_user);
    shim_sb__unref(sb);
}

/* ---- for its owner ---- */

void shim_sandbox_set_owner(struct shim_sandbox *sb, const struct shim_sandbox_handlers *h,
                            void *user)
{
    static const struct shim_sandbox_handlers nobody = {0};
    sb->owner = h ? h : &nobody;
    sb->owner_user = user;
}

static void note_weight(struct shim_sandbox *sb, enum shim_weight weight, int result)
{
    sb->opts.weight = weight;
    if (result < 0)
        dbx_log(DBX_LOG_WARN, &sb->log, "its share of the CPU stays as it was");
}

void shim_sandbox_hurry(struct shim_sandbox *sb)
{
    shim_yield_end(&sb->yield);
    if (sb->cg && sb->opts.weight != SHIM_WEIGHT_FULL)
        note_weight(sb, SHIM_WEIGHT_FULL, shim_cgroup_set_weight(sb->cg, SHIM_WEIGHT_FULL));
}

void shim_sandbox_warm_up(struct shim_sandbox *sb)
{
    if (sb->init && shim_init_warm(sb->init) < 0)
        dbx_log(DBX_LOG_WARN, &sb->log, "it stays as it came up"); /* as good, only slower */
}

void shim_sandbox_yield(struct shim_sandbox *sb)
{
    if (sb->yield.of)
        sb->yield.rests = false;
    else if (sb->cg && sb->state < SHIM_SB_TERMINATING)
        note_weight(sb, SHIM_WEIGHT_IDLE, shim_yield_begin(sb->node->yields, &sb->yield, sb->cg));
}

void shim_sandbox_wants(struct shim_sandbox *sb, bool wants)
{
    sb->yield.rests = !wants;
}

static void on_stamped(uint64_t value, const struct dbx_err *err, void *user)
{
    (void)value;
    (void)user;
    if (err && err->code != -ECANCELED)
        dbx_log(DBX_LOG_WARN, NULL, "a stamp of a template cannot be written: %s", err->msg);
}

/* Carried out before what is asked for next. */
static void stamp(struct shim_sandbox *sb, const char *path)
{
    char folder[BND_MAX_STAMP + 1], now[24];
    const char *name = strrchr(path, '/');
    snprintf(folder, sizeof(folder), "%.*s", (int)(name - path), path);
    int n = snprintf(now, sizeof(now), "%lld", (long long)(dbx_wall_us() / 1000000));
    const struct dbx_file f = {.path = name + 1,
                               .path_len = strlen(name + 1),
                               .mode = 0644,
                               .data = (const uint8_t *)now,
                               .size = (uint64_t)n};
    struct dbx_buf block;
    dbx_buf_init(&block, DBX_MAX_HEADER);
    int r = dbx_files_begin(&block);
    if (r == 0)
        r = dbx_files_add(&block, &f);
    if (r == 0)
        r = shim_init_files(sb->init, folder, BND_USER_UID, BND_USER_GID, block.data, block.len, 0,
                            on_stamped, NULL);
    dbx_buf_done(&block);
    if (r < 0)
        dbx_log(DBX_LOG_WARN, &sb->log, "%s cannot be written: %s", path, strerror(-r));
}

void shim_sandbox_assign(struct shim_sandbox *sb, uint32_t cpu_millis, bool background)
{
    const char *const *stamps = sb->opts.tpl ? sb->opts.tpl->stamps : NULL;
    sb->opts.cpu_millis = cpu_millis;
    if (background)
        shim_sandbox_yield(sb);
    else
        shim_sandbox_hurry(sb);
    shim_sb__set_state(sb, SHIM_SB_ASSIGNED);
    shim_sb__save(sb);
    for (; sb->init && stamps && *stamps; stamps++)
        stamp(sb, *stamps);
}

void shim_sandbox_set_running(struct shim_sandbox *sb, bool running)
{
    if (sb->state < SHIM_SB_TERMINATING && sb->state != (running ? SHIM_SB_RUNNING : SHIM_SB_IDLE))
        shim_sb__set_state(sb, running ? SHIM_SB_RUNNING : SHIM_SB_IDLE);
}

const struct dbx_id *shim_sandbox_id(const struct shim_sandbox *sb)
{
    return &sb->id;
}

const char *shim_sandbox_id_text(const struct shim_sandbox *sb)
{
    return sb->id_text;
}

enum shim_sb_state shim_sandbox_state(const struct shim_sandbox *sb)
{
    return sb->state;
}

const struct bnd_template *shim_sandbox_template(const struct shim_sandbox *sb)
{
    return sb->opts.tpl;
}

const struct shim_sandbox_opts *shim_sandbox_opts(const struct shim_sandbox *sb)
{
    return &sb->opts;
}

struct shim_init *shim_sandbox_init(const struct shim_sandbox *sb)
{
    bool usable = sb->state > SHIM_SB_PROVISIONING && sb->state < SHIM_SB_TERMINATING;
    return usable ? sb->init : NULL;
}

const struct dbx_log_ctx *shim_sandbox_log(const struct shim_sandbox *sb)
{
    return &sb->log;
}

uint64_t shim_sandbox_ready_ms(const struct shim_sandbox *sb)
{
    return sb->ready_ms;
}
