/* SPDX-License-Identifier: Apache-2.0 */
/* How a layer is made. One step follows the other:
 *
 *   look whether another node has it -> into devbox-layer -> the store; or, when that fails,
 *   claim a sandbox -> files -> the installer -> its end -> tar, through a pipe, into devbox-layer
 *   -> its end -> the store
 *
 * The sandbox is used for this and nothing else, and ended. What comes out of it is as hostile as
 * what was installed in it: devbox-layer alone opens it. Should the shim die, the sandbox is swept
 * (it was never anybody's) and the tree lies in the store's tmp. */
#include "shim/deps_int.h"

#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "shim/init_client.h"
#include "shim/launch.h"
#include "shim/pool.h"
#include "shim/reap.h"
#include "shim/sandbox.h"
#include "shim/share.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MEMORY_MB 2048
#define PROCESSES 256
#define OPEN_FILES 4096
#define CPU_MILLIS 2000
#define CLAIM_MS 60000
#define READ_AT_ONCE (32u << 10)
#define MAX_LINE 600

static void fail(struct shim_dep *dp, const char *why)
{
    if (!dp->err.code)
        dbx_err_set(&dp->err, -EIO, DBX_INTERNAL, "%s", why);
    shim_dep__done(dp);
}

void shim_dep__abandon(struct shim_dep *dp)
{
    struct shim_sandbox *sb = DBX_TAKE(dp->sb);
    dbx_timer_stop(dp->deadline);
    if (dp->claim)
        shim_claim_cancel(DBX_TAKE(dp->claim));
    if (dp->pull) { /* it does not call back */
        shim_transfer_cancel(DBX_TAKE(dp->pull));
        shim_dep__unref(dp);
    }
    dbx_closep(&dp->packed);
    if (sb) {
        shim_sandbox_set_owner(sb, NULL, NULL);
        shim_sandbox_end(sb);
    }
    dp->watch = dbx_watch_free(dp->watch);
    dbx_closep(&dp->out);
    dbx_closep(&dp->result);
    if (dp->tool > 0)
        (void)kill(dp->tool, SIGKILL); /* not reaped yet, so it is the one */
    else if (dp->tree && !dp->name)
        bnd_layers_discard(dp->deps->opts.layers, dp->tree);
}

/* A fresh pipe: *ret_inside is the sandbox's end. */
static int make_pipe(int *ret_ours, int *ret_inside, struct dbx_err *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return dbx_err_sys(err, "pipe");
    if (fchmod(fds[1], 0666) < 0) { /* programs may open it again */
        int r = dbx_err_sys(err, "pipe");
        dbx_close(fds[0]);
        dbx_close(fds[1]);
        return r;
    }
    *ret_ours = fds[0];
    *ret_inside = fds[1];
    return 0;
}

static int start(struct shim_dep *dp, char *const *argv, int out, struct dbx_err *err)
{
    const struct dbx_limits limits = {
        .processes = PROCESSES, .open_files = OPEN_FILES, .disk_mb = SHIM_DEPS_DISK_MB};
    struct init_rlimit rlimits[SHIM_LAUNCH_RLIMITS];
    char **env = shim_launch_env(dp->tpl, /* workspace= */ true, NULL);
    shim_launch_rlimits(&limits, rlimits);
    dp->process = dbx_id_new();
    dp->exited = false;
    const struct shim_init_start req = {.process = dp->process,
                                        .argv = argv,
                                        .env = env,
                                        .cwd = BND_WORK_DIR,
                                        .uid = BND_USER_UID,
                                        .gid = BND_USER_GID,
                                        .umask = 022,
                                        .rlimits = rlimits,
                                        .n_rlimits = SHIM_LAUNCH_RLIMITS,
                                        .fds = {-1, out, -1}};
    int r = shim_init_start(shim_sandbox_init(dp->sb), &req);
    shim_launch_env_free(env);
    return r < 0 ? dbx_err_set(err, r, DBX_INTERNAL, "init takes no order to start") : 0;
}

/* ---- the tree ---- */

struct result {
    const char *in, *out; /* digests */
    uint64_t out_bytes, bytes;
};

/* "ok IN OUT IN-BYTES OUT-BYTES ENTRIES BYTES" */
static int read_result(char *line, struct result *ret, struct dbx_err *err)
{
    char *words[8] = {0}, *save = NULL;
    size_t n = 0;
    if (!dbx_starts_with(line, "ok "))
        return dbx_err_set(err, -EBADMSG, dbx_starts_with(line, "limit ") ? DBX_LIMIT : DBX_INVALID,
                           "what was installed makes no layer: %.180s", line);
    for (char *w = strtok_r(line, " \n", &save); w && n < 8; w = strtok_r(NULL, " \n", &save))
        words[n++] = w;
    if (n != 7 || strlen(words[1]) != BND_LAYER_KEY || strlen(words[2]) != BND_LAYER_KEY ||
        dbx_parse_u64(words[4], strlen(words[4]), 0, INT64_MAX, &ret->out_bytes) < 0 ||
        dbx_parse_u64(words[6], strlen(words[6]), 0, INT64_MAX, &ret->bytes) < 0)
        return dbx_err_set(err, -EBADMSG, DBX_INTERNAL, "devbox-layer says '%.100s'", line);
    ret->in = words[1];
    ret->out = words[2];
    return 0;
}

static void build(struct shim_dep *dp);

/* What another node has made is of no use: it is made here. */
static void build_after_all(struct shim_dep *dp)
{
    dbx_log(DBX_LOG_WARN, &dp->log, "what another node made is not taken: %s", dp->err.msg);
    dp->err = (struct dbx_err){0};
    *dp->pulled = '\0';
    dbx_closep(&dp->packed);
    dbx_closep(&dp->result);
    if (dp->tree)
        bnd_layers_discard(dp->deps->opts.layers, dp->tree);
    free(DBX_TAKE(dp->tree));
    build(dp);
}

static void on_tool_exit(pid_t pid, int status, void *user)
{
    struct shim_dep *dp = DBX_CAST(struct shim_dep, SHIM_DEP_MAGIC, user);
    char line[MAX_LINE] = "";
    struct result res = {0};
    (void)pid;
    dp->tool = 0;
    if (dp->over) { /* given up meanwhile */
        bnd_layers_discard(dp->deps->opts.layers, dp->tree);
        shim_dep__unref(dp);
        return;
    }
    ssize_t n = read(dp->result, line, sizeof(line) - 1);
    if (n <= 0)
        shim_status_words(status, line, sizeof(line));
    int r = read_result(line, &res, &dp->err);
    if (r == 0 && *dp->pulled && !dbx_streq(res.in, dp->pulled))
        r = dbx_err_set(&dp->err, -EBADMSG, DBX_INTERNAL,
                        "it has another digest than its map says");
    dp->bytes = res.bytes;
    if (r == 0)
        r = bnd_layers_add(dp->deps->opts.layers, dp->what.key, dp->tree, res.in, res.bytes,
                           &dp->name, &dp->err);
    if (r < 0 && *dp->pulled) {
        build_after_all(dp);
        shim_dep__unref(dp);
        return;
    }
    dp->exit_code = r == 0 ? 0 : dp->err.kind == DBX_INVALID || dp->err.kind == DBX_LIMIT ? 1 : -1;
    if (r == 0 && !*dp->pulled && dp->packed >= 0)
        shim_share_push(dp->deps->opts.share, dp->what.key, DBX_TAKE_FD(dp->packed), res.out,
                        res.out_bytes);
    shim_dep__done(dp);
    shim_dep__unref(dp);
}

/* out: where it is packed, or -1. */
static int spawn_tool(struct shim_dep *dp, int in, int out, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_closep) int result = -1;
    int pipes[2];
    uint64_t room = bnd_layers_room(dp->deps->opts.layers);
    DBX_CLEANUP(dbx_freep) char *uid = dbx_asprintf("%d", BND_USER_UID);
    DBX_CLEANUP(dbx_freep) char *max = dbx_asprintf("%" PRIu64, room);
    if (room == 0)
        return dbx_err_set(err, -ENOSPC, DBX_LIMIT, "the node has no room for layers");
    int r = bnd_layers_begin(dp->deps->opts.layers, &dp->tree, err);
    if (r < 0)
        return r;
    if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0)
        return dbx_err_sys(err, "pipe");
    dp->result = pipes[0];
    result = pipes[1];
    char *const argv[] = {(char *)(uintptr_t)dp->deps->opts.tool, dp->tree, uid, max, NULL};
    const struct shim_spawn sp = {
        .shim_exec = dp->deps->opts.node->shim_exec, .fds = {in, out, result}, .argv = argv};
    r = shim_spawn(dp->deps->opts.reaper, &sp, on_tool_exit, dp, &dp->tool, err);
    dp->refs += r == 0;
    return r;
}

static void pack(struct shim_dep *dp)
{
    static const char line[] = "mkdir -p \"$0\" && exec tar -C \"$0\" -cf - .";
    char *const argv[] = {"/bin/sh", "-c", (char *)(uintptr_t)line,
                          (char *)(uintptr_t)dp->what.what->into, NULL};
    DBX_CLEANUP(dbx_closep) int ours = -1;
    DBX_CLEANUP(dbx_closep) int inside = -1;
    dp->installed = true;
    int r = make_pipe(&ours, &inside, &dp->err);
    if (r == 0 && dp->deps->opts.share)
        r = bnd_layers_temp(dp->deps->opts.layers, &dp->packed, &dp->err);
    if (r == 0)
        r = spawn_tool(dp, ours, dp->packed, &dp->err);
    if (r == 0)
        r = start(dp, argv, inside, &dp->err);
    if (r < 0)
        shim_dep__done(dp);
}

/* ---- the installer ---- */

static void check_installed(struct shim_dep *dp)
{
    if (dp->installed || !dp->exited || !dp->text_ended)
        return;
    if (dp->exit_code == 0) {
        dp->exit_code = -1; /* from now on a failure is ours */
        pack(dp);
        return;
    }
    dbx_err_set(&dp->err, -EINVAL, DBX_INVALID, "the installer ended with %d", dp->exit_code);
    shim_dep__done(dp);
}

static void on_output(void *user, int events, int error)
{
    struct shim_dep *dp = DBX_CAST(struct shim_dep, SHIM_DEP_MAGIC, user);
    uint8_t data[READ_AT_ONCE];
    (void)events;
    ssize_t n = error ? 0 : read(dp->out, data, sizeof(data));
    if (n > 0) {
        shim_dep__say(dp, data, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        dp->watch = dbx_watch_free(dp->watch);
        dbx_closep(&dp->out);
        dp->text_ended = true;
        check_installed(dp);
    }
}

/* In the terminal's own words. */
static void install(struct shim_dep *dp)
{
    DBX_CLEANUP(dbx_freep) char *line = dbx_asprintf("exec 2>&1\n%s", dp->what.what->build);
    DBX_CLEANUP(dbx_freep) char *told = dbx_asprintf("$ %s\n", dp->what.what->build);
    char *const argv[] = {"/bin/bash", "-c", line, NULL};
    DBX_CLEANUP(dbx_closep) int inside = -1;
    shim_dep__say(dp, told, strlen(told));
    int r = make_pipe(&dp->out, &inside, &dp->err);
    if (r == 0) {
        (void)dbx_set_nonblock(dp->out, true);
        dp->watch = dbx_watch_new(dp->deps->opts.loop, dp->out, DBX_READ, on_output, dp);
        r = start(dp, argv, inside, &dp->err);
    }
    if (r < 0)
        shim_dep__done(dp);
}

static void on_files(uint64_t value, const struct dbx_err *err, void *user)
{
    struct shim_dep *dp = DBX_CAST(struct shim_dep, SHIM_DEP_MAGIC, user);
    (void)value;
    if (dp->over)
        ; /* given up meanwhile */
    else if (err)
        fail(dp, err->msg);
    else
        install(dp);
    shim_dep__unref(dp);
}

/* ---- its sandbox ---- */

static void on_started(struct shim_sandbox *sb, const struct shim_init_started *s, void *user)
{
    struct shim_dep *dp = DBX_CAST(struct shim_dep, SHIM_DEP_MAGIC, user);
    (void)sb;
    if (s->error && dbx_id_equal(&s->process, &dp->process))
        fail(dp, "the installer cannot be started");
}

static void on_exited(struct shim_sandbox *sb, const struct shim_init_exited *e, void *user)
{
    struct shim_dep *dp = DBX_CAST(struct shim_dep, SHIM_DEP_MAGIC, user);
    if (!dbx_id_equal(&e->process, &dp->process) || dp->exited)
        return;
    (void)shim_init_ack(shim_sandbox_init(sb), &e->process, e->phase);
    dp->exited = true;
    if (dp->installed) { /* tar: devbox-layer says what came of it, unless it broke off */
        if (e->signal || e->exit_code)
            fail(dp, "what was installed cannot be read");
        return;
    }
    dp->exit_code = e->signal ? 128 + e->signal : e->exit_code;
    check_installed(dp);
}

static void on_lost(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    struct shim_dep *dp = DBX_CAST(struct shim_dep, SHIM_DEP_MAGIC, user);
    (void)sb;
    dp->sb = NULL;
    dp->exit_code = -1;
    dp->err = *err;
    shim_dep__done(dp);
}

static const struct shim_sandbox_handlers handlers = {
    .on_lost = on_lost, .on_started = on_started, .on_exited = on_exited};

static void on_claimed(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    struct shim_dep *dp = DBX_CAST(struct shim_dep, SHIM_DEP_MAGIC, user);
    int r = 0;
    dp->claim = NULL;
    if (dp->over) {
        if (sb)
            shim_sandbox_end(sb);
        shim_dep__unref(dp);
        return;
    }
    dp->sb = sb;
    if (sb) {
        shim_sandbox_set_owner(sb, &handlers, dp);
        shim_sandbox_open_registry(sb);
        shim_sandbox_set_running(sb, true);
        r = shim_sandbox_set_limits(sb, MEMORY_MB, PROCESSES, &dp->err);
    } else {
        r = dbx_err_set(&dp->err, err->code, err->kind, "no sandbox: %s", err->msg);
    }
    if (r == 0)
        r = shim_init_files(shim_sandbox_init(sb), BND_WORK_DIR, BND_USER_UID, BND_USER_GID,
                            dp->what.files.data, dp->what.files.len, 0, on_files, dp);
    if (r == 0)
        dp->refs++; /* until its answer */
    else
        fail(dp, "init takes no files");
    shim_dep__unref(dp);
}

static void build(struct shim_dep *dp)
{
    const struct shim_claim_opts opts = {.template = dp->tpl->name,
                                         .disk_mb = SHIM_DEPS_DISK_MB,
                                         .memory_mb = MEMORY_MB,
                                         .processes = PROCESSES,
                                         .cpu_millis = CPU_MILLIS,
                                         .wait_ms = CLAIM_MS};
    dp->refs++; /* until it is answered */
    dp->claim = shim_pool_claim(dp->deps->opts.pool, &opts, on_claimed, dp);
}

/* ---- another node's ---- */

static void on_pulled(bool found, const char *sha256, void *user)
{
    struct shim_dep *dp = DBX_CAST(struct shim_dep, SHIM_DEP_MAGIC, user);
    dp->pull = NULL;
    if (!found) {
        dbx_closep(&dp->packed);
        build(dp);
    } else {
        (void)dbx_strcpy(dp->pulled, sizeof(dp->pulled), sha256);
        int r = lseek(dp->packed, 0, SEEK_SET) < 0 ? dbx_err_sys(&dp->err, "read it")
                                                   : spawn_tool(dp, dp->packed, -1, &dp->err);
        if (r < 0)
            build_after_all(dp);
    }
    shim_dep__unref(dp);
}

void shim_dep__begin(struct shim_dep *dp)
{
    struct bnd_layers *layers = dp->deps->opts.layers;
    if (!dp->deps->opts.share || bnd_layers_temp(layers, &dp->packed, NULL) < 0) {
        build(dp);
        return;
    }
    dp->refs++; /* until it is answered, or cancelled */
    dp->pull = shim_share_pull(dp->deps->opts.share, dp->what.key, dp->packed,
                               bnd_layers_room(layers), on_pulled, dp);
}
