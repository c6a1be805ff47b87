/* SPDX-License-Identifier: Apache-2.0 */
/* Making a sandbox: folders, cgroup, control socket, `runsc run --detach` (one start of the CLI
 * instead of the two of create and start), and then two events in either order: the CLI ends (the
 * sentry's pid is in a file, and the sentry is our child by then), and init says that it is ready.
 */
#include "shim/sandbox_int.h"

#include "bundles/bundles.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/io/loop.h"
#include "common/proto/limits.h"
#include "shim/init_client.h"
#include "shim/keeper_client.h"
#include "shim/launch.h"
#include "shim/reap.h"
#include "shim/registry.h"

#include <errno.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PARK_MS 8000 /* of the 10 s that provisioning may take */
#define MAX_RUNSC_LOG (256u << 10)

static char *path_in(const struct shim_sandbox *sb, const char *name)
{
    return dbx_asprintf("%s/%s", sb->dir, name);
}

/* ---- ready ---- */

static void on_sentry_exit(void *user, int events, int error)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    struct dbx_err err = {0};
    struct shim_sandbox_usage use;
    (void)events;
    (void)error;
    sb->exited = dbx_watch_free(sb->exited);
    shim_sandbox_usage(sb, &use);
    if (use.oom)
        dbx_err_set(&err, -ENOMEM, DBX_LIMIT, "the sandbox ran out of memory");
    else
        dbx_err_set(&err, -ECHILD, DBX_UNAVAIL, "the sandbox has ended");
    shim_sb__lose(sb, &err);
}

static void on_keeper_answer(const struct dbx_err *err, void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    if (err)
        shim_sb__lose(sb, err);
    shim_sb__unref(sb);
}

static int tell_keeper(struct shim_sandbox *sb, struct dbx_err *err)
{
    if (!sb->node->keeper)
        return 0;
    int r = shim_keeper_add_sandbox(sb->node->keeper, &sb->id, shim_init_fd(sb->init), -1,
                                    on_keeper_answer, sb);
    if (r < 0)
        return dbx_err_set(err, r, DBX_UNAVAIL, "hand the sandbox to the keeper: %s", strerror(-r));
    shim_sb__ref(sb); /* until the answer */
    sb->in_keeper = true;
    return 0;
}

static void check_ready(struct shim_sandbox *sb);

/* Without it the sandbox is as good, only slower. */
static void on_parked(uint64_t value, const struct dbx_err *err, void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    (void)value;
    sb->parking = false;
    sb->settled = true;
    if (err && err->code != -ECANCELED)
        dbx_log(DBX_LOG_WARN, &sb->log, "nothing is parked: %s", err->msg);
    check_ready(sb);
    shim_sb__unref(sb);
}

/* What it uses is the program's, when it becomes one: the runtime's own is noted before. */
static void park(struct shim_sandbox *sb)
{
    const struct bnd_template *tpl = sb->opts.tpl;
    struct init_rlimit rlimits[SHIM_LAUNCH_RLIMITS];
    char **env = shim_launch_parked_env(tpl);
    const struct shim_init_start req = {.argv = (char *const *)tpl->parked.start,
                                        .env = env,
                                        .cwd = tpl->parked.cwd,
                                        .uid = BND_USER_UID,
                                        .gid = BND_USER_GID,
                                        .umask = 022,
                                        .rlimits = rlimits,
                                        .n_rlimits = SHIM_LAUNCH_RLIMITS};
    shim_launch_rlimits(&dbx_limits_default, rlimits); /* most claims want no others */
    shim_sb__note_idle(sb);
    sb->parking = shim_init_park(sb->init, &req, PARK_MS, on_parked, sb) == 0;
    sb->settled = !sb->parking;
    shim_launch_env_free(env);
    if (sb->parking)
        shim_sb__ref(sb); /* until the answer */
}

static void check_ready(struct shim_sandbox *sb)
{
    struct dbx_err err = {0};
    if (sb->state != SHIM_SB_PROVISIONING || !sb->init_ready)
        return;
    if (sb->opts.tpl->parked.run && !sb->opts.plain && !sb->settled && !sb->parking)
        park(sb);
    if (!sb->sentry || sb->parking)
        return;
    if (tell_keeper(sb, &err) < 0)
        shim_sb__lose(sb, &err);
    else
        shim_sb__ready(sb);
}

/* ---- init speaks ---- */

static void on_init_ready(const struct init_ready *ready, void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    (void)ready; /* the client has checked it */
    sb->init_ready = true;
    check_ready(sb);
}

static void on_init_started(const struct shim_init_started *s, void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    if (sb->owner && sb->owner->on_started && sb->state < SHIM_SB_TERMINATING)
        sb->owner->on_started(sb, s, sb->owner_user);
}

static void on_init_exited(const struct shim_init_exited *e, void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    if (sb->owner && sb->owner->on_exited && sb->state < SHIM_SB_TERMINATING)
        sb->owner->on_exited(sb, e, sb->owner_user);
}

static void on_init_saw(const struct shim_init_saw *s, void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    if (sb->owner && sb->owner->on_saw && sb->state < SHIM_SB_TERMINATING)
        sb->owner->on_saw(sb, s, sb->owner_user);
}

/* While provisioning, the CLI knows better why. */
static void on_init_down(const struct dbx_err *why, void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    struct dbx_err err = {0};
    struct shim_sandbox_usage use;
    if (!why && sb->state == SHIM_SB_PROVISIONING && sb->cli)
        return;
    shim_sandbox_usage(sb, &use);
    if (use.oom)
        dbx_err_set(&err, -ENOMEM, DBX_LIMIT, "the sandbox ran out of memory");
    else if (why)
        err = *why;
    else
        dbx_err_set(&err, -ECHILD, DBX_UNAVAIL, "the sandbox has ended");
    shim_sb__lose(sb, &err);
}

/* ---- the way to the registry cache ---- */

static void on_init_wanted(uint32_t id, void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    DBX_CLEANUP(dbx_closep) int end = -1;
    if (sb->registry && shim_registry_connect(sb->registry, &end) < 0)
        end = -1;
    (void)shim_init_stream(sb->init, id, end); /* what is not sent is closed */
}

static void on_listening(uint64_t value, const struct dbx_err *err, void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    (void)value;
    if (err && err->code != -ECANCELED)
        dbx_log(DBX_LOG_WARN, &sb->log, "no way to the registry cache: %s", err->msg);
    shim_sb__unref(sb);
}

void shim_sandbox_open_registry(struct shim_sandbox *sb)
{
    struct shim_init *init = shim_sandbox_init(sb);
    if (!sb->node->registry_socket || !init || sb->registry)
        return;
    sb->registry = shim_registry_new(sb->node->loop, sb->node->registry_socket, &sb->log);
    if (shim_init_listen(init, BND_REGISTRY_PORT, on_listening, sb) == 0)
        shim_sb__ref(sb); /* until the answer */
}

static const struct shim_init_handlers init_handlers = {
    .on_ready = on_init_ready,
    .on_started = on_init_started,
    .on_exited = on_init_exited,
    .on_down = on_init_down,
    .on_saw = on_init_saw,
    .on_wanted = on_init_wanted,
};

/* ---- runsc ---- */

/* The last line of its log, which is JSON: {"msg":...,"level":...,"time":...}. */
static int explain(struct shim_sandbox *sb, int status, struct dbx_err *err)
{
    char words[64];
    DBX_CLEANUP(dbx_freep) char *path = path_in(sb, "log");
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    shim_status_words(status, words, sizeof(words));
    if (dbx_fs_read(path, MAX_RUNSC_LOG, &buf, NULL) == 0 && buf.len) {
        const char *text = dbx_buf_cstr(&buf);
        size_t end = buf.len;
        while (end && text[end - 1] == '\n')
            end--;
        size_t begin = end;
        while (begin && text[begin - 1] != '\n')
            begin--;
        const char *msg = NULL;
        if (dbx_json_parse(text + begin, end - begin, NULL, &doc, NULL) == 0)
            msg = dbx_json_get_str(dbx_json_root(doc), "msg");
        if (msg)
            return dbx_err_set(err, -EIO, DBX_INTERNAL, "runsc %s: %.180s", words, msg);
    }
    return dbx_err_set(err, -EIO, DBX_INTERNAL, "runsc %s", words);
}

static int read_pid(struct shim_sandbox *sb, pid_t *ret, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *path = path_in(sb, "pid");
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    uint64_t pid;
    int r = dbx_fs_read(path, 32, &buf, err);
    if (r < 0)
        return r;
    r = dbx_parse_u64(dbx_buf_cstr(&buf), buf.len, 2, INT32_MAX, &pid);
    if (r < 0)
        return dbx_err_set(err, r, DBX_INTERNAL, "runsc wrote no pid into %s", path);
    *ret = (pid_t)pid;
    return 0;
}

static int watch_sentry(struct shim_sandbox *sb, struct dbx_err *err)
{
    pid_t pid = 0;
    int r = read_pid(sb, &pid, err);
    if (r < 0)
        return r;
    sb->pidfd = pidfd_open(pid, 0);
    if (sb->pidfd < 0)
        return dbx_err_sys(err, "watch the sandbox's process %d", (int)pid);
    sb->sentry = pid;
    sb->exited = dbx_watch_new(sb->node->loop, sb->pidfd, DBX_READ, on_sentry_exit, sb);
    return 0;
}

static void on_found_gone(void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    if (sb->state < SHIM_SB_TERMINATING)
        on_sentry_exit(sb, 0, 0);
    shim_sb__unref(sb);
}

/* The process of that number may be another one by now: then it is not in the cgroup. */
void shim_sb__take_over(struct shim_sandbox *sb, int control, pid_t sentry)
{
    sb->sentry = sentry;
    sb->in_keeper = sb->node->keeper != NULL;
    sb->init_ready = true;
    sb->init = shim_init_new(sb->node->loop, control, &init_handlers, sb);
    sb->pidfd = pidfd_open(sentry, 0);
    if (sb->pidfd >= 0 && !shim_cgroup_has(sb->cg, sentry))
        dbx_closep(&sb->pidfd);
    if (sb->pidfd < 0)
        dbx_loop_defer(sb->node->loop, on_found_gone, shim_sb__ref(sb));
    else
        sb->exited = dbx_watch_new(sb->node->loop, sb->pidfd, DBX_READ, on_sentry_exit, sb);
}

static void on_cli_exit(pid_t pid, int status, void *user)
{
    struct shim_sandbox *sb = DBX_CAST(struct shim_sandbox, SHIM_SANDBOX_MAGIC, user);
    struct dbx_err err = {0};
    (void)pid;
    sb->cli = 0;
    if (sb->state == SHIM_SB_PROVISIONING) {
        int r = status ? explain(sb, status, &err) : watch_sentry(sb, &err);
        if (r < 0)
            shim_sb__lose(sb, &err);
        else
            check_ready(sb);
    }
    shim_sb__unref(sb);
}

static int make_bundle(struct shim_sandbox *sb, const char *overlay, struct dbx_err *err)
{
    const struct shim_sandbox_opts *o = &sb->opts;
    DBX_CLEANUP(dbx_freep) char *over = path_in(sb, "over");
    const struct bnd_spec_opts spec = {
        .id = sb->id_text,
        .image = o->tpl->image,
        .overlay_dir = overlay,
        .disk_bytes = o->disk_mb << 20,
        .shm_bytes =
            (o->memory_mb << 20) / 2, /* as Linux does it; the memory limit bounds it anyway */
        .init_dir = sb->node->init_dir,
        .layers_dir = sb->node->layers_dir,
        .over_dir = sb->node->layers_dir ? over : NULL,
        .cgroup_path = shim_cgroup_path(sb->cg),
        .caps = BND_CAPS_INIT,
    };
    int r = bnd_bundle_create(sb->dir, &spec, err);
    if (r == 0 && spec.over_dir)
        r = dbx_fs_mkdirs(over, 0700, err);
    return r < 0 ? r : dbx_fs_mkdirs(overlay, 0700, err);
}

static int run_cli(struct shim_sandbox *sb, const char *overlay, int control, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *root = shim_sb__runsc_root(sb->node);
    DBX_CLEANUP(dbx_freep) char *log = path_in(sb, "log");
    DBX_CLEANUP(dbx_freep) char *pid = path_in(sb, "pid");
    const struct bnd_runsc_opts opts = {
        .runsc = sb->node->runsc,
        .root = root,
        .log = log,
        .overlay_dir = overlay,
        .directfs = sb->node->layers_dir != NULL,
        .no_fast_path = sb->node->no_fast_path,
    };
    const char *const words[] = {"run",        "--detach", "--bundle",  sb->dir,
                                 "--pid-file", pid,        sb->id_text, NULL};
    DBX_CLEANUP(bnd_argv_freep) char **argv = bnd_runsc_args(&opts, words);
    if (sb->cli) {
        int r = shim_seat_tell(&sb->words, argv);
        return r < 0 ? dbx_err_set(err, r, DBX_INTERNAL, "tell who waits in the cgroup: %s",
                                   strerror(-r))
                     : 0;
    }
    const struct shim_spawn sp = {
        .shim_exec = sb->node->shim_exec,
        .cgroup_dirs = shim_cgroup_dirs(sb->cg),
        .fds = {control, -1, -1},
        .argv = argv,
    };
    int r = shim_spawn(sb->node->reaper, &sp, on_cli_exit, sb, &sb->cli, err);
    if (r == 0)
        shim_sb__ref(sb); /* until it is reaped */
    return r;
}

void shim_sb__seat(struct shim_sandbox *sb, const struct shim_seat *seat)
{
    sb->cg = seat->cg;
    sb->cli = seat->pid;
    sb->words = seat->words;
    sb->seat_control = seat->control;
    shim_reap(sb->node->reaper, seat->pid, on_cli_exit, shim_sb__ref(sb)); /* until it is reaped */
}

/* Ours, and what is to become init's: -1 where it has it already. */
static int take_control(struct shim_sandbox *sb, int ret[static 2], struct dbx_err *err)
{
    if (sb->seat_control < 0)
        return shim_init_socketpair(ret, err);
    ret[0] = sb->seat_control;
    sb->seat_control = -1;
    return 0;
}

int shim_sb__start(struct shim_sandbox *sb, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *overlay = path_in(sb, "overlay");
    DBX_CLEANUP(dbx_closep) int theirs = -1;
    const struct shim_cgroup_limits limits = {
        .memory_bytes = sb->opts.memory_mb << 20,
        .processes = sb->opts.processes,
    };
    int control[2] = {-1, -1};
    int r = sb->cg ? shim_cgroup_set(sb->cg, &limits, err)
                   : shim_cgroup_create(sb->node->cgroups, sb->id_text,
                                        sb->opts.weight == SHIM_WEIGHT_IDLE, &limits, &sb->cg, err);
    if (r == 0 && sb->opts.weight == SHIM_WEIGHT_IDLE)
        shim_sandbox_yield(sb);
    else if (r == 0 && sb->opts.weight != SHIM_WEIGHT_FULL)
        (void)shim_cgroup_set_weight(sb->cg, sb->opts.weight); /* a nicety */
    if (r == 0)
        r = make_bundle(sb, overlay, err);
    if (r == 0)
        r = take_control(sb, control, err);
    if (r < 0)
        return r;
    theirs = control[1];
    sb->init = shim_init_new(sb->node->loop, control[0], &init_handlers, sb);
    return run_cli(sb, overlay, theirs, err);
}
