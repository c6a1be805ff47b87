/* SPDX-License-Identifier: Apache-2.0 */
/* devbox-runtime-check: real sandboxes on this machine, one after another and many at once, through
 * the same code as the shim. Prints one line a check ("ok ..." or "FAILED ...") and numbers ("ms
 * NAME VALUE"); exits 0 when all are ok. It leaves nothing behind; tests/system/test_runtime.py
 * looks whether that is so. */
#include "bundles/bundles.h"
#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "shim/cgroup.h"
#include "shim/init_client.h"
#include "shim/pool.h"
#include "shim/probe.h"
#include "shim/reap.h"
#include "shim/seat.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct config {
    char *runsc, *shim_exec, *init_dir, *cache, *templates, *state_dir, *cgroup;
    uint64_t count;
};
#define F(field, type_, def_, doc_)                                                                \
    {                                                                                              \
        .name = #field, .type = type_, .offset = offsetof(struct config, field), .def = def_,      \
        .min = 1, .max = 1000, .doc = doc_                                                         \
    }
static const struct dbx_config_field fields[] = {
    F(runsc, DBX_CONFIG_PATH, "", "The runsc to use."),
    F(shim_exec, DBX_CONFIG_PATH, "", "Path of devbox-shim-exec."),
    F(init_dir, DBX_CONFIG_PATH, "", "Folder that holds the program init."),
    F(cache, DBX_CONFIG_PATH, "", "Folder of the images."),
    F(templates, DBX_CONFIG_PATH, "", "Folder of the templates."),
    F(state_dir, DBX_CONFIG_PATH, "", "Folder to work in."),
    F(cgroup, DBX_CONFIG_STRING, "devbox-runtime-check", "Base of the cgroups."),
    F(count, DBX_CONFIG_U64, "20", "How many sandboxes."),
};

struct check {
    struct config cfg;
    struct dbx_loop *loop;
    struct shim_node node;
    struct bnd_store *store;
    struct dbx_timer *deadline;
    bool late, swept, drained, reaped;
    int status; /* of who was reaped */
    int failures;
    struct shim_sandbox *claimed; /* the last that was given */
    struct dbx_err claim_err;
    bool answered;
};
static struct check ck;

static void say(bool ok, const char *what, const char *more)
{
    printf("%s %s%s%s\n", ok ? "ok" : "FAILED", what, more[0] ? ": " : "", more);
    fflush(stdout);
    ck.failures += !ok;
}

static void on_late(void *user)
{
    (void)user;
    ck.late = true;
    dbx_loop_stop(ck.loop, 0);
}

static void wake(void)
{
    dbx_loop_stop(ck.loop, 0);
}

/* Runs the loop until *flag; false after ms. */
static bool wait_for(const bool *flag, uint64_t ms)
{
    ck.late = false;
    dbx_timer_start(ck.deadline, ms, 0);
    while (!*flag && !ck.late)
        dbx_loop_run(ck.loop);
    dbx_timer_stop(ck.deadline);
    return *flag;
}

/* ---- one sandbox as its owner sees it ---- */

struct box {
    struct shim_sandbox *sb;
    bool ready, lost, gone, started, exited;
    int exit_code, signal, error;
    struct dbx_err why;
};

static void on_ready(struct shim_sandbox *sb, void *user)
{
    (void)sb;
    ((struct box *)user)->ready = true;
    wake();
}

static void on_lost(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    struct box *b = user;
    (void)sb;
    b->lost = b->exited = b->ready = true;
    b->why = *err;
    wake();
}

static void on_gone(struct shim_sandbox *sb, void *user)
{
    (void)sb;
    ((struct box *)user)->gone = true;
    wake();
}

static void on_started(struct shim_sandbox *sb, const struct shim_init_started *s, void *user)
{
    struct box *b = user;
    (void)sb;
    b->started = true;
    b->error = s->error;
    b->exited = b->exited || s->error;
    wake();
}

static void on_exited(struct shim_sandbox *sb, const struct shim_init_exited *e, void *user)
{
    struct box *b = user;
    b->exited = true;
    b->exit_code = e->exit_code;
    b->signal = e->signal;
    (void)shim_init_ack(shim_sandbox_init(sb), &e->process, e->phase);
    wake();
}

static const struct shim_sandbox_handlers handlers = {.on_ready = on_ready,
                                                      .on_lost = on_lost,
                                                      .on_gone = on_gone,
                                                      .on_started = on_started,
                                                      .on_exited = on_exited};

static void run(struct box *b, const char *const *argv, char *out, size_t size)
{
    int p[2];
    const struct bnd_template *tpl = shim_sandbox_template(b->sb);
    static const struct init_rlimit nproc = {.resource = RLIMIT_NPROC, .soft = 64, .hard = 64};
    b->started = b->exited = false;
    b->exit_code = -1;
    b->signal = b->error = 0;
    out[0] = 0;
    if (pipe2(p, O_CLOEXEC) < 0)
        return;
    (void)fchmod(p[1], 0666);
    struct shim_init_start req = {.process = dbx_id_new(),
                                  .argv = (char *const *)argv,
                                  .env = (char *const *)tpl->env,
                                  .cwd = BND_WORK_DIR,
                                  .uid = BND_USER_UID,
                                  .gid = BND_USER_GID,
                                  .umask = 022,
                                  .rlimits = &nproc,
                                  .n_rlimits = 1,
                                  .fds = {-1, p[1], -1}};
    int r = shim_init_start(shim_sandbox_init(b->sb), &req);
    dbx_close(p[1]);
    if (r == 0)
        (void)wait_for(&b->exited, 20000);
    ssize_t n = b->exited && !b->lost ? read(p[0], out, size - 1) : 0;
    out[n > 0 ? n : 0] = 0;
    dbx_close(p[0]);
}

static void end(struct box *b)
{
    shim_sandbox_end(b->sb);
    if (!wait_for(&b->gone, 15000))
        say(false, "teardown", "not gone within 15 s");
}

static const struct bnd_template *python(void)
{
    return bnd_template_find(ck.store, "python");
}

static bool make(struct box *b, uint64_t disk_mb)
{
    const struct shim_sandbox_opts opts = {
        .tpl = python(), .disk_mb = disk_mb, .memory_mb = 288, .processes = 64};
    *b = (struct box){0};
    b->sb = shim_sandbox_create(&ck.node, &opts, &handlers, b);
    if (!wait_for(&b->ready, 15000) || b->lost) {
        say(false, "create", b->lost ? b->why.msg : "not ready within 15 s");
        return false;
    }
    shim_sandbox_assign(b->sb, 0, false);
    shim_sandbox_set_owner(b->sb, &handlers, b);
    return true;
}

/* ---- the checks ---- */

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void numbers(const char *name, uint64_t *v, size_t n)
{
    qsort(v, n, sizeof(*v), by_value);
    printf("ms %s p50 %" PRIu64 " p90 %" PRIu64 " max %" PRIu64 "\n", name, v[n / 2], v[n * 9 / 10],
           v[n - 1]);
}

static void check_one_by_one(void)
{
    uint64_t start[1000], stop[1000];
    static const char *const hello[] = {"python3", "-c", "print(6*7)", NULL};
    size_t n = ck.cfg.count, good = 0;
    char out[64];
    for (size_t i = 0; i < n; i++) {
        struct box b;
        struct shim_sandbox_usage use;
        if (!make(&b, 64))
            return;
        start[i] = shim_sandbox_ready_ms(b.sb);
        struct dbx_err err = {0};
        if (shim_sandbox_set_limits(b.sb, 256, 64, &err) < 0)
            say(false, "set limits", err.msg);
        run(&b, hello, out, sizeof(out));
        shim_sandbox_usage(b.sb, &use);
        good += dbx_streq(out, "42\n") && b.exit_code == 0 && use.cpu_ms > 0 && use.cpu_ms < 5000 &&
                use.memory_peak_bytes > 0 && use.memory_peak_bytes < (100 << 20) && !use.oom;
        if (i == 0)
            printf("first cpu_ms %" PRId64 " peak %" PRId64 " bytes\n", use.cpu_ms,
                   use.memory_peak_bytes);
        uint64_t t0 = dbx_now_ms();
        end(&b);
        stop[i] = dbx_now_ms() - t0;
    }
    numbers("create", start, n);
    numbers("teardown", stop, n);
    say(good == n, "python ran in each, one by one", "");
}

static void check_memory(void)
{
    static const char *const fits[] = {"python3", "-c", "b=bytearray(100<<20); print(len(b))",
                                       NULL};
    static const char *const exceeds[] = {"python3", "-c", "b=bytearray(200<<20); print(len(b))",
                                          NULL};
    static const char *const disk[] = {
        "python3", "-c",
        "f=open('/tmp/x','wb')\nfor i in range(400): f.write(b'x'*(1<<20))\nprint('wrote')", NULL};
    struct box b;
    struct shim_sandbox_usage use;
    struct dbx_err err = {0};
    char out[64], text[128];
    if (!make(&b, 512))
        return;
    bool set = shim_sandbox_set_limits(b.sb, 128, 64, &err) == 0;
    run(&b, fits, out, sizeof(out));
    shim_sandbox_usage(b.sb, &use);
    snprintf(text, sizeof(text), "exit %d, peak %" PRId64 " MiB, oom %d", b.exit_code,
             use.memory_peak_bytes >> 20, use.oom);
    say(set && b.exit_code == 0 && !use.oom && use.memory_peak_bytes > (100 << 20) &&
            use.memory_peak_bytes < (128 << 20),
        "100 MiB of 128 can be had, and are measured", text);
    set = shim_sandbox_set_limits(b.sb, 64, 64, &err) == 0;
    run(&b, disk, out, sizeof(out));
    shim_sandbox_usage(b.sb, &use);
    snprintf(text, sizeof(text), "exit %d, peak %" PRId64 " MiB, oom %d %.60s", b.exit_code,
             use.memory_peak_bytes >> 20, use.oom, err.msg);
    say(set && b.exit_code == 0 && !use.oom && use.memory_peak_bytes < (64 << 20),
        "400 MiB on the disk are not memory", text);
    set = shim_sandbox_set_limits(b.sb, 128, 64, &err) == 0;
    run(&b, exceeds, out, sizeof(out));
    shim_sandbox_usage(b.sb, &use);
    snprintf(text, sizeof(text), "exit %d, signal %d, lost %d, oom %d", b.exit_code, b.signal,
             b.lost, use.oom);
    say(set && b.exit_code != 0 && use.oom, "200 MiB of 128 cannot", text);
    end(&b);
}

static void check_death(void)
{
    struct box b;
    if (!make(&b, 64))
        return;
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    DBX_CLEANUP(dbx_freep)
    char *path = dbx_asprintf("%s/sandboxes/%s/pid", ck.node.state_dir, shim_sandbox_id_text(b.sb));
    uint64_t pid = 0;
    if (dbx_fs_read(path, 32, &buf, NULL) < 0 ||
        dbx_parse_u64(dbx_buf_cstr(&buf), buf.len, 2, INT32_MAX, &pid) < 0) {
        say(false, "death", "no pid");
        return;
    }
    kill((pid_t)pid, SIGKILL);
    say(wait_for(&b.lost, 5000), "a sandbox that is killed is lost at once", b.why.msg);
    say(wait_for(&b.gone, 10000), "and goes by itself", "");
}

/* Ended in the middle of being made, at different moments. */
static void check_early_end(void)
{
    size_t gone = 0;
    for (int i = 0; i < 8; i++) {
        struct box b = {0};
        bool never = false;
        const struct shim_sandbox_opts opts = {
            .tpl = python(), .disk_mb = 64, .memory_mb = 288, .processes = 64};
        b.sb = shim_sandbox_create(&ck.node, &opts, &handlers, &b);
        (void)wait_for(&never, (uint64_t)i * 20 + 1);
        shim_sandbox_end(b.sb);
        gone += wait_for(&b.gone, 15000);
    }
    say(gone == 8, "sandboxes ended while they were made are gone", "");
}

static void check_bad_runsc(void)
{
    struct box b = {0};
    struct shim_node node = ck.node;
    struct bnd_template broken = *python();
    const struct shim_sandbox_opts opts = {
        .tpl = &broken, .disk_mb = 64, .memory_mb = 288, .processes = 64};
    broken.image = "/dev/null";
    b.sb = shim_sandbox_create(&node, &opts, &handlers, &b);
    say(wait_for(&b.lost, 15000), "an image that is none is told of", b.why.msg);
    say(wait_for(&b.gone, 15000), "and leaves nothing", "");
    b = (struct box){0};
    node.runsc = "/nonexistent/runsc";
    broken.image = python()->image;
    b.sb = shim_sandbox_create(&node, &opts, &handlers, &b);
    say(wait_for(&b.lost, 15000), "a runsc that is none is told of", b.why.msg);
    (void)wait_for(&b.gone, 15000);
}

static void on_claimed(struct shim_sandbox *sb, const struct dbx_err *err, void *user)
{
    struct box *b = user;
    ck.answered = true;
    ck.claimed = sb;
    ck.claim_err = err ? *err : (struct dbx_err){0};
    if (sb) {
        b->sb = sb;
        shim_sandbox_set_owner(sb, &handlers, b);
    }
    wake();
}

static void on_drained(void *user)
{
    (void)user;
    ck.drained = true;
    wake();
}

static void on_pool(void *user)
{
    (void)user;
    wake();
}

static uint32_t warm(struct shim_pool *pool)
{
    struct shim_pool_counts c;
    uint32_t n = 0;
    shim_pool_counts(pool, &c);
    for (size_t i = 0; i < c.n_templates; i++)
        n += strcmp(c.templates[i].name, "python") == 0 ? c.templates[i].warm : 0;
    return n;
}

static bool wait_warm(struct shim_pool *pool, uint32_t n, uint64_t ms)
{
    ck.late = false;
    dbx_timer_start(ck.deadline, ms, 0);
    while (warm(pool) < n && !ck.late)
        dbx_loop_run(ck.loop);
    dbx_timer_stop(ck.deadline);
    return warm(pool) >= n;
}

/* With the images of one template only, or less is warm than is waited for. */
static void check_pool(void)
{
    static const char *const yes[] = {"/bin/true", NULL};
    uint32_t n = (uint32_t)ck.cfg.count;
    struct shim_pool *pool = shim_pool_new(&(struct shim_pool_opts){
        .node = &ck.node, .store = ck.store, .max_sandboxes = n + 8, .warm = (int32_t)n});
    shim_pool_on_change(pool, on_pool, NULL);
    struct shim_probe *pb = shim_probe_new(&ck.node, ck.store, pool, NULL, NULL);
    shim_pool_start(pool);
    const struct shim_probe_result *pr = shim_probe_result(pb);
    uint64_t give_up = dbx_now_ms() + 20000;
    while (pr->state != SHIM_PROBE_OK && pr->state != SHIM_PROBE_FAILED && dbx_now_ms() < give_up) {
        bool never = false;
        (void)wait_for(&never, 20);
    }
    say(pr->state == SHIM_PROBE_OK, "the probe is content",
        pr->state == SHIM_PROBE_OK ? pr->runsc_version : pr->words);
    uint64_t t0 = dbx_now_ms();
    bool filled = wait_warm(pool, n, 60000);
    uint64_t took = dbx_now_ms() - t0;
    say(filled, "the pool fills", "");
    printf("ms fill of %u took %" PRIu64 " (%.1f a second)\n", n, took,
           took ? n * 1000.0 / (double)took : 0);
    size_t good = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct box b = {0};
        char out[8];
        ck.answered = false;
        (void)shim_pool_claim(pool, &(struct shim_claim_opts){.template = "python"}, on_claimed,
                              &b);
        if (!wait_for(&ck.answered, 10000) || !ck.claimed) {
            say(false, "claim", ck.claim_err.msg);
            continue;
        }
        run(&b, yes, out, sizeof(out));
        good += b.exited && b.exit_code == 0;
        end(&b);
    }
    say(good == n, "each claim got one that works", "");
    shim_probe_free(pb);
    ck.drained = false;
    shim_pool_drain(pool, on_drained, NULL);
    t0 = dbx_now_ms();
    say(wait_for(&ck.drained, 30000), "the pool drains", "");
    printf("ms drain took %" PRIu64 "\n", dbx_now_ms() - t0);
    shim_pool_free(pool);
}

static void on_swept(const struct dbx_err *err, void *user)
{
    (void)user;
    ck.swept = true;
    say(!err, "sweep", err ? err->msg : "");
    wake();
}

static void sweep(void)
{
    ck.swept = false;
    shim_sandbox_sweep(&ck.node, on_swept, NULL);
    if (!wait_for(&ck.swept, 35000))
        say(false, "sweep", "did not end");
}

static size_t count_fds(void)
{
    size_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

/* What a shim that was killed leaves: a running sandbox that nobody knows any more. */
static void check_sweep(void)
{
    struct box b;
    if (!make(&b, 64))
        return;
    sweep();
    say(wait_for(&b.lost, 5000), "what an earlier shim left is ended", b.why.msg);
    (void)wait_for(&b.gone, 10000);
}

static void on_reaped(pid_t pid, int status, void *user)
{
    (void)pid;
    (void)user;
    ck.reaped = true;
    ck.status = status;
    wake();
}

static void on_seats_ended(void *user)
{
    (void)user;
    ck.drained = true;
    wake();
}

/* All of it again, in cgroups that were made ahead. Who waits in one and is ended is replaced. */
static void check_seats(void)
{
    struct shim_seat seat = {0};
    bool never = false;
    ck.node.seats = shim_seats_new(&ck.node, 2);
    for (int i = 0; i < 1000 && !shim_seats_take(ck.node.seats, &seat); i++)
        (void)wait_for(&never, 10);
    say(seat.pid > 0, "a cgroup is made ahead", "");
    if (seat.pid <= 0)
        return;
    ck.reaped = false;
    shim_reap(ck.node.reaper, seat.pid, on_reaped, NULL);
    int r = shim_seat_tell(&seat.words, (char *const[]){NULL});
    say(r == 0 && wait_for(&ck.reaped, 10000) && ck.status == 0, "who is told nothing ends", "");
    dbx_close(seat.control);
    say(shim_cgroup_remove(seat.cg) == 0, "and its cgroup can be removed", "");
    shim_cgroup_free(seat.cg);
    check_one_by_one();
    check_early_end();
    check_pool();
    ck.drained = false;
    shim_seats_end(ck.node.seats, on_seats_ended, NULL);
    say(wait_for(&ck.drained, 10000), "those that nobody took are gone", "");
    ck.node.seats = shim_seats_free(ck.node.seats);
}

static int set_up(struct dbx_err *err)
{
    struct shim_reaper *reaper = NULL;
    struct shim_cgroups *cgroups = NULL;
    int r = bnd_store_open(ck.cfg.cache, ck.cfg.templates, &ck.store, err);
    if (r == 0 && !python()->image)
        r = dbx_err_set(err, -ENOENT, DBX_NOT_FOUND, "there is no image of python in %s",
                        ck.cfg.cache);
    if (r == 0)
        r = shim_reaper_new(ck.loop, &reaper, err);
    if (r == 0)
        r = shim_cgroups_open(&(struct shim_cgroups_opts){.base = ck.cfg.cgroup, .move_self = true},
                              &cgroups, err);
    ck.node = (struct shim_node){.loop = ck.loop,
                                 .reaper = reaper,
                                 .cgroups = cgroups,
                                 .state_dir = ck.cfg.state_dir,
                                 .runsc = ck.cfg.runsc,
                                 .shim_exec = ck.cfg.shim_exec,
                                 .init_dir = ck.cfg.init_dir};
    return r;
}

int main(int argc, char **argv)
{
    struct dbx_err err = {0};
    bool go = true;
    if (dbx_config_load(&ck.cfg, fields, DBX_ARRAY_LEN(fields), "runtime-check",
                        "Checks sandboxes on this machine.", argc, argv, &go, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 2;
    }
    if (!go)
        return 0;
    dbx_log_init("runtime-check", "logfmt", DBX_LOG_INFO);
    ck.loop = dbx_loop_new();
    ck.deadline = dbx_timer_new(ck.loop, on_late, NULL);
    if (set_up(&err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 2;
    }
    sweep();
    size_t fds = count_fds();
    check_one_by_one();
    check_memory();
    check_death();
    check_early_end();
    check_bad_runsc();
    check_pool();
    check_seats();
    check_sweep();
    say(count_fds() == fds, "no descriptor is left open", "");
    shim_sandbox_release(&ck.node);
    shim_cgroups_prune(ck.node.cgroups);
    dbx_timer_free(ck.deadline);
    dbx_loop_free(ck.loop);
    shim_reaper_free(ck.node.reaper);
    shim_cgroups_free(ck.node.cgroups);
    bnd_store_free(ck.store);
    dbx_config_done(&ck.cfg, fields, DBX_ARRAY_LEN(fields));
    return ck.failures ? 1 : 0;
}
