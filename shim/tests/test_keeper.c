/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper in a child, over both pumps, and the shim's client against it. */
#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/rand.h"
#include "common/io/loop.h"
#include "shim/keeper.h"
#include "shim/keeper_client.h"
#include "shim/tests/keeper_test.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define DEADLINE_MS 60000
#define HUNDRED_MB (100u << 20)
#define LIVES 20

static char dir[] = "/tmp/devbox-keeper-XXXXXX", path[64];

struct shim {
    struct dbx_loop *loop;
    struct shim_keeper *sk;
    struct shim_kept *kept;
    struct dbx_timer *deadline;
    uint64_t seen[2];
    bool up, right, ended[2], hold;
    int sandboxes, processes, downs, refused;
    int tell; /* a byte for every quarter MB, or -1 */
};

/* --- the keeper's process --- */

static void on_term(void *user)
{
    dbx_loop_stop(user, 0);
}

static pid_t keeper_spawn(const char *pump, int *ret_ready)
{
    int ready[2];
    CHECK_EQ(pipe(ready), 0);
    pid_t pid = fork();
    if (pid != 0) {
        close(ready[1]);
        *ret_ready = ready[0];
        return pid;
    }
    struct dbx_err err = {0};
    struct keeper *k;
    struct dbx_loop *loop = dbx_loop_new();
    struct keeper_opts opts = {
        .loop = loop, .socket = path, .pump = pump, .max_processes = 8, .max_sandboxes = 4};
    if (keeper_new(&opts, &k, &err) < 0) {
        fprintf(stderr, "keeper: %s\n", err.msg);
        _exit(err.kind == DBX_UNAVAIL ? 77 : 1);
    }
    dbx_loop_on_terminate(loop, on_term, loop);
    close(ready[0]);
    if (write(ready[1], "r", 1) != 1)
        _exit(1);
    int r = dbx_loop_run(loop);
    keeper_free(k);
    dbx_loop_free(loop);
    exit(r); /* with the sanitizer's check for leaks */
}

/* False when this pump does not work on this kernel. */
static bool keeper_start(const char *pump, pid_t *ret)
{
    int ready;
    char c;
    pid_t pid = keeper_spawn(pump, &ready);
    ssize_t n = read(ready, &c, 1);
    close(ready);
    if (n == 1) {
        *ret = pid;
        return true;
    }
    CHECK_EQ(wait_exit(pid), 77);
    return false;
}

static void keeper_end(pid_t pid)
{
    CHECK_EQ(kill(pid, SIGTERM), 0);
    CHECK_EQ(wait_exit(pid), 0);
}

/* --- the shim's side --- */

static bool on_stream(struct shim_kept *p, struct shim_stream *s, void *user)
{
    struct shim *t = user;
    int i = shim_stream_index(s);
    size_t n;
    (void)p;
    if (t->hold)
        return false;
    const uint8_t *data = shim_stream_peek(s, &n);
    t->right = t->right && pattern_is(data, n, shim_stream_next(s));
    if (t->tell >= 0 && (t->seen[i] ^ (t->seen[i] + n)) >> 18)
        (void)!write(t->tell, "q", 1);
    t->seen[i] += n;
    shim_stream_consume(s, n);
    if (shim_stream_at_eof(s)) {
        t->ended[i] = true;
        if (t->ended[0] && t->ended[1])
            dbx_loop_stop(t->loop, 0);
    }
    return true;
}

static void on_sandbox(const struct dbx_id *id, int control, int state, void *user)
{
    struct shim *t = user;
    (void)id;
    CHECK(control >= 0);
    CHECK(state < 0);
    dbx_close(control);
    t->sandboxes++;
}

static void on_process(struct shim_kept *p, void *user)
{
    struct shim *t = user;
    t->processes++;
    t->kept = p;
    t->seen[0] = shim_stream_next(shim_kept_stream(p, 0));
    t->seen[1] = shim_stream_next(shim_kept_stream(p, 1));
    shim_kept_watch(p, on_stream, t);
}

static void on_up(void *user)
{
    struct shim *t = user;
    t->up = true;
    if (!t->processes)
        dbx_loop_stop(t->loop, 0);
}

static void on_down(const struct dbx_err *err, void *user)
{
    struct shim *t = user;
    CHECK(err && err->code < 0);
    t->downs++;
    t->up = false;
    dbx_loop_stop(t->loop, 0);
}

static const struct shim_keeper_handlers handlers = {on_sandbox, on_process, on_up, on_down};

static void on_deadline(void *user)
{
    dbx_loop_stop(user, 1);
}

static void shim_open(struct shim *t)
{
    *t = (struct shim){.right = true, .tell = -1};
    t->loop = dbx_loop_new();
    t->deadline = dbx_timer_new(t->loop, on_deadline, t->loop);
    dbx_timer_start(t->deadline, DEADLINE_MS, 0);
    t->sk = shim_keeper_new(t->loop, path, &handlers, t);
}

static void shim_close(struct shim *t)
{
    t->deadline = dbx_timer_free(t->deadline);
    t->kept = shim_kept_free(t->kept);
    t->sk = shim_keeper_free(t->sk);
    dbx_loop_free(t->loop);
}

static const struct dbx_id sandbox = {{1}}, process = {{2}};

static void on_refused(const struct dbx_err *err, void *user)
{
    struct shim *t = user;
    t->refused += err ? 1 : 0;
}

/* Sandbox and process, without waiting for any answer; returns the program's ends. */
static void add(struct shim *t, int fds[3])
{
    int sv[2];
    struct dbx_err err;
    struct shim_kept_opts opts = {.sandbox = sandbox, .process = process, .stdin_open = true};
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
    CHECK_EQ(shim_keeper_add_sandbox(t->sk, &sandbox, sv[0], -1, on_refused, t), 0);
    CHECK_EQ(shim_keeper_add_sandbox(t->sk, &sandbox, sv[0], -1, on_refused, t), 0); /* twice */
    CHECK_EQ(shim_kept_new(t->sk, &opts, &t->kept, fds, &err), 0);
    dbx_close(sv[0]);
    dbx_close(sv[1]);
}

static void close_all(int fds[3])
{
    for (int i = 0; i < 3; i++)
        dbx_closep(&fds[i]);
}

/* --- tests --- */

static void test_all_bytes(void)
{
    struct shim t;
    int fds[3];
    shim_open(&t);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.up && t.sandboxes == 0);
    add(&t, fds);
    shim_kept_watch(t.kept, on_stream, &t);
    pid_t out = pattern_writer(fds[1], HUNDRED_MB, 65536), err = pattern_writer(fds[2], 123457, 11);
    close_all(fds);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.right && t.ended[0] && t.ended[1]);
    CHECK_EQ(t.seen[0], HUNDRED_MB);
    CHECK_EQ(t.seen[1], 123457);
    CHECK_EQ(t.refused, 1);
    CHECK_EQ(wait_exit(out), 0);
    CHECK_EQ(wait_exit(err), 0);
    t.kept = shim_kept_remove(t.kept);
    CHECK_EQ(shim_keeper_remove_sandbox(t.sk, &sandbox), 0);
    shim_close(&t);
}

/* The sandbox is gone, its last bytes are not: they are read to the end, and then the id is free.
 */
static void test_sandbox_goes_first(void)
{
    struct shim t;
    int fds[3];
    shim_open(&t);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    add(&t, fds);
    CHECK_EQ(write(fds[1], pattern, 5000), 5000);
    CHECK_EQ(shim_keeper_remove_sandbox(t.sk, &sandbox), 0);
    close_all(fds);
    shim_kept_watch(t.kept, on_stream, &t);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.right && t.ended[0] && t.ended[1]);
    CHECK_EQ(t.seen[0], 5000);
    t.kept = shim_kept_remove(t.kept);
    shim_close(&t);
}

/* Takes nothing; lets the test look again. */
static bool on_hold(struct shim_kept *p, struct shim_stream *s, void *user)
{
    struct shim *t = user;
    (void)p;
    (void)s;
    dbx_loop_stop(t->loop, 0);
    return true;
}

/* Nobody consumes: the ring fills, the pipe fills, the program waits; then everything comes. */
static void test_slow_consumer(void)
{
    struct shim t;
    int fds[3];
    uint64_t total = 4u << 20;
    shim_open(&t);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    add(&t, fds);
    CHECK_EQ(dbx_set_nonblock(fds[1], true), 0);
    uint64_t written = 0;
    for (bool full = false, ring_full = false; !full;) {
        ssize_t n = write(fds[1], pattern + written % PATTERN_PERIOD, 4096);
        if (n > 0) {
            written += (uint64_t)n;
            continue;
        }
        /* the pipe is full: it is only final once the ring was before */
        size_t len;
        (void)shim_stream_peek(shim_kept_stream(t.kept, 0), &len);
        full = ring_full;
        ring_full = len == KEEPER_RING_DEFAULT;
        if (!ring_full) {
            shim_kept_watch(t.kept, on_hold, &t);
            CHECK_EQ(dbx_loop_run(t.loop), 0);
            shim_kept_watch(t.kept, NULL, NULL);
        }
        if (written > total)
            break;
    }
    uint64_t room = (uint64_t)fcntl(fds[1], F_GETPIPE_SZ);
    CHECK(written >= KEEPER_RING_DEFAULT && written <= KEEPER_RING_DEFAULT + room + 4096);
    CHECK_EQ(dbx_set_nonblock(fds[1], false), 0);
    /* the rest of the pattern from where we stand */
    pid_t pid = fork();
    if (pid == 0) {
        while (written < total) {
            ssize_t n = write(fds[1], pattern + written % PATTERN_PERIOD, 1000);
            if (n < 0)
                _exit(1);
            written += (uint64_t)n;
        }
        _exit(0);
    }
    close_all(fds);
    t.hold = true;
    shim_kept_watch(t.kept, on_stream, &t);
    t.hold = false;
    shim_stream_resume(shim_kept_stream(t.kept, 0));
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.right && t.seen[0] >= total && t.seen[0] < total + 1000);
    CHECK_EQ(wait_exit(pid), 0);
    t.kept = shim_kept_remove(t.kept);
    CHECK_EQ(shim_keeper_remove_sandbox(t.sk, &sandbox), 0);
    shim_close(&t);
}

/* One life of a shim: adopts (or begins), checks every byte, until it is killed or both streams
 * ended. */
static void live(int tell, bool first, uint64_t total)
{
    struct shim t;
    int fds[3];
    shim_open(&t);
    t.tell = tell;
    int r = dbx_loop_run(t.loop);
    if (first) {
        add(&t, fds);
        (void)pattern_writer(fds[1], total, 4099);
        (void)pattern_writer(fds[2], total / 2, 65536);
        (void)!write(tell, "q", 1);
        _exit(0); /* answers unread, nothing said goodbye to */
    }
    bool whole = t.seen[0] == total && t.seen[1] == total / 2;
    _exit(r == 0 && t.right && t.sandboxes == 1 && t.processes == 1 && whole ? 0 : 3);
}

static void test_deaths(void)
{
    uint64_t total = 64u << 20;
    int code = -1, kills = 0;
    for (int i = 0; code != 0 && i < LIVES + 3; i++) {
        int tell[2];
        char c;
        CHECK_EQ(pipe(tell), 0);
        pid_t pid = fork();
        if (pid == 0) {
            close(tell[0]);
            live(tell[1], i == 0, total);
        }
        close(tell[1]);
        uint64_t quarters = i == 0 ? 0 : i <= LIVES ? dbx_random_below(10) : UINT64_MAX;
        while (quarters-- && read(tell[0], &c, 1) == 1)
            ;
        if (i > 0 && i <= LIVES) {
            CHECK_EQ(kill(pid, SIGKILL), 0);
            kills++;
        }
        int r = wait_exit(pid);
        CHECK(r == 0 || (r == 128 + SIGKILL && i <= LIVES));
        code = i == 0 ? -1 : r;
        close(tell[0]);
    }
    CHECK_EQ(code, 0);
    CHECK_EQ(kills, LIVES);
    struct shim t; /* one more, to tidy up */
    shim_open(&t);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK_EQ(t.processes, 1);
    CHECK(t.ended[0] && t.ended[1]);
    t.kept = shim_kept_remove(t.kept);
    CHECK_EQ(shim_keeper_remove_sandbox(t.sk, &sandbox), 0);
    shim_close(&t);
}

static void test_stdin_and_death_of_keeper(pid_t keeper, const char *pump)
{
    struct shim t;
    int fds[3];
    char c;
    pid_t next;
    shim_open(&t);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    add(&t, fds);
    CHECK_EQ(write(shim_kept_stdin(t.kept), "x", 1), 1);
    shim_kept_close_stdin(t.kept);
    CHECK_EQ(read(fds[0], &c, 1), 1);
    CHECK_EQ(read(fds[0], &c, 1), 0); /* the keeper has closed its own, too */
    CHECK_EQ(kill(keeper, SIGKILL), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK_EQ(t.downs, 1);
    CHECK(!shim_keeper_is_up(t.sk));
    CHECK(shim_stream_failed(shim_kept_stream(t.kept, 0)));
    signal(SIGPIPE, SIG_IGN);
    struct pollfd gone = {
        .fd = fds[1]}; /* a read under way in the kernel holds the pipe a moment longer */
    CHECK_EQ(poll(&gone, 1, DEADLINE_MS), 1);
    CHECK(write(fds[1], "x", 1) < 0 && errno == EPIPE);
    close_all(fds);
    CHECK_EQ(wait_exit(keeper), 128 + SIGKILL);
    CHECK(keeper_start(pump, &next)); /* over the socket that was left behind */
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(shim_keeper_is_up(t.sk));
    shim_close(&t);
    keeper_end(next);
}

static void test_pump(const char *pump)
{
    pid_t keeper;
    if (!keeper_start(pump, &keeper)) {
        CHECK(strcmp(pump, "epoll") != 0);
        fprintf(stderr, "this kernel has no io_uring for us\n");
        return;
    }
    test_all_bytes();
    test_sandbox_goes_first();
    test_slow_consumer();
    test_deaths();
    test_stdin_and_death_of_keeper(keeper, pump);
}

int main(void)
{
    dbx_log_init("test", "logfmt", DBX_LOG_WARN);
    pattern_init();
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/keeper.sock", dir);
    test_pump("uring");
    test_pump("epoll");
    (void)unlink(path);
    CHECK_EQ(rmdir(dir), 0);
    return check_result();
}
