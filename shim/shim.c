/* SPDX-License-Identifier: Apache-2.0 */
/* Order of life. Start: cgroups, reaper, listener, log, keeper (which says what an earlier shim
 * left with it: adopted), sweep of the rest; then pool and probe; then the scheduler hears of us,
 * and of what we have adopted. End: no
 * starts, what runs ends or is ended, its END records reach the log and the scheduler, the pool is
 * drained, nothing of ours stays. */
#include "shim/shim.h"

#include "bundles/bundles.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "common/proto/output_log.h"
#include "common/proto/token.h"
#include "shim/adopt.h"
#include "shim/box.h"
#include "shim/cgroup.h"
#include "shim/config.h"
#include "shim/deps.h"
#include "shim/exec.h"
#include "shim/host.h"
#include "shim/keeper_client.h"
#include "shim/ledger.h"
#include "shim/node.h"
#include "shim/pool.h"
#include "shim/probe.h"
#include "shim/quota.h"
#include "shim/reap.h"
#include "shim/sandbox.h"
#include "shim/seat.h"
#include "shim/serve.h"
#include "shim/share.h"
#include "shim/ship.h"
#include "shim/yield.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define SHIM_MAGIC 0x4d494853u
#define REPORT_MS 3000 /* at the end: for the log and the scheduler */
#define MAX_SEATS 8    /* one a start that may be under way, but no more */
#define POOL_MS 10000

enum phase { SHIM_STARTING, SHIM_WORKING, SHIM_DRAINING, SHIM_REPORTING, SHIM_CLOSING };

struct shim {
    uint32_t magic;
    const struct shim_config *cfg; /* borrowed */
    struct dbx_loop *loop;
    char *node_id, *url, *shim_exec, *cgroup_base; /* owned */
    struct dbx_log_ctx log;
    struct dbx_keyring *keys;
    int lock; /* owned: of state_dir */
    struct shim_node node;
    struct shim_cgroups *cgroups;
    struct shim_host host;
    char unfit[512]; /* for /readyz: what the probe says, and what the machine lacks */
    struct shim_reaper *reaper;
    struct shim_keeper *keeper;
    struct bnd_store *store;
    struct bnd_layers *layers; /* NULL: none are made or attached */
    struct shim_deps *deps;
    struct shim_share *share; /* NULL: layers stay on the node */
    struct shim_quota *quota;
    struct dbx_keyring *layers_keys;
    char *layer_tool; /* owned */
    struct shim_pool *pool;
    struct shim_probe *probe;
    struct dbx_olog *olog;
    struct shim_ship *ship;
    struct shim_execs *execs;
    struct shim_serve *serve;
    struct shim_node_link *link;
    struct dbx_timer *timer;
    enum phase phase;
    bool swept, keeper_was_up;
    bool pool_gone, probe_gone;              /* at the end: so stop */
    struct shim_adopt *inventory, *adopting; /* owned: what the keeper lists; what is taken over */
    uint32_t cpus;
};

static struct shim *cast(void *user)
{
    return DBX_CAST(struct shim, SHIM_MAGIC, user);
}

/* ---- names ---- */

static int name_node(struct shim *sh, struct dbx_err *err)
{
    char host[65] = "";
    const char *name = sh->cfg->node_id;
    if (!*name) {
        if (gethostname(host, sizeof(host) - 1) < 0)
            return dbx_err_sys(err, "ask for the host's name");
        name = host;
    }
    size_t len = strlen(name);
    if (len == 0 || len > 58)
        return dbx_err_field(err, "node_id", "not between 1 and 58 characters");
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("-_.", *p))
            return dbx_err_field(err, "node_id", "only letters, digits, '-', '_' and '.'");
    sh->node_id = dbx_strdup(name);
    sh->cgroup_base =
        *sh->cfg->cgroup_base ? dbx_strdup(sh->cfg->cgroup_base) : dbx_asprintf("devbox-%s", name);
    return 0;
}

/* "ADDRESS:PORT" with the port that the listener got; an address for all becomes the node's name.
 */
static void name_url(struct shim *sh)
{
    const char *listen = sh->cfg->listen, *scheme = *sh->cfg->tls_cert ? "wss" : "ws";
    const char *colon = strrchr(listen, ':');
    int len = colon ? (int)(colon - listen) : 0;
    bool any = len == 0 || strncmp(listen, "0.0.0.0:", 8) == 0 ||
               strncmp(listen, "[::]:", 5) == 0 || strncmp(listen, "fd:", 3) == 0;
    if (*sh->cfg->url)
        sh->url = dbx_strdup(sh->cfg->url);
    else if (any)
        sh->url = dbx_asprintf("%s://%s:%u/link", scheme, sh->node_id, shim_serve_port(sh->serve));
    else
        sh->url =
            dbx_asprintf("%s://%.*s:%u/link", scheme, len, listen, shim_serve_port(sh->serve));
}

static int name_programs(struct shim *sh, struct dbx_err *err)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (n < 0)
        return dbx_err_sys(err, "find this program");
    self[n] = 0;
    *strrchr(self, '/') = 0;
    sh->layer_tool = dbx_asprintf("%s/devbox-layer", self);
    sh->shim_exec = *sh->cfg->shim_exec ? dbx_strdup(sh->cfg->shim_exec)
                                        : dbx_asprintf("%s/devbox-shim-exec", self);
    return 0;
}

static int check_config(const struct shim_config *cfg, struct dbx_err *err)
{
    const struct {
        const char *name, *value;
        bool path;
    } needed[] = {
        {"scheduler", cfg->scheduler, false},
        {"keys", cfg->keys, true},
        {"state_dir", cfg->state_dir, true},
        {"cache_dir", cfg->cache_dir, true},
        {"templates_dir", cfg->templates_dir, true},
        {"runsc", cfg->runsc, true},
        {"init", cfg->init, true},
        {"keeper_socket", cfg->keeper_socket, true},
        {"output_log", cfg->output_log, false},
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(needed); i++) {
        if (!*needed[i].value)
            return dbx_err_field(err, needed[i].name, "%s must be given", needed[i].name);
        if (needed[i].path && needed[i].value[0] != '/')
            return dbx_err_field(err, needed[i].name, "%s must be an absolute path",
                                 needed[i].name);
    }
    return 0;
}

/* ---- readiness and numbers ---- */

static const char *unready(void *user)
{
    struct shim *sh = cast(user);
    if (sh->phase >= SHIM_DRAINING)
        return "draining";
    if (!shim_keeper_is_up(sh->keeper))
        return "the keeper is away";
    if (!sh->swept)
        return "taking over from an earlier shim";
    if (!sh->link || !shim_node_link_is_up(sh->link))
        return "the scheduler is away";
    const struct shim_probe_result *r = shim_probe_result(sh->probe);
    if (r->state == SHIM_PROBE_OK)
        return NULL;
    char lacks[240];
    shim_host_lacks(&sh->host, lacks, sizeof(lacks));
    snprintf(sh->unfit, sizeof(sh->unfit), "%s%s%s", r->words, lacks[0] ? "; this machine " : "",
             lacks);
    return sh->unfit;
}

static void before_metrics(void *user)
{
    struct shim *sh = cast(user);
    struct shim_pool_counts c;
    dbx_metric_set(dbx_gauge("devbox_shim_executions", NULL, "Executions that have not ended"),
                   sh->execs ? (double)shim_execs_count(sh->execs) : 0);
    if (!sh->pool)
        return;
    shim_pool_counts(sh->pool, &c);
    dbx_metric_set(dbx_gauge("devbox_shim_pool_waiting", NULL, "Claims that wait"), c.waiting);
    dbx_metric_set(dbx_gauge("devbox_shim_pool_memory_mb", NULL, "Memory promised"),
                   (double)c.memory_used_mb);
    for (size_t i = 0; i < c.n_templates; i++) {
        char labels[96];
        snprintf(labels, sizeof(labels), "template=\"%.64s\"", c.templates[i].name);
        dbx_metric_set(dbx_gauge("devbox_shim_pool_warm", labels, "Warm sandboxes"),
                       c.templates[i].warm);
        dbx_metric_set(dbx_gauge("devbox_shim_pool_workspace_warm", labels,
                                 "Warm sandboxes of the usual size of workspaces"),
                       c.templates[i].workspace_warm);
    }
}

/* ---- what the parts say to each other ---- */

static void check_drained(struct shim *sh);

static void on_exec_started(struct shim_exec *ex, void *user)
{
    struct shim *sh = cast(user);
    (void)ex;
    if (sh->link)
        shim_node_link_started(sh->link);
}

static void on_exec_ended(struct shim_exec *ex, void *user)
{
    struct shim *sh = cast(user);
    if (sh->link)
        shim_node_link_ended(sh->link, ex);
}

static bool report_files(dbx_link_fill *fill, void *arg, const void *blob, size_t len,
                         dbx_link_answer *fn, void *fn_user, void *user)
{
    struct shim *sh = cast(user);
    return sh->link && shim_node_link_files(sh->link, fill, arg, blob, len, fn, fn_user);
}

static bool tell(const char *op, dbx_link_fill *fill, void *arg, void *user)
{
    struct shim *sh = cast(user);
    return sh->link && shim_node_link_tell(sh->link, op, fill, arg);
}

static void on_box_ended(const char *sandbox_id, const char *why, void *user)
{
    struct shim *sh = cast(user);
    if (sh->link)
        shim_node_link_box_ended(sh->link, sandbox_id, why);
}

static void check_drained_later(void *user)
{
    check_drained(cast(user));
}

static void on_execs_changed(void *user)
{
    struct shim *sh = cast(user);
    if (sh->link)
        shim_node_link_changed(sh->link);
    if (sh->phase == SHIM_DRAINING || sh->phase == SHIM_REPORTING)
        dbx_loop_defer(sh->loop, check_drained_later, sh);
}

static void on_pool_changed(void *user)
{
    struct shim *sh = cast(user);
    if (sh->link)
        shim_node_link_changed(sh->link);
}

static struct shim_sandbox *on_pressure(void *user)
{
    struct shim *sh = cast(user);
    return sh->execs ? shim_boxes_spare(sh->execs) : NULL;
}

static void on_probe(const struct shim_probe_result *r, void *user)
{
    struct shim *sh = cast(user);
    if (r->state == SHIM_PROBE_OK)
        dbx_log(DBX_LOG_INFO, &sh->log, "fit: runsc %s on %s", r->runsc_version, r->platform);
    else if (r->state == SHIM_PROBE_FAILED)
        dbx_log(DBX_LOG_ERR, &sh->log, "not fit: %s", r->words);
}

/* ---- beginning ---- */

static void begin_work(struct shim *sh)
{
    if (sh->phase != SHIM_STARTING || !sh->swept || !sh->keeper_was_up)
        return;
    sh->phase = SHIM_WORKING;
    uint64_t starts = sh->cfg->max_starts ? sh->cfg->max_starts : sh->cpus;
    sh->node.seats = shim_seats_new(&sh->node, starts < MAX_SEATS ? (uint32_t)starts : MAX_SEATS);
    sh->probe = shim_probe_new(&sh->node, sh->store, sh->pool, on_probe, sh);
    shim_pool_start(sh->pool);
    struct shim_node_link_opts lo = {.loop = sh->loop,
                                     .scheduler = sh->cfg->scheduler,
                                     .node_id = sh->node_id,
                                     .url = sh->url,
                                     .keys = sh->keys,
                                     .ca_file = *sh->cfg->ca_file ? sh->cfg->ca_file : NULL,
                                     .log = &sh->log,
                                     .pool = sh->pool,
                                     .cpus = sh->cpus};
    sh->link = shim_node_link_new(&lo, sh->execs);
    shim_serve_set_execs(sh->serve, sh->execs);
}

static void on_swept(const struct dbx_err *err, void *user)
{
    struct shim *sh = cast(user);
    if (err)
        dbx_log(DBX_LOG_ERR, &sh->log, "an earlier shim's sandboxes stay: %s", err->msg);
    sh->swept = true;
    begin_work(sh);
}

/* What was adopted is whole; the rest goes. */
static void on_adopted(void *user)
{
    struct shim *sh = cast(user);
    sh->adopting = shim_adopt_free(sh->adopting);
    shim_sandbox_sweep(&sh->node, on_swept, sh);
}

static struct shim_adopt *inventory(struct shim *sh)
{
    const struct shim_adopt_opts opts = {.node = &sh->node,
                                         .keeper = sh->keeper,
                                         .pool = sh->pool,
                                         .execs = sh->execs,
                                         .log = &sh->log,
                                         .on_done = on_adopted,
                                         .user = sh};
    if (!sh->inventory)
        sh->inventory = shim_adopt_new(&opts);
    return sh->inventory;
}

static void on_kept_sandbox(const struct dbx_id *sandbox, int control, int state, void *user)
{
    shim_adopt_sandbox(inventory(cast(user)), sandbox, control, state);
}

static void on_kept_process(struct shim_kept *p, void *user)
{
    shim_adopt_process(inventory(cast(user)), p);
}

static void on_keeper_up(void *user)
{
    struct shim *sh = cast(user);
    struct shim_adopt *ad = inventory(sh);
    struct dbx_err err = {0};
    bool first = !sh->keeper_was_up;
    dbx_log(DBX_LOG_INFO, &sh->log, "the keeper is there (%zu sandboxes of an earlier shim)",
            shim_adopt_count(ad));
    sh->keeper_was_up = true;
    sh->inventory = NULL;
    int r = first ? shim_adopt_run(ad, &err) : shim_adopt_discard(ad, &err);
    if (first)
        sh->adopting = ad;
    else
        shim_adopt_free(ad);
    if (r < 0)
        dbx_log(DBX_LOG_ERR, &sh->log, "nothing is left to the next shim: %s", err.msg);
    if (first && r < 0)
        on_adopted(sh);
}

static void on_keeper_down(const struct dbx_err *err, void *user)
{
    struct shim *sh = cast(user);
    dbx_log(DBX_LOG_ERR, &sh->log, "the keeper is gone: %s", err ? err->msg : "it closed");
    sh->inventory = shim_adopt_free(sh->inventory); /* half of it: another one begins anew */
    shim_execs_keeper_down(sh->execs);
    if (sh->pool) /* a new keeper knows none of the warm sandboxes */
        shim_pool_renew(sh->pool);
}

/* Two shims on the same sandboxes would end each other's: the later one waits until the other is
 * gone. */
static int lock_state(struct shim *sh, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/lock", sh->cfg->state_dir);
    sh->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (sh->lock < 0)
        return dbx_err_sys(err, "open %s", path);
    if (flock(sh->lock, LOCK_EX | LOCK_NB) < 0)
        return dbx_err_set(err, -EBUSY, DBX_CONFLICT, "another shim works in %s",
                           sh->cfg->state_dir);
    return 0;
}

static void on_keys(const struct dbx_err *err, void *user)
{
    const struct shim *sh = user;
    dbx_log(err ? DBX_LOG_ERR : DBX_LOG_INFO, &sh->log, "keys %s: %s", sh->cfg->keys,
            err ? err->msg : "taken over");
}

/* Also when there are none it is said what is missing: it may be why. */
static int open_cgroups(struct shim *sh, const struct shim_cgroups_opts *opts, struct dbx_err *err)
{
    int r = shim_cgroups_open(opts, &sh->cgroups, err);
    shim_host_look(sh->cgroups, (uint32_t)sh->cfg->max_sandboxes, &sh->host);
    shim_host_tell(&sh->host, &sh->log);
    return r;
}

/* The parts that can refuse. */
static int open_parts(struct shim *sh, struct dbx_err *err)
{
    const struct shim_config *cfg = sh->cfg;
    struct shim_cgroups_opts co = {.move_self = true, .weight = (uint32_t)cfg->cpu_weight};
    struct dbx_olog_opts oo = {.loop = sh->loop,
                               .url = cfg->output_log,
                               .writer = true,
                               .segment_bytes = cfg->log_segment_bytes,
                               .retain_bytes = cfg->log_retain_bytes,
                               .retain_ms = cfg->log_retain_ms};
    struct shim_serve_opts so = {.loop = sh->loop,
                                 .listen = cfg->listen,
                                 .tls_cert = *cfg->tls_cert ? cfg->tls_cert : NULL,
                                 .tls_key = *cfg->tls_key ? cfg->tls_key : NULL,
                                 .log = &sh->log,
                                 .unready = unready,
                                 .before_metrics = before_metrics,
                                 .user = sh};
    const struct bnd_layers_opts lo = {
        .dir = cfg->layers_dir, .max_bytes = cfg->layers_max_bytes, .keep_s = cfg->layers_keep_s};
    int r = check_config(cfg, err);
    if (r == 0)
        r = name_node(sh, err);
    if (r == 0)
        r = name_programs(sh, err);
    if (r < 0)
        return r;
    dbx_log_ctx_init(&sh->log, NULL, "node", sh->node_id);
    co.base = sh->cgroup_base;
    r = dbx_keyring_load(cfg->keys, &sh->keys, err);
    if (r == 0)
        dbx_keyring_watch(sh->keys, sh->loop, on_keys, sh);
    if (r == 0 && *cfg->layers_keys)
        r = dbx_keyring_load(cfg->layers_keys, &sh->layers_keys, err);
    if (r == 0)
        r = dbx_fs_mkdirs(cfg->state_dir, 0700, err);
    if (r == 0)
        r = lock_state(sh, err);
    if (r == 0)
        r = bnd_store_open(cfg->cache_dir, cfg->templates_dir, &sh->store, err);
    if (r == 0 && *cfg->layers_dir)
        r = bnd_layers_open(&lo, &sh->layers, err);
    if (r == 0)
        r = open_cgroups(sh, &co, err);
    if (r == 0)
        r = shim_reaper_new(sh->loop, &sh->reaper, err);
    if (r == 0)
        r = dbx_olog_open(&oo, &sh->olog, err);
    so.keys = sh->keys;
    if (r == 0)
        r = shim_serve_new(&so, &sh->serve, err);
    return r;
}

static void make_executions(struct shim *sh)
{
    struct shim_ship_opts so = {.loop = sh->loop, .append = dbx_olog_append, .log = sh->olog};
    sh->ship = shim_ship_new(&so);
    dbx_olog_on_room(sh->olog, shim_ship_on_room, sh->ship);
    struct shim_execs_opts eo = {.loop = sh->loop,
                                 .store = sh->store,
                                 .pool = sh->pool,
                                 .keeper = sh->keeper,
                                 .ship = sh->ship,
                                 .deps = sh->deps,
                                 .log = &sh->log,
                                 .ledger = &sh->node.ledger,
                                 .ncpu = sh->cpus,
                                 .max = (uint32_t)sh->cfg->max_executions,
                                 .on_started = on_exec_started,
                                 .on_ended = on_exec_ended,
                                 .on_box_ended = on_box_ended,
                                 .tell = tell,
                                 .report_files = report_files,
                                 .on_change = on_execs_changed,
                                 .user = sh};
    sh->execs = shim_execs_new(&eo);
}

static void make_pool(struct shim *sh)
{
    const struct shim_config *cfg = sh->cfg;
    sh->node =
        (struct shim_node){.loop = sh->loop,
                           .reaper = sh->reaper,
                           .cgroups = sh->cgroups,
                           .yields = shim_yields_new(sh->loop, sh->cgroups, sh->cpus),
                           .keeper = sh->keeper,
                           .log = &sh->log,
                           .state_dir = cfg->state_dir,
                           .runsc = cfg->runsc,
                           .shim_exec = sh->shim_exec,
                           .init_dir = cfg->init,
                           .layers_dir = sh->layers ? bnd_layers_tree(sh->layers) : NULL,
                           .registry_socket = *cfg->registry_socket ? cfg->registry_socket : NULL};
    struct shim_pool_opts po = {.node = &sh->node,
                                .store = sh->store,
                                .max_sandboxes = (uint32_t)cfg->max_sandboxes,
                                .memory_mb = cfg->memory_budget_mb,
                                .max_starts = (uint32_t)cfg->max_starts,
                                .warm = cfg->warm == 1024 ? -1 : (int32_t)cfg->warm,
                                .max_warm = (uint32_t)cfg->max_warm,
                                .disk_mb = cfg->warm_disk_mb,
                                .warm_memory_mb = cfg->warm_memory_mb};
    sh->pool = shim_pool_new(&po);
    shim_pool_on_change(sh->pool, on_pool_changed, sh);
    shim_pool_on_pressure(sh->pool, on_pressure, sh);
}

static void make_deps(struct shim *sh)
{
    if (!sh->layers || !*sh->cfg->registry_socket)
        return;
    const struct shim_share_opts so = {.loop = sh->loop,
                                       .url = sh->cfg->layers_url,
                                       .ca_file = *sh->cfg->ca_file ? sh->cfg->ca_file : NULL,
                                       .node_id = sh->node_id,
                                       .ring = sh->keys,
                                       .put = sh->layers_keys,
                                       .log = &sh->log};
    sh->share = *sh->cfg->layers_url ? shim_share_new(&so) : NULL;
    const struct shim_quota_opts qo = {.at_a_time = sh->cfg->layers_at_a_time,
                                       .hourly = sh->cfg->layers_hourly,
                                       .hourly_bytes = sh->cfg->layers_hourly_bytes,
                                       .now_ms = dbx_now_ms};
    sh->quota = shim_quota_new(&qo);
    const struct shim_deps_opts opts = {.loop = sh->loop,
                                        .pool = sh->pool,
                                        .reaper = sh->reaper,
                                        .node = &sh->node,
                                        .layers = sh->layers,
                                        .tool = sh->layer_tool,
                                        .share = sh->share,
                                        .quota = sh->quota,
                                        .log = &sh->log};
    sh->deps = shim_deps_new(&opts);
}

static void on_timer(void *user);

int shim_start(const struct shim_config *cfg, struct dbx_loop *loop, struct shim **ret,
               struct dbx_err *err)
{
    static const struct shim_keeper_handlers keeper_handlers = {.on_sandbox = on_kept_sandbox,
                                                                .on_process = on_kept_process,
                                                                .on_up = on_keeper_up,
                                                                .on_down = on_keeper_down};
    struct shim *sh = DBX_NEW(struct shim);
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    sh->magic = SHIM_MAGIC;
    sh->lock = -1;
    sh->cfg = cfg;
    sh->loop = loop;
    sh->cpus = cpus > 0 ? (uint32_t)cpus : 1;
    int r = open_parts(sh, err);
    if (r < 0) {
        shim_free(sh);
        return r;
    }
    name_url(sh);
    sh->timer = dbx_timer_new(loop, on_timer, sh);
    sh->keeper = shim_keeper_new(loop, cfg->keeper_socket, &keeper_handlers, sh);
    make_pool(sh);
    make_deps(sh);
    make_executions(sh);
    dbx_log(DBX_LOG_INFO, &sh->log, "serves gateways at %s", sh->url);
    *ret = sh;
    return 0;
}

/* ---- the end ---- */

static void stop(struct shim *sh)
{
    sh->phase = SHIM_CLOSING;
    dbx_timer_stop(sh->timer);
    dbx_loop_stop(sh->loop, 0);
}

static void on_seats_gone(void *user)
{
    struct shim *sh = cast(user);
    dbx_log(DBX_LOG_INFO, &sh->log, "drained");
    stop(sh);
}

static void all_gone(struct shim *sh)
{
    if (!sh->pool_gone || !sh->probe_gone || sh->phase != SHIM_CLOSING)
        return;
    if (sh->node.seats)
        shim_seats_end(sh->node.seats, on_seats_gone, sh);
    else
        on_seats_gone(sh);
}

static void on_pool_drained(void *user)
{
    struct shim *sh = cast(user);
    sh->pool_gone = true;
    all_gone(sh);
}

static void on_probe_gone(void *user)
{
    struct shim *sh = cast(user);
    sh->probe_gone = true;
    all_gone(sh);
}

static void check_drained(struct shim *sh)
{
    if (sh->phase == SHIM_DRAINING && shim_execs_count(sh->execs) == 0) {
        sh->phase = SHIM_REPORTING;
        dbx_timer_start(sh->timer, REPORT_MS, 0);
    }
    if (sh->phase == SHIM_REPORTING && shim_execs_unreported(sh->execs) == 0)
        on_timer(sh);
}

/* The phase of the end has lasted long enough: the next one. */
static void on_timer(void *user)
{
    struct shim *sh = cast(user);
    switch (sh->phase) {
    case SHIM_DRAINING:
        dbx_log(DBX_LOG_WARN, &sh->log, "ending %zu executions", shim_execs_count(sh->execs));
        sh->phase = SHIM_REPORTING;
        dbx_timer_start(sh->timer, REPORT_MS, 0);
        shim_execs_end_all(sh->execs);
        check_drained(sh);
        break;
    case SHIM_REPORTING:
        sh->phase = SHIM_CLOSING;
        shim_execs_end_all(sh->execs);
        shim_deps_stop(sh->deps);
        dbx_timer_start(sh->timer, POOL_MS, 0);
        shim_probe_end(DBX_TAKE(sh->probe), on_probe_gone, sh);
        shim_pool_drain(sh->pool, on_pool_drained, sh);
        break;
    case SHIM_CLOSING:
        dbx_log(DBX_LOG_ERR, &sh->log, "sandboxes do not end");
        stop(sh);
        break;
    case SHIM_STARTING:
    case SHIM_WORKING:
        break;
    }
}

void shim_drain(struct shim *sh)
{
    if (sh->phase >= SHIM_DRAINING)
        return;
    sh->phase = SHIM_DRAINING;
    dbx_log(DBX_LOG_INFO, &sh->log, "draining");
    shim_execs_refuse(sh->execs, "the node is draining");
    dbx_timer_start(sh->timer, sh->cfg->drain_ms ? sh->cfg->drain_ms : 1, 0);
    dbx_loop_defer(sh->loop, check_drained_later, sh);
}

struct shim *shim_free(struct shim *sh)
{
    if (!sh)
        return NULL;
    sh->link = shim_node_link_free(sh->link);
    sh->serve = shim_serve_free(sh->serve);
    sh->probe = shim_probe_free(sh->probe);
    sh->execs = shim_execs_free(sh->execs);
    sh->deps = shim_deps_free(sh->deps);
    sh->share = shim_share_free(sh->share);
    sh->quota = shim_quota_free(sh->quota);
    sh->pool = shim_pool_free(sh->pool);
    sh->node.seats = shim_seats_free(sh->node.seats);
    sh->olog = dbx_olog_close(sh->olog);
    sh->ship = shim_ship_free(sh->ship);
    sh->inventory = shim_adopt_free(sh->inventory);
    sh->adopting = shim_adopt_free(sh->adopting);
    sh->keeper = sh->keeper ? shim_keeper_free(sh->keeper) : NULL;
    sh->node.ledger = shim_ledger_free(sh->node.ledger);
    sh->node.yields = shim_yields_free(sh->node.yields);
    sh->reaper = shim_reaper_free(sh->reaper);
    shim_cgroups_freep(&sh->cgroups);
    sh->store = bnd_store_free(sh->store);
    sh->layers = bnd_layers_free(sh->layers);
    free(sh->layer_tool);
    dbx_keyring_free(sh->keys);
    dbx_keyring_free(sh->layers_keys);
    dbx_timer_free(sh->timer);
    dbx_close(sh->lock);
    free(sh->node_id);
    free(sh->url);
    free(sh->shim_exec);
    free(sh->cgroup_base);
    sh->magic = 0;
    free(sh);
    return NULL;
}
