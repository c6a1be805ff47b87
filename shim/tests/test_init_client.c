/* SPDX-License-Identifier: Apache-2.0 */
/* The real init as an ordinary child of this test (it then kills and counts only what it started
 * itself), and the shim's client: files, starts, exits, signals, lists, a second shim on the same
 * socket, an init that lies, the end. */
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/io/loop.h"
#include "common/proto/files.h"
#include "shim/change.h"
#include "shim/init_client.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEADLINE_MS 60000

static char dir[] = "/tmp/devbox-init-XXXXXX";
static uid_t user_id;

struct test {
    struct dbx_loop *loop;
    struct dbx_timer *deadline;
    struct shim_init *si;
    int control; /* a copy, as the keeper has one */
    pid_t pid;
    int readies, starts, exits, downs;
    struct shim_init_started started;
    struct shim_init_exited exited;
    int wants;
    uint32_t wanted[2];
    int done, code;
    uint64_t value;
    struct dbx_err err;
};

static void on_ready(const struct init_ready *r, void *user)
{
    struct test *t = user;
    CHECK_EQ(r->version, INIT_VERSION);
    t->readies++;
    dbx_loop_stop(t->loop, 0);
}
static void on_started(const struct shim_init_started *s, void *user)
{
    struct test *t = user;
    t->started = *s;
    t->starts++;
    if (s->error)
        dbx_loop_stop(t->loop, 0);
}
static void on_exited(const struct shim_init_exited *e, void *user)
{
    struct test *t = user;
    t->exited = *e;
    t->exits++;
    dbx_loop_stop(t->loop, 0);
}
static void on_down(const struct dbx_err *err, void *user)
{
    struct test *t = user;
    t->downs++;
    t->err = err ? *err : (struct dbx_err){0};
    dbx_loop_stop(t->loop, 0);
}
static void on_wanted(uint32_t id, void *user)
{
    struct test *t = user;
    t->wanted[t->wants++ % 2] = id;
    dbx_loop_stop(t->loop, 0);
}
static const struct shim_init_handlers handlers = {.on_ready = on_ready,
                                                   .on_started = on_started,
                                                   .on_exited = on_exited,
                                                   .on_down = on_down,
                                                   .on_wanted = on_wanted};

static void on_done(uint64_t value, const struct dbx_err *err, void *user)
{
    struct test *t = user;
    t->done++;
    t->value = value;
    t->code = err ? err->code : 0;
    if (err)
        t->err = *err;
    dbx_loop_stop(t->loop, 0);
}

static void on_deadline(void *user)
{
    dbx_loop_stop(user, 1);
}

static pid_t spawn_init(int control)
{
    char self[256], path[300];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    CHECK(n > 0);
    self[n > 0 ? n : 0] = 0;
    *strrchr(self, '/') = 0;
    snprintf(path, sizeof(path), "%s/devbox-sandbox-init", self);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(control, 0);
        (void)execl(path, "init", (char *)NULL);
        _exit(126);
    }
    return pid;
}

static void open_test(struct test *t)
{
    int sv[2];
    struct dbx_err err;
    *t = (struct test){0};
    t->loop = dbx_loop_new();
    t->deadline = dbx_timer_new(t->loop, on_deadline, t->loop);
    dbx_timer_start(t->deadline, DEADLINE_MS, 0);
    CHECK_EQ(shim_init_socketpair(sv, &err), 0);
    t->pid = spawn_init(sv[1]);
    dbx_close(sv[1]);
    t->control = fcntl(sv[0], F_DUPFD_CLOEXEC, 3);
    t->si = shim_init_new(t->loop, sv[0], &handlers, t);
    CHECK_EQ(dbx_loop_run(t->loop), 0);
    CHECK_EQ(t->readies, 1);
}

static int wait_status(pid_t pid)
{
    int st = -1;
    CHECK_EQ(waitpid(pid, &st, 0), pid);
    return st;
}

static void close_test(struct test *t)
{
    t->si = shim_init_free(t->si);
    dbx_close(t->control);
    CHECK_EQ(wait_status(t->pid), 0); /* the last end is closed: init goes */
    t->deadline = dbx_timer_free(t->deadline);
    dbx_loop_free(t->loop);
}

static struct shim_init_start request_of(uint8_t id, char *const *argv, int out)
{
    static char *const env[] = {"PATH=/usr/bin:/bin", "X=y", NULL};
    static const struct init_rlimit limits[] = {{RLIMIT_NOFILE, 0, 64, 64}};
    return (struct shim_init_start){.process = {{id}},
                                    .argv = argv,
                                    .env = env,
                                    .cwd = "/",
                                    .uid = user_id,
                                    .gid = user_id == getuid() ? getgid() : user_id,
                                    .umask = 022,
                                    .rlimits = limits,
                                    .n_rlimits = 1,
                                    .fds = {-1, out, -1}};
}

static int start(struct test *t, uint8_t id, char *const *argv, int out)
{
    struct shim_init_start req = request_of(id, argv, out);
    return shim_init_start(t->si, &req);
}

static void test_start_and_exit(void)
{
    struct test t;
    int p[2];
    char text[128] = "";
    char *const argv[] = {"sh", "-c", "echo $X $(ulimit -n) $(id -u); exit 7", NULL};
    open_test(&t);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    CHECK_EQ(start(&t, 1, argv, p[1]), 0);
    dbx_close(p[1]);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.starts == 1 && t.started.error == 0 && !t.started.again);
    CHECK(t.exits == 1 && t.exited.exit_code == 7 && t.exited.signal == 0);
    CHECK(read(p[0], text, sizeof(text) - 1) > 0);
    char want[64];
    snprintf(want, sizeof(want), "y 64 %u\n", user_id);
    CHECK_STR(text, want);
    dbx_close(p[0]);
    /* asked again before it was acknowledged: nothing is started, the same is said */
    CHECK_EQ(start(&t, 1, argv, -1), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.starts == 2 && t.started.again && t.exits == 2 && t.exited.again);
    CHECK_EQ(shim_init_ack(t.si, &t.exited.process, 0), 0);
    CHECK_EQ(shim_init_list(t.si, on_done, &t), 0);
    while (!t.done && dbx_loop_run(t.loop) == 0)
        ;
    CHECK(t.code == 0 && t.exits == 2 && t.readies == 2);
    close_test(&t);
}

/* What it is told comes through its fd 3, its limits and its output are those of the START. */
static void test_parked(void)
{
    static char script[] = "ulimit -n; printf R >&3; tr '\\0' ' ' <&3; ulimit -n; exit 3";
    char *const parked[] = {"sh", "-c", script, NULL}, *const more[] = {"sh", "-c", script, "a b",
                                                                        NULL};
    struct init_rlimit wide = {RLIMIT_NOFILE, 0, 100, 100};
    struct shim_init_start park = request_of(0, parked, -1);
    char text[256] = "";
    struct test t;
    int p[2];
    open_test(&t);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    park.rlimits = &wide;
    CHECK_EQ(shim_init_park(t.si, &park, 0, on_done, &t), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.done == 1 && t.code == 0);
    CHECK_EQ(shim_init_park(t.si, &park, 0, on_done, &t), 0); /* there is one */
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK_EQ(t.code, -EBUSY);
    struct shim_init_start req = request_of(1, more, p[1]);
    req.fds[2] = p[1];
    req.may_parked = true;
    CHECK_EQ(shim_init_start(t.si, &req), 0);
    dbx_close(p[1]);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.starts == 1 && t.started.error == 0 && t.exits == 1 && t.exited.exit_code == 3);
    for (size_t n = 0; n < sizeof(text) - 1;) {
        ssize_t got = read(p[0], text + n, sizeof(text) - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    CHECK_STR(text, "100\n27 1 0 0 a b PATH=/usr/bin:/bin X=y 64\n");
    dbx_close(p[0]);
    close_test(&t);
}

/* A START that cannot use it ends it; so does its own end. */
static void test_unparked(void)
{
    char *const parked[] = {"sh", "-c", "printf R >&3; cat <&3", NULL};
    char *const hasty[] = {"false", NULL}, *const other[] = {"sh", "-c", "exit 4", NULL};
    struct shim_init_start park = request_of(0, hasty, -1);
    struct test t;
    open_test(&t);
    CHECK_EQ(shim_init_park(t.si, &park, 0, on_done, &t), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.done == 1 && t.code == -ECHILD);
    park.argv = parked;
    CHECK_EQ(shim_init_park(t.si, &park, 0, on_done, &t), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.done == 2 && t.code == 0);
    CHECK_EQ(start(&t, 1, other, -1), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.exits == 1 && t.exited.exit_code == 4 && !(t.exited.seen & INIT_LEFT_OTHERS));
    CHECK_EQ(shim_init_park(t.si, &park, 0, on_done, &t), 0); /* its place is free */
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.done == 3 && t.code == 0);
    close_test(&t);
}

static void test_after_files(void)
{
    char *const argv[] = {"true", NULL};
    struct shim_init_start req = request_of(1, argv, -1);
    struct test t;
    open_test(&t);
    CHECK_EQ(shim_init_files(t.si, "/proc/none", user_id, user_id, "", 0, 0, on_done, &t), 0);
    req.after_files = true;
    CHECK_EQ(shim_init_start(t.si, &req), 0);
    while (!t.starts && dbx_loop_run(t.loop) == 0)
        ;
    CHECK(t.done == 1 && t.code != 0);
    CHECK(t.started.stage == INIT_STAGE_FILES && t.started.error != 0);
    close_test(&t);
}

static void test_failures(void)
{
    struct test t;
    char *const missing[] = {"no-such-program", NULL}, *const folder[] = {"/", NULL};
    open_test(&t);
    CHECK_EQ(start(&t, 1, missing, -1), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.started.error == ENOENT && t.started.stage == INIT_STAGE_EXEC && t.started.pid == 0);
    CHECK_EQ(start(&t, 2, folder, -1), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.started.error == EACCES && t.started.stage == INIT_STAGE_EXEC);
    user_id = 0;
    char *const root[] = {"true", NULL};
    CHECK_EQ(start(&t, 3, root, -1), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.started.error == EBADMSG && t.started.stage == INIT_STAGE_REQUEST);
    user_id = getuid() ? getuid() : 1000;
    struct dbx_id nobody = {{99}};
    CHECK_EQ(shim_init_signal(t.si, &nobody, 0, SIGTERM, INIT_TO_GROUP, on_done, &t), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK_EQ(t.code, -ESRCH);
    close_test(&t);
}

static void test_signal_and_kill(void)
{
    struct test t;
    char *const argv[] = {"sleep", "1000", NULL};
    open_test(&t);
    CHECK_EQ(start(&t, 1, argv, -1), 0);
    struct dbx_id id = {{1}};
    CHECK_EQ(shim_init_signal(t.si, &id, 0, SIGTERM, INIT_TO_GROUP, NULL, NULL), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.exited.exit_code == -1 && t.exited.signal == SIGTERM);
    CHECK_EQ(start(&t, 2, argv, -1), 0);
    CHECK_EQ(start(&t, 3, argv, -1), 0);
    CHECK_EQ(shim_init_kill_all(t.si, 5000, on_done, &t), 0);
    while (!t.done && dbx_loop_run(t.loop) == 0)
        ;
    CHECK(t.code == 0 && t.exits == 3 && t.exited.signal == SIGKILL);
    close_test(&t);
}

static size_t read_all(int fd)
{
    static char data[65536];
    size_t all = 0;
    for (ssize_t n; (n = read(fd, data, sizeof(data))) > 0;)
        all += (size_t)n;
    return all;
}

/* Output is carried: all of it, in its order, after the process and its shell have ended too; and
 * the program is held back while nobody reads. */
static void test_output(void)
{
    struct test t;
    int p[2];
    char first[9] = "";
    char *const argv[] = {
        "sh", "-c", "echo in order; head -c 1000000 /dev/zero; echo > /dev/stdout; exit 4", NULL};
    char *const quick[] = {"sh", "-c", "head -c 100000 /dev/zero", NULL};
    open_test(&t);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    CHECK_EQ(start(&t, 1, argv, p[1]), 0);
    dbx_close(p[1]);
    CHECK_EQ(read(p[0], first, 8), 8); /* and then nothing, while other things go on */
    CHECK_STR(first, "in order");
    CHECK_EQ(shim_init_list(t.si, on_done, &t), 0);
    while (!t.done && dbx_loop_run(t.loop) == 0)
        ;
    CHECK(t.done == 1 && t.exits == 0);
    CHECK_EQ(read_all(p[0]), 1 + 1000000 + 1);
    dbx_close(p[0]);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK_EQ(t.exited.exit_code, 4);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    CHECK_EQ(start(&t, 2, quick, p[1]), 0);
    dbx_close(p[1]);
    CHECK_EQ(dbx_loop_run(t.loop), 0); /* it has ended, what it wrote is on its way */
    CHECK(t.exits == 2 && t.exited.exit_code == 0);
    CHECK_EQ(shim_init_ack(t.si, &t.exited.process, 0), 0);
    t.done = 0;
    CHECK_EQ(shim_init_kill_all(t.si, 5000, on_done, &t), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.done == 1 && t.code == 0);
    CHECK_EQ(read_all(p[0]), 100000);
    dbx_close(p[0]);
    close_test(&t);
}

/* Nobody will read any more: the program is told by SIGPIPE. */
static void test_broken_output(void)
{
    struct test t;
    int p[2];
    char *const argv[] = {"cat", "/dev/zero", NULL};
    open_test(&t);
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    CHECK_EQ(start(&t, 1, argv, p[1]), 0);
    dbx_close(p[1]);
    CHECK_EQ(read(p[0], (char[8]){0}, 8), 8);
    dbx_close(p[0]);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK_EQ(t.exited.signal, SIGPIPE);
    close_test(&t);
}

/* A big environment and a big block of files travel in memfds. */
static void test_big(void)
{
    struct test t;
    struct dbx_buf block;
    static uint8_t data[300000];
    char root[64], path[128];
    open_test(&t);
    snprintf(root, sizeof(root), "%s/work", dir);
    dbx_buf_init(&block, 8u << 20);
    CHECK_EQ(dbx_files_begin(&block), 0);
    memset(data, 'z', sizeof(data));
    struct dbx_file f = {.path = "a/b/big", .path_len = 7, .data = data, .size = sizeof(data)};
    CHECK_EQ(dbx_files_add(&block, &f), 0);
    f = (struct dbx_file){.path = "a/small", .path_len = 7, .mode = 0755, .data = data, .size = 5};
    CHECK_EQ(dbx_files_add(&block, &f), 0);
    f = (struct dbx_file){.path = "link/x", .path_len = 6, .data = data, .size = 1};
    gid_t gid = user_id == getuid() ? getgid() : user_id;
    CHECK_EQ(shim_init_files(t.si, root, user_id, gid, block.data, block.len, 0, on_done, &t), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.code == 0 && t.value == 2);
    struct stat st;
    snprintf(path, sizeof(path), "%s/a/small", root);
    CHECK(stat(path, &st) == 0 && st.st_size == 5 && st.st_uid == user_id &&
          (st.st_mode & 0777) == 0755);
    snprintf(path, sizeof(path), "%s/a/b/big", root);
    CHECK(stat(path, &st) == 0 && st.st_size == sizeof(data) && (st.st_mode & 0777) == 0644);
    snprintf(path, sizeof(path), "%s/link", root); /* a link where a folder is wanted */
    CHECK_EQ(symlink("/tmp", path), 0);
    CHECK_EQ(dbx_files_add(&block, &f), 0);
    CHECK_EQ(shim_init_files(t.si, root, user_id, gid, block.data, block.len, 0, on_done, &t), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.code == -ENOTDIR || t.code == -ELOOP);
    CHECK(strstr(t.err.msg, "link/x") != NULL);
    dbx_buf_done(&block);
    static char arg[100000];
    memset(arg, 'a', sizeof(arg) - 1);
    char *const argv[] = {"sh", "-c", "test ${#1} = 99999", "sh", arg, NULL};
    CHECK_EQ(start(&t, 1, argv, -1), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK_EQ(t.exited.exit_code, 0);
    close_test(&t);
}

/* The shim dies while a program runs; the next one, on the copy of the socket, is told all. */
static void test_next_shim(void)
{
    struct test t;
    char *const argv[] = {"sh", "-c", "exit 5", NULL};
    open_test(&t);
    CHECK_EQ(start(&t, 1, argv, -1), 0);
    t.si = shim_init_free(t.si);
    t.si = shim_init_new(t.loop, fcntl(t.control, F_DUPFD_CLOEXEC, 3), &handlers, &t);
    CHECK_EQ(dbx_loop_run(t.loop), 0); /* meant for the first one, read by the second */
    CHECK(t.exits == 1 && t.exited.exit_code == 5);
    CHECK_EQ(shim_init_list(t.si, on_done, &t), 0);
    while (!t.done && dbx_loop_run(t.loop) == 0)
        ;
    CHECK(t.exits == 2 && t.exited.again && t.exited.exit_code == 5);
    CHECK_EQ(shim_init_quit(t.si), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.downs == 1 && t.err.code == 0);
    CHECK_EQ(shim_init_ack(t.si, &t.exited.process, 0), -EPIPE);
    close_test(&t);
}

static uint16_t free_port(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
    dbx_close(fd);
    return ntohs(addr.sin_port);
}

static int connect_to(uint16_t port)
{
    const struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

/* A port in the sandbox: one connection gets a stream, the next is refused; a list asks again. */
static void test_port(void)
{
    struct test t;
    int sv[2];
    char text[8];
    uint16_t port = free_port();
    open_test(&t);
    CHECK_EQ(shim_init_listen(t.si, port, on_done, &t), 0);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.done == 1 && t.code == 0);
    int fd = connect_to(port);
    CHECK_EQ(send(fd, "hello", 5, 0), 5);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK_EQ(shim_init_list(t.si, on_done, &t), 0);
    while (t.done < 2)
        CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.wants == 2 && t.wanted[0] == t.wanted[1]);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    CHECK_EQ(shim_init_stream(t.si, t.wanted[0], sv[1]), 0);
    CHECK_EQ(shim_init_stream(t.si, t.wanted[0], sv[1]), 0); /* harmless */
    dbx_close(sv[1]);
    CHECK_EQ(recv(sv[0], text, sizeof(text), 0), 5);
    CHECK_EQ(send(sv[0], "bye", 3, 0), 3);
    dbx_close(sv[0]);
    CHECK_EQ(recv(fd, text, 3, MSG_WAITALL), 3);
    CHECK_EQ(recv(fd, text, 1, 0), 0);
    dbx_close(fd);
    fd = connect_to(port);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK_EQ(shim_init_stream(t.si, t.wanted[0], -1), 0);
    CHECK_EQ(recv(fd, text, 1, 0), 0);
    dbx_close(fd);
    close_test(&t);
}

static void test_lies(void)
{
    struct test t = {0};
    int sv[2];
    struct dbx_err err;
    t.loop = dbx_loop_new();
    CHECK_EQ(shim_init_socketpair(sv, &err), 0);
    t.si = shim_init_new(t.loop, sv[0], &handlers, &t);
    CHECK_EQ(shim_init_kill_all(t.si, 60000, on_done, &t), 0);
    CHECK_EQ(send(sv[1], "nonsense", 8, 0), 8);
    CHECK_EQ(dbx_loop_run(t.loop), 0);
    CHECK(t.done == 1 && t.code == -ECANCELED);
    CHECK(t.downs == 1);
    t.si = shim_init_free(t.si);
    dbx_close(sv[1]);
    dbx_loop_free(t.loop);
}

/* --- files that are watched --- */

struct watched {
    struct test t;
    int fd; /* what is told */
    char root[64], aside[64];
    struct dbx_buf in;
    size_t used; /* of in, by what was told last */
};

static void path_of(const struct watched *wd, const char *name, char out[128])
{
    snprintf(out, 128, "%s/%s", wd->root, name);
}

static void record_writes(struct watched *wd, const char *name, const char *content)
{
    struct dbx_buf block;
    const struct dbx_file f = {.mode = 0644,
                               .path = name,
                               .path_len = (uint16_t)strlen(name),
                               .data = (const uint8_t *)content,
                               .size = strlen(content)};
    int done = wd->t.done;
    dbx_buf_init(&block, 4096);
    CHECK_EQ(dbx_files_begin(&block), 0);
    CHECK_EQ(dbx_files_add(&block, &f), 0);
    CHECK_EQ(shim_init_files(wd->t.si, wd->root, user_id, user_id, block.data, block.len, 0,
                             on_done, &wd->t),
             0);
    CHECK_EQ(dbx_loop_run(wd->t.loop), 0);
    CHECK(wd->t.done == done + 1 && wd->t.code == 0);
    dbx_buf_done(&block);
}

/* A program writes it, in place or beside it and then over it. */
static void program_writes(const struct watched *wd, const char *name, const char *content,
                           bool over)
{
    char path[128], new[96];
    path_of(wd, name, path);
    snprintf(new, sizeof(new), "%s/new", wd->aside);
    FILE *f = fopen(over ? new : path, "we");
    CHECK(f && fputs(content, f) >= 0 && fclose(f) == 0);
    CHECK(!over || rename(new, path) == 0);
}

static bool stands(const struct watched *wd, const char *name, const char *content)
{
    char path[128], room[64] = "";
    path_of(wd, name, path);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(room, 1, sizeof(room) - 1, f) : 0;
    if (f)
        CHECK_EQ(fclose(f), 0);
    return n == strlen(content) && !memcmp(room, content, n);
}

/* The next of something that happened, or REST; what c points to is good until the next one. */
static bool told(struct watched *wd, struct shim_change *c)
{
    uint8_t room[4096];
    struct pollfd p = {.fd = wd->fd, .events = POLLIN};
    for (;;) {
        dbx_buf_consume(&wd->in, wd->used);
        wd->used = 0;
        int r = shim_change_next(wd->in.data, wd->in.len, c, &wd->used);
        if (r > 0 && c->kind != INIT_CHANGE_FENCE)
            return true;
        ssize_t n = r > 0 ? 0 : poll(&p, 1, DEADLINE_MS) == 1 ? read(wd->fd, room, 4096) : -1;
        if (r < 0 || n < 0 || dbx_buf_append(&wd->in, room, (size_t)n) < 0)
            return false;
    }
}

static bool is_told(struct watched *wd, enum init_change_kind kind, const char *name,
                    const char *content, bool skipped)
{
    struct shim_change c;
    return told(wd, &c) && c.kind == kind && c.skipped == skipped && c.path_len == strlen(name) &&
           !memcmp(c.path, name, c.path_len) && c.size == strlen(content) &&
           !memcmp(c.data ? c.data : (const uint8_t *)"", content, c.size);
}

static bool is_told_rest(struct watched *wd)
{
    struct shim_change c;
    return told(wd, &c) && c.kind == INIT_CHANGE_REST;
}

static void open_watched(struct watched *wd)
{
    int fds[2];
    *wd = (struct watched){0};
    open_test(&wd->t);
    dbx_buf_init(&wd->in, 1 << 20);
    snprintf(wd->root, sizeof(wd->root), "%s/watched", dir);
    snprintf(wd->aside, sizeof(wd->aside), "%s/aside", dir);
    CHECK(mkdir(wd->root, 0755) == 0 && mkdir(wd->aside, 0755) == 0);
    CHECK(user_id == getuid() || chown(wd->root, user_id, user_id) == 0);
    CHECK_EQ(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    wd->fd = fds[0];
    CHECK_EQ(shim_init_watch(wd->t.si, wd->root, user_id, user_id, "no", 3, false, fds[1], on_done,
                             &wd->t),
             0);
    CHECK_EQ(dbx_loop_run(wd->t.loop), 0);
    CHECK(wd->t.code == 0 && wd->t.value == 1);
    dbx_close(fds[1]);
}

static void close_watched(struct watched *wd)
{
    struct dbx_err err;
    CHECK_EQ(dbx_fs_remove_tree(wd->root, &err), 0);
    CHECK_EQ(dbx_fs_remove_tree(wd->aside, &err), 0);
    dbx_close(wd->fd);
    dbx_buf_done(&wd->in);
    close_test(&wd->t);
}

/* A program that leaves the content as it was has changed nothing: the record's is written, and
 * nothing told. */
static void test_touched(void)
{
    struct watched wd;
    char f[128];
    open_watched(&wd);
    path_of(&wd, "f", f);
    record_writes(&wd, "f", "first");
    CHECK_EQ(utimensat(AT_FDCWD, f, NULL, 0), 0);
    record_writes(&wd, "f", "second");
    CHECK(stands(&wd, "f", "second"));
    program_writes(&wd, "f", "second", false);
    record_writes(&wd, "f", "third");
    CHECK(stands(&wd, "f", "third"));
    program_writes(&wd, "f", "third", true);
    record_writes(&wd, "f", "fourth");
    CHECK(stands(&wd, "f", "fourth"));
    CHECK_EQ(utimensat(AT_FDCWD, f, NULL, 0), 0);
    CHECK(is_told_rest(&wd));
    /* Of one length, another content: that is a program's. */
    program_writes(&wd, "f", "inside", true);
    record_writes(&wd, "f", "fifth");
    CHECK(stands(&wd, "f", "inside"));
    CHECK(is_told(&wd, INIT_CHANGE_FILE, "f", "inside", true) && is_told_rest(&wd));
    /* What was told is as well known as what was written. */
    CHECK_EQ(utimensat(AT_FDCWD, f, NULL, 0), 0);
    record_writes(&wd, "f", "sixth");
    CHECK(stands(&wd, "f", "sixth") && is_told_rest(&wd));
    close_watched(&wd);
}

/* What was told as gone and comes back as it was is told again, below a folder too. */
static void test_comes_back(void)
{
    struct watched wd;
    char f[128], d[128], out[96];
    open_watched(&wd);
    path_of(&wd, "f", f);
    path_of(&wd, "d", d);
    snprintf(out, sizeof(out), "%s/d", wd.aside);
    record_writes(&wd, "f", "first");
    record_writes(&wd, "d/g", "below");
    CHECK_EQ(unlink(f), 0);
    CHECK(is_told(&wd, INIT_CHANGE_GONE, "f", "", false) && is_told_rest(&wd));
    program_writes(&wd, "f", "first", false);
    CHECK(is_told(&wd, INIT_CHANGE_FILE, "f", "first", false) && is_told_rest(&wd));
    CHECK_EQ(rename(d, out), 0);
    CHECK(is_told(&wd, INIT_CHANGE_GONE, "d", "", false) && is_told_rest(&wd));
    CHECK_EQ(rename(out, d), 0);
    CHECK(is_told(&wd, INIT_CHANGE_FILE, "d/g", "below", false));
    CHECK(is_told(&wd, INIT_CHANGE_FOLDER, "d", "", false) && is_told_rest(&wd));
    close_watched(&wd);
}

int main(void)
{
    struct dbx_err err;
    user_id = getuid() ? getuid() : 1000;
    CHECK(mkdtemp(dir) != NULL);
    CHECK_EQ(chmod(dir, 0777), 0);
    test_start_and_exit();
    test_parked();
    test_unparked();
    test_after_files();
    test_failures();
    test_signal_and_kill();
    test_output();
    test_broken_output();
    test_big();
    test_next_shim();
    test_port();
    test_touched();
    test_comes_back();
    test_lies();
    CHECK_EQ(dbx_fs_remove_tree(dir, &err), 0);
    return check_result();
}
