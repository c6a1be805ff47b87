/* SPDX-License-Identifier: Apache-2.0 */
/* Taking a sandbox down. All its processes (runsc's CLI too) are in its cgroup: killed at once and
 * again each round until it is empty; then the cgroup, the folder and runsc's socket go. The
 * writable layer is an unlinked file of the sentry and goes with it; mounts are in name spaces of
 * their own. The rounds are timed by a timer, and never give up: after the deadline of the state an
 * error is logged, and they become rare. */
#include "shim/sandbox_int.h"

#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/list.h"
#include "common/base/map.h"
#include "common/io/loop.h"
#include "shim/init_client.h"
#include "shim/keeper_client.h"
#include "shim/ledger.h"
#include "shim/registry.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <unistd.h>

#define FIRST_ROUND_MS 2
#define MAX_ROUND_MS 50
#define LATE_ROUND_MS 1000
#define SWEEP_MS 30000

char *shim_sb__runsc_root(const struct shim_node *node)
{
    return node->runsc_root ? dbx_strdup(node->runsc_root)
                            : dbx_asprintf("%s/runsc", node->state_dir);
}

static void remove_file(const char *dir, const char *fmt, const char *id)
{
    DBX_CLEANUP(dbx_freep) char *name = dbx_asprintf(fmt, id, id);
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/%s", dir, name);
    (void)unlink(path); /* it may never have been made */
}

/* `runsc delete` does no more than this once the processes are gone, and costs a start of the CLI.
 * Its socket stands elsewhere when the path in its folder is too long for one. */
static void forget_in_runsc(const struct shim_node *node, const char *id)
{
    DBX_CLEANUP(dbx_freep) char *root = shim_sb__runsc_root(node);
    const char *const dirs[] = {root, "/run", "/tmp"};
    for (size_t i = 0; i < DBX_ARRAY_LEN(dirs); i++)
        remove_file(dirs[i], "runsc-%s.sock", id);
    remove_file(root, "%s_sandbox:%s.state", id);
    remove_file(root, "%s_sandbox:%s.lock", id);
}

void shim_sandbox_release(const struct shim_node *node)
{
    DBX_CLEANUP(dbx_freep) char *root = shim_sb__runsc_root(node);
    DBX_CLEANUP(dbx_freep) char *pin = dbx_asprintf("%s/null-netns", root);
    (void)umount2(pin, MNT_DETACH | UMOUNT_NOFOLLOW); /* older runsc make none */
    (void)unlink(pin);
    (void)rmdir(root);
}

int shim_sb__clean_round(const struct shim_node *node, struct shim_cgroup **cg, const char *dir,
                         const char *id, struct dbx_err *err)
{
    if (*cg) {
        int r = shim_cgroup_kill(*cg);
        if (r == 0)
            r = shim_cgroup_remove(*cg);
        if (r == 1 || r == -EBUSY)
            return dbx_err_set(err, -EAGAIN, DBX_UNAVAIL, "processes of %s are still there", id);
        if (r < 0)
            return dbx_err_set(err, r, DBX_INTERNAL, "remove cgroup %s: %s", shim_cgroup_path(*cg),
                               strerror(-r));
        *cg = shim_cgroup_free(*cg);
    }
    forget_in_runsc(node, id);
    return dbx_fs_remove_tree(dir, err);
}

void shim_sb__kill(struct shim_sandbox *sb)
{
    if (sb->cli > 0)
        (void)kill(sb->cli, SIGKILL); /* not reaped yet, so it is the one */
    if (sb->pidfd >= 0)
        (void)pidfd_send_signal(sb->pidfd, SIGKILL, NULL, 0);
    if (sb->cg)
        (void)shim_cgroup_kill(sb->cg);
}

static void on_round(void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    struct dbx_err err = {0};
    shim_sb__kill(sb);
    int r =
        sb->cli > 0 ? -EAGAIN : shim_sb__clean_round(sb->node, &sb->cg, sb->dir, sb->id_text, &err);
    if (r == 0) {
        shim_sb__gone(sb);
        return;
    }
    if (r != -EAGAIN)
        dbx_log(DBX_LOG_WARN, &sb->log, "teardown: %s", err.msg);
    uint64_t after = dbx_now_ms() - sb->end_ms;
    uint64_t limit = sb->node->terminate_ms ? sb->node->terminate_ms : 10000;
    sb->sweep_ms = sb->sweep_ms * 2 < MAX_ROUND_MS ? sb->sweep_ms * 2 : MAX_ROUND_MS;
    dbx_timer_start(sb->sweep, after > limit ? LATE_ROUND_MS : sb->sweep_ms, 0);
}

void shim_sb__take_down(struct shim_sandbox *sb)
{
    sb->exited = dbx_watch_free(sb->exited);
    sb->registry = shim_registry_free(sb->registry);
    sb->init = shim_init_free(sb->init); /* answers what is open */
    if (sb->in_keeper)
        (void)shim_keeper_remove_sandbox(sb->node->keeper,
                                         &sb->id); /* away: then it holds nothing */
    sb->sweep = dbx_timer_new(sb->node->loop, on_round, sb);
    sb->sweep_ms = FIRST_ROUND_MS;
    dbx_timer_start(sb->sweep, 0, 0);
}

/* ---- what an earlier shim left ---- */

struct leftover {
    struct dbx_list node;
    char *id, *dir;         /* owned */
    struct shim_cgroup *cg; /* owned */
};

struct sweep {
    const struct shim_node *node;
    struct dbx_map *ids; /* id -> leftover */
    struct dbx_list left;
    struct dbx_timer *timer; /* owned */
    uint64_t began_ms, count;
    void (*fn)(const struct dbx_err *err, void *user);
    void *user;
};

static void add_leftover(const char *id, void *user)
{
    struct sweep *sw = user;
    struct dbx_id adopted;
    size_t len;
    if (DBX_MAP_GET_STR(sw->ids, id))
        return;
    if (dbx_id_parse(id, &adopted) == 0 &&
        shim_ledger_get(sw->node->ledger, SHIM_LG_SANDBOX, &adopted, &len))
        return;
    struct leftover *lo = DBX_NEW(struct leftover);
    lo->id = dbx_strdup(id);
    lo->dir = dbx_asprintf("%s/" SHIM_SANDBOX_DIR "/%s", sw->node->state_dir, id);
    lo->cg = shim_cgroup_adopt(sw->node->cgroups, id);
    dbx_map_put(sw->ids, id, strlen(id), lo);
    dbx_list_push(&sw->left, &lo->node);
    sw->count++;
}

static void free_leftover(struct leftover *lo)
{
    dbx_list_remove(&lo->node);
    shim_cgroup_free(lo->cg);
    free(lo->id);
    free(lo->dir);
    free(lo);
}

/* Names that are no ids are not ours. */
static int find_folders(struct sweep *sw, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep)
    char *path = dbx_asprintf("%s/" SHIM_SANDBOX_DIR, sw->node->state_dir);
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? 0 : dbx_err_sys(err, "list %s", path);
    for (struct dirent *e; (e = readdir(dir));) {
        struct dbx_id id;
        if (dbx_id_parse(e->d_name, &id) == 0)
            add_leftover(e->d_name, sw);
    }
    closedir(dir);
    return 0;
}

static void finish_sweep(struct sweep *sw, const struct dbx_err *err)
{
    while (!dbx_list_empty(&sw->left))
        free_leftover(dbx_list_first(&sw->left, struct leftover, node));
    dbx_map_free(sw->ids);
    dbx_timer_free(sw->timer);
    if (!err && shim_ledger_count(sw->node->ledger, SHIM_LG_SANDBOX) == 0)
        shim_sandbox_release(sw->node); /* nobody uses it now */
    if (sw->count && !err)
        dbx_log(DBX_LOG_INFO, sw->node->log, "removed %d sandboxes that an earlier shim left",
                (int)sw->count);
    sw->fn(err, sw->user);
    free(sw);
}

static void on_sweep(void *user)
{
    struct sweep *sw = user;
    struct dbx_err err = {0};
    struct dbx_list *it, *tmp;
    if (sw->began_ms == 0) {
        sw->began_ms = dbx_now_ms();
        int r = find_folders(sw, &err);
        if (r == 0)
            r = shim_cgroups_each(sw->node->cgroups, add_leftover, sw, &err);
        if (r < 0) {
            finish_sweep(sw, &err);
            return;
        }
    }
    dbx_list_each(it, tmp, &sw->left)
    {
        struct leftover *lo = dbx_list_entry(it, struct leftover, node);
        if (shim_sb__clean_round(sw->node, &lo->cg, lo->dir, lo->id, &err) == 0)
            free_leftover(lo);
    }
    if (dbx_list_empty(&sw->left))
        finish_sweep(sw, NULL);
    else if (dbx_now_ms() - sw->began_ms > SWEEP_MS)
        finish_sweep(sw, &err);
    else
        dbx_timer_start(sw->timer, MAX_ROUND_MS, 0);
}

void shim_sandbox_sweep(const struct shim_node *node,
                        void (*fn)(const struct dbx_err *err, void *user), void *user)
{
    struct sweep *sw = DBX_NEW(struct sweep);
    *sw = (struct sweep){.node = node, .ids = dbx_map_new(), .fn = fn, .user = user};
    dbx_list_init(&sw->left);
    sw->timer = dbx_timer_new(node->loop, on_sweep, sw);
    dbx_timer_start(sw->timer, 0, 0);
}
