/* SPDX-License-Identifier: Apache-2.0 */
/* An attempt: wait for an image, ask `runsc --version`, make a sandbox, run three scripts in it.
 * The sandbox's states have their deadlines; what runs has STEP_MS. A failure ends the attempt, and
 * the next follows after AGAIN_MS. */
#include "shim/probe.h"

#include "bundles/bundles.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "shim/init_client.h"
#include "shim/pool.h"
#include "shim/reap.h"
#include "shim/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define AGAIN_MS 10000
#define IMAGE_MS 250
#define STEP_MS 10000
#define DISK_MB 16
#define MAX_OUTPUT 4096

/* A sandbox that spins occupies two processors, one on each side of a system call. On so few it
 * takes them from itself: a parked Python's first byte came a quarter later, and programs used half
 * as much CPU again. */
#define FEW_CPUS 2

struct step {
    const char *what; /* in words, for when it fails */
    const char *script;
    const char *expect; /* must stand in the output */
    size_t flag;        /* in the result */
};

/* All through fds that were passed in: that the first works says that passing works. */
static const struct step steps[] = {
    {"run /bin/ls in a sandbox", "/bin/ls / && echo fine", "fine",
     offsetof(struct shim_probe_result, ls_works)},
    {"see a root made of the image",
     "test -d " BND_WORK_DIR " && test -x " BND_INIT_DIR "/init && echo fine", "fine",
     offsetof(struct shim_probe_result, root_erofs)},
    {"bound the disk of a sandbox",
     "head -c 4194304 /dev/zero > /tmp/a && echo small; head -c 33554432 /dev/zero > /tmp/b || "
     "echo full",
     "small\nfull", offsetof(struct shim_probe_result, overlay_bounded)},
};

struct shim_probe {
    struct shim_node *node; /* borrowed */
    struct bnd_store *store;
    struct shim_pool *pool;
    void (*on_change)(const struct shim_probe_result *r, void *user);
    void *user;
    struct shim_probe_result r;
    struct dbx_timer *timer;      /* owned: of what runs, or until the next attempt */
    struct shim_sandbox *sb;      /* until it is gone */
    bool asking;                  /* runsc for its version */
    int asked_status;             /* how that has ended */
    bool freed;                   /* by its owner: memory goes when nobody can call any more */
    void (*on_freed)(void *user); /* may be NULL */
    void *freed_user;
    int out;                    /* read end of what runs */
    struct dbx_watch *readable; /* owned */
    size_t step, len;
    char text[MAX_OUTPUT];
    uint64_t began_ms;
};

static void free_if_quiet(struct shim_probe *pb)
{
    if (!pb->freed || pb->sb || pb->asking)
        return;
    if (pb->on_freed)
        pb->on_freed(pb->freed_user);
    free(pb);
}

static void set_state(struct shim_probe *pb, enum shim_probe_state st, const char *words)
{
    bool same = pb->r.state == st && dbx_streq(pb->r.words, words);
    pb->r.state = st;
    (void)dbx_strcpy(pb->r.words, sizeof(pb->r.words), words);
    shim_pool_hold(pb->pool, st == SHIM_PROBE_OK ? NULL : pb->r.words);
    if (!same && pb->on_change)
        pb->on_change(&pb->r, pb->user);
}

static void close_output(struct shim_probe *pb)
{
    pb->readable = dbx_watch_free(pb->readable);
    dbx_closep(&pb->out);
    pb->out = -1;
}

static void succeed(struct shim_probe *pb)
{
    dbx_timer_stop(pb->timer);
    shim_sandbox_end(pb->sb);
    dbx_log(DBX_LOG_INFO, pb->node->log,
            "this node is fit: runsc %s, platform %s; descriptors pass, ls works, the root is the "
            "image's, disks are "
            "bounded (%d ms)",
            pb->r.runsc_version, pb->r.platform, (int)(dbx_now_ms() - pb->began_ms));
    set_state(pb, SHIM_PROBE_OK, "");
}

static void fail(struct shim_probe *pb, const char *what, const char *why)
{
    char words[sizeof(pb->r.words)];
    snprintf(words, sizeof(words), "cannot %s%s%s", what, why[0] ? ": " : "", why);
    close_output(pb);
    if (pb->sb)
        shim_sandbox_end(pb->sb);
    dbx_log(DBX_LOG_ERR, pb->node->log, "this node takes no work: %s", words);
    dbx_timer_start(pb->timer, AGAIN_MS, 0);
    set_state(pb, SHIM_PROBE_FAILED, words);
}

/* Reads what runs; true when it has ended. */
static bool read_output(struct shim_probe *pb)
{
    ssize_t n = read(pb->out, pb->text + pb->len, sizeof(pb->text) - 1 - pb->len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n > 0)
        pb->len += (size_t)n;
    pb->text[pb->len] = 0;
    if (n > 0 && pb->len < sizeof(pb->text) - 1)
        return false;
    close_output(pb);
    return true;
}

/* Its write end becomes the caller's. */
static int open_output(struct shim_probe *pb, dbx_watch_fn *fn, int *ret_write, struct dbx_err *err)
{
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return dbx_err_sys(err, "make a pipe");
    (void)fchmod(p[1], 0666);
    dbx_set_nonblock(p[0], true);
    pb->out = p[0];
    pb->len = 0;
    pb->text[0] = 0;
    pb->readable = dbx_watch_new(pb->node->loop, pb->out, DBX_READ, fn, pb);
    *ret_write = p[1];
    return 0;
}

/* ---- what runs in it ---- */

static void next_step(struct shim_probe *pb);

static void on_output(void *user, int events, int error)
{
    struct shim_probe *pb = user;
    (void)events;
    (void)error;
    if (!read_output(pb))
        return;
    const struct step *st = &steps[pb->step];
    if (!strstr(pb->text, st->expect)) {
        fail(pb, st->what, "it says something else than it should");
        return;
    }
    *(bool *)((char *)&pb->r + st->flag) = true;
    pb->r.fds_passed = true; /* its output came */
    pb->step++;
    next_step(pb);
}

static int begin_step(struct shim_probe *pb, struct dbx_err *err)
{
    const char *const argv[] = {"/bin/sh", "-c", steps[pb->step].script, NULL};
    DBX_CLEANUP(dbx_closep) int theirs = -1;
    int r = open_output(pb, on_output, &theirs, err);
    if (r < 0)
        return r;
    const struct shim_init_start req = {
        .process = dbx_id_new(),
        .argv = (char *const *)argv,
        .env = (char *const *)shim_sandbox_template(pb->sb)->env,
        .cwd = "/",
        .uid = BND_USER_UID,
        .gid = BND_USER_GID,
        .umask = 022,
        .fds = {-1, theirs, -1},
    };
    r = shim_init_start(shim_sandbox_init(pb->sb), &req);
    if (r < 0)
        return dbx_err_set(err, r, DBX_INTERNAL, "%s", strerror(-r));
    dbx_timer_start(pb->timer, STEP_MS, 0);
    return 0;
}

static void next_step(struct shim_probe *pb)
{
    struct dbx_err err = {0};
    if (pb->step == DBX_ARRAY_LEN(steps))
        succeed(pb);
    else if (begin_step(pb, &err) < 0)
        fail(pb, steps[pb->step].what, err.msg);
}

/* ---- the sandbox ---- */

static void on_ready(struct shim_sandbox *sb, void *user)
{
    struct shim_probe *pb = user;
    pb->r.init_ready = true;
    shim_sandbox_assign(sb, 0, false);
    next_step(pb);
}

static void on_lost(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    struct shim_probe *pb = user;
    (void)sb;
    if (!pb->freed)
        fail(pb, pb->r.init_ready ? "keep a sandbox" : "make a sandbox", err->msg);
}

static void on_gone(struct shim_sandbox *sb, void *user)
{
    struct shim_probe *pb = user;
    (void)sb;
    pb->sb = NULL;
    free_if_quiet(pb);
}

static const struct shim_sandbox_handlers handlers = {
    .on_ready = on_ready, .on_lost = on_lost, .on_gone = on_gone};

static const struct bnd_template *first_image(const struct shim_probe *pb)
{
    for (size_t i = 0; i < bnd_store_count(pb->store); i++)
        if (bnd_store_at(pb->store, i)->image)
            return bnd_store_at(pb->store, i);
    return NULL;
}

static void make_sandbox(struct shim_probe *pb)
{
    const struct shim_sandbox_opts opts = {
        .tpl = first_image(pb), .disk_mb = DISK_MB, .memory_mb = 256, .processes = 64};
    pb->step = 0;
    dbx_timer_stop(pb->timer); /* the sandbox has its own deadline */
    if (opts.tpl)
        pb->sb = shim_sandbox_create(pb->node, &opts, &handlers, pb);
    else
        fail(pb, "make a sandbox", "its image has gone");
}

/* ---- runsc itself ---- */

static int ask_version(struct shim_probe *pb, struct dbx_err *err);

/* An older one does not know the flag. */
static void ask_without(struct shim_probe *pb)
{
    struct dbx_err err = {0};
    pb->node->no_fast_path = false;
    if (ask_version(pb, &err) < 0)
        fail(pb, "start runsc", err.msg);
}

/* When it has said all and has ended. "runsc version 20260905\nspec: 1.2.1\n" */
static void judge_version(struct shim_probe *pb)
{
    static const char head[] = "runsc version ";
    char words[64];
    if (pb->asking || pb->readable || pb->r.state != SHIM_PROBE_RUNNING)
        return;
    if (pb->asked_status && pb->node->no_fast_path) {
        ask_without(pb);
        return;
    }
    if (pb->asked_status) {
        shim_status_words(pb->asked_status, words, sizeof(words));
        fail(pb, "use runsc: it", words);
        return;
    }
    if (!dbx_starts_with(pb->text, head)) {
        fail(pb, "ask runsc for its version", "it says something else");
        return;
    }
    const char *version = pb->text + sizeof(head) - 1;
    size_t len = strcspn(version, "\n");
    snprintf(pb->r.runsc_version, sizeof(pb->r.runsc_version), "%.*s", (int)len, version);
    make_sandbox(pb);
}

static void on_version(void *user, int events, int error)
{
    struct shim_probe *pb = user;
    (void)events;
    (void)error;
    if (read_output(pb))
        judge_version(pb);
}

static void on_version_exit(pid_t pid, int status, void *user)
{
    struct shim_probe *pb = user;
    (void)pid;
    pb->asking = false;
    pb->asked_status = status;
    if (pb->freed)
        free_if_quiet(pb);
    else
        judge_version(pb);
}

static void read_platform(struct shim_probe *pb, char *const *argv)
{
    static const char flag[] = "--platform";
    const size_t len = sizeof(flag) - 1;
    for (; *argv; argv++) {
        const char *value = NULL;
        if (strcmp(*argv, flag) == 0)
            value = argv[1];
        else if (strncmp(*argv, flag, len) == 0 && (*argv)[len] == '=')
            value = *argv + len + 1;
        if (value)
            (void)dbx_strcpy(pb->r.platform, sizeof(pb->r.platform), value);
    }
}

static int ask_version(struct shim_probe *pb, struct dbx_err *err)
{
    const struct bnd_runsc_opts opts = {
        .runsc = pb->node->runsc, .root = pb->node->state_dir, .overlay_dir = pb->node->state_dir};
    const char *const none[] = {NULL};
    DBX_CLEANUP(bnd_argv_freep) char **flags = bnd_runsc_args(&opts, none);
    DBX_CLEANUP(dbx_closep) int theirs = -1;
    char version[] = "--version", flag[] = "--systrap-disable-fast-path=true";
    char *argv[] = {(char *)pb->node->runsc, version, pb->node->no_fast_path ? flag : NULL, NULL};
    pid_t pid;
    read_platform(pb, flags);
    int r = open_output(pb, on_version, &theirs, err);
    if (r < 0)
        return r;
    const struct shim_spawn sp = {
        .shim_exec = pb->node->shim_exec, .fds = {-1, theirs, -1}, .argv = argv};
    r = shim_spawn(pb->node->reaper, &sp, on_version_exit, pb, &pid, err);
    pb->asking = r == 0;
    return r;
}

static void attempt(struct shim_probe *pb)
{
    struct dbx_err err = {0};
    if (pb->sb || pb->asking) { /* of the last attempt, on its way out */
        dbx_timer_start(pb->timer, IMAGE_MS, 0);
        return;
    }
    if (!first_image(pb)) {
        set_state(pb, SHIM_PROBE_WAITING, "no image of a template is built yet");
        dbx_timer_start(pb->timer, IMAGE_MS, 0);
        return;
    }
    pb->r = (struct shim_probe_result){.state = pb->r.state};
    pb->node->no_fast_path = sysconf(_SC_NPROCESSORS_ONLN) <= FEW_CPUS;
    pb->began_ms = dbx_now_ms();
    set_state(pb, SHIM_PROBE_RUNNING, "the node is being probed");
    dbx_timer_start(pb->timer, STEP_MS, 0);
    if (ask_version(pb, &err) < 0)
        fail(pb, "start runsc", err.msg);
}

static void on_timer(void *user)
{
    struct shim_probe *pb = user;
    if (pb->r.state != SHIM_PROBE_RUNNING)
        attempt(pb);
    else
        fail(pb, pb->sb ? steps[pb->step].what : "ask runsc for its version", "it took too long");
}

/* ---- the face ---- */

struct shim_probe *shim_probe_new(struct shim_node *node, struct bnd_store *store,
                                  struct shim_pool *pool,
                                  void (*on_change)(const struct shim_probe_result *r, void *user),
                                  void *user)
{
    struct shim_probe *pb = DBX_NEW(struct shim_probe);
    *pb = (struct shim_probe){.node = node,
                              .store = store,
                              .pool = pool,
                              .on_change = on_change,
                              .user = user,
                              .out = -1};
    (void)dbx_strcpy(pb->r.words, sizeof(pb->r.words), "the node has not been probed yet");
    shim_pool_hold(pool, pb->r.words);
    pb->timer = dbx_timer_new(node->loop, on_timer, pb);
    dbx_timer_start(pb->timer, 0, 0);
    return pb;
}

struct shim_probe *shim_probe_free(struct shim_probe *pb)
{
    if (!pb)
        return NULL;
    close_output(pb);
    pb->timer = dbx_timer_free(pb->timer);
    pb->freed = true;
    if (pb->sb)
        shim_sandbox_end(pb->sb);
    free_if_quiet(pb);
    return NULL;
}

void shim_probe_end(struct shim_probe *pb, void (*on_freed)(void *user), void *user)
{
    if (!pb) {
        on_freed(user);
        return;
    }
    pb->on_freed = on_freed;
    pb->freed_user = user;
    (void)shim_probe_free(pb);
}

const struct shim_probe_result *shim_probe_result(const struct shim_probe *pb)
{
    return &pb->r;
}
