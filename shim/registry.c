/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/registry.h"

#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/io/loop.h"
#include "shim/init/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define REGISTRY_MAGIC 0x47525953u
#define LINK_MAGIC 0x4b4e4c52u
#define ROUNDS_MAX 8 /* pieces in one turn of the loop */

struct shim_registry {
    uint32_t magic;
    struct dbx_loop *loop;         /* borrowed */
    const char *socket;            /* borrowed */
    const struct dbx_log_ctx *log; /* borrowed */
    struct shim_registry_limits limits;
    struct dbx_list links;
    uint64_t open, total, bytes;
    bool said; /* that a limit of its life was reached */
};

enum end { SANDBOX, CACHE, ENDS };

struct link {
    uint32_t magic;
    struct dbx_list node;
    struct shim_registry *rg;
    int fd[ENDS]; /* owned */
    struct dbx_watch *watch[ENDS];
    struct dbx_timer *idle;
    uint64_t moved_ms;
    struct relay up, down; /* to the cache, to the sandbox */
};

static const struct shim_registry_limits defaults = {.connections = SHIM_REGISTRY_MAX_CONNECTIONS,
                                                     .total = SHIM_REGISTRY_MAX_TOTAL,
                                                     .bytes = SHIM_REGISTRY_MAX_BYTES,
                                                     .idle_ms = SHIM_REGISTRY_IDLE_MS};

static void count(const char *labels)
{
    dbx_metric_add(dbx_counter("devbox_shim_registry_connections_total", labels,
                               "Connections of sandboxes to the registry cache"),
                   1);
}

static void count_bytes(uint64_t n)
{
    static struct dbx_metric *bytes;
    if (!bytes)
        bytes = dbx_counter("devbox_shim_registry_bytes_total", NULL,
                            "Carried between sandboxes and the registry cache");
    dbx_metric_add(bytes, (double)n);
}

static void link_free(struct link *ln)
{
    for (int i = 0; i < ENDS; i++) {
        dbx_watch_free(ln->watch[i]);
        dbx_close(ln->fd[i]);
    }
    dbx_timer_free(ln->idle);
    dbx_list_remove(&ln->node);
    ln->rg->open--;
    ln->magic = 0;
    free(ln);
}

/* Once a sandbox: what follows is refused in silence. */
static bool over(struct shim_registry *rg)
{
    bool bytes = rg->bytes > rg->limits.bytes, total = rg->total >= rg->limits.total;
    if ((bytes || total) && !rg->said)
        dbx_log(DBX_LOG_WARN, rg->log, "no more of the registry cache: too many %s",
                bytes ? "bytes" : "connections");
    rg->said |= bytes || total;
    return bytes || total;
}

static void rearm(struct link *ln)
{
    dbx_watch_set(ln->watch[SANDBOX], (relay_reads(&ln->up) ? DBX_READ : 0) |
                                          (relay_writes(&ln->down) ? DBX_WRITE : 0));
    dbx_watch_set(ln->watch[CACHE], (relay_reads(&ln->down) ? DBX_READ : 0) |
                                        (relay_writes(&ln->up) ? DBX_WRITE : 0));
}

static void on_ready(void *user, int events, int error)
{
    struct link *ln = DBX_CAST(struct link, LINK_MAGIC, user);
    struct shim_registry *rg = ln->rg;
    uint64_t up = 1, down = 1, moved = 0;
    (void)events;
    bool broken = error != 0;
    for (int i = 0; i < ROUNDS_MAX && up + down > 0 && !broken; i++) {
        broken = relay_move(&ln->up, &up) != 0 || relay_move(&ln->down, &down) != 0;
        moved += up + down;
    }
    moved /= 2; /* each byte was read and written */
    rg->bytes += moved;
    count_bytes(moved);
    ln->moved_ms = dbx_now_ms();
    if (broken || ln->down.told || rg->bytes > rg->limits.bytes) {
        (void)over(rg);
        link_free(ln);
        return;
    }
    rearm(ln);
}

static void on_idle(void *user)
{
    struct link *ln = DBX_CAST(struct link, LINK_MAGIC, user);
    uint64_t quiet = dbx_now_ms() - ln->moved_ms, idle_ms = ln->rg->limits.idle_ms;
    if (quiet >= idle_ms)
        link_free(ln);
    else
        dbx_timer_start(ln->idle, idle_ms - quiet, 0);
}

static int connect_cache(const char *path, int *ret)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    DBX_CLEANUP(dbx_closep)
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (len >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    memcpy(addr.sun_path, path, len);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return -errno;
    *ret = DBX_TAKE_FD(fd);
    return 0;
}

/* cache and sandbox are taken. */
static void add_link(struct shim_registry *rg, int cache, int sandbox)
{
    struct link *ln = DBX_NEW(struct link);
    ln->magic = LINK_MAGIC;
    ln->rg = rg;
    ln->fd[SANDBOX] = sandbox;
    ln->fd[CACHE] = cache;
    ln->up.from = ln->down.to = sandbox;
    ln->up.to = ln->down.from = cache;
    ln->moved_ms = dbx_now_ms();
    ln->idle = dbx_timer_new(rg->loop, on_idle, ln);
    dbx_timer_start(ln->idle, rg->limits.idle_ms, 0);
    for (int i = 0; i < ENDS; i++)
        ln->watch[i] = dbx_watch_new(rg->loop, ln->fd[i], DBX_READ, on_ready, ln);
    dbx_list_push(&rg->links, &ln->node);
    rg->open++;
    rg->total++;
}

static int connect_both(struct shim_registry *rg, int *ret_end)
{
    DBX_CLEANUP(dbx_closep) int cache = -1;
    int pair[2];
    if (over(rg))
        return -EDQUOT;
    if (rg->open >= rg->limits.connections)
        return -EMFILE;
    int r = connect_cache(rg->socket, &cache);
    if (r < 0)
        return r;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -errno;
    add_link(rg, DBX_TAKE_FD(cache), pair[0]);
    *ret_end = pair[1];
    return 0;
}

int shim_registry_connect(struct shim_registry *rg, int *ret_end)
{
    dbx_assert(rg->magic == REGISTRY_MAGIC);
    int r = connect_both(rg, ret_end);
    count(r < 0 ? "result=\"refused\"" : "result=\"made\"");
    if (r < 0)
        dbx_log(DBX_LOG_DEBUG, rg->log, "no connection to the registry cache: %s", strerror(-r));
    return r;
}

struct shim_registry *shim_registry_new(struct dbx_loop *loop, const char *socket,
                                        const struct dbx_log_ctx *log)
{
    struct shim_registry *rg = DBX_NEW(struct shim_registry);
    rg->magic = REGISTRY_MAGIC;
    rg->loop = loop;
    rg->socket = socket;
    rg->log = log;
    rg->limits = defaults;
    dbx_list_init(&rg->links);
    return rg;
}

void shim_registry_set_limits(struct shim_registry *rg, const struct shim_registry_limits *limits)
{
    rg->limits.connections = limits->connections ? limits->connections : defaults.connections;
    rg->limits.total = limits->total ? limits->total : defaults.total;
    rg->limits.bytes = limits->bytes ? limits->bytes : defaults.bytes;
    rg->limits.idle_ms = limits->idle_ms ? limits->idle_ms : defaults.idle_ms;
}

struct shim_registry *shim_registry_free(struct shim_registry *rg)
{
    struct link *ln;
    if (!rg)
        return NULL;
    dbx_assert(rg->magic == REGISTRY_MAGIC);
    while ((ln = dbx_list_first(&rg->links, struct link, node)))
        link_free(ln);
    rg->magic = 0;
    free(rg);
    return NULL;
}
