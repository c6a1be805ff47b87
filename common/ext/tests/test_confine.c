/* SPDX-License-Identifier: Apache-2.0 */
/* Each thing is tried in a child of its own, confined as a daemon is. */
#include "common/ext/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/fs.h"
#include "common/io/loop.h"
#include "tests/unit/check.h"

#define ALL (DBX_SYS_BASE | DBX_SYS_NET | DBX_SYS_READ | DBX_SYS_WRITE)

typedef int attempt(void); /* 0, or the errno */

/* The wait status of a child that confines itself and then tries. */
static int try_as(unsigned sets, enum dbx_syscall_end end, attempt *fn)
{
    static const char *const allow[] = {"exit_group", NULL};
    const struct dbx_seccomp f = {.sets = sets, .allow = allow, .otherwise = end};
    struct dbx_err err = {0};
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        if (dbx_confine(&f, &err) < 0) {
            fprintf(stderr, "confine: %s\n", err.msg);
            _exit(255);
        }
        _exit(fn());
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return status;
}

static int tell(attempt *fn)
{
    int status = try_as(ALL, DBX_SYS_TELL, fn);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int exec_it(void)
{
    char *argv[] = {"true", NULL}, *env[] = {NULL};
    (void)execve("/bin/true", argv, env);
    return errno;
}

static int mount_it(void)
{
    return mount("none", "/mnt", "tmpfs", 0, NULL) < 0 ? errno : 0;
}

static int become_root(void)
{
    return (int)syscall(SYS_setresuid, 0, 0, 0) < 0 ? errno : 0;
}

static int new_namespace(void)
{
    return syscall(SYS_unshare, 0x10000000) < 0 ? errno : 0;
}

static int packet_socket(void)
{
    return socket(AF_PACKET, SOCK_RAW, 0) < 0 ? errno : 0;
}

static int odd_call(void)
{
    return syscall(SYS_ioprio_get, 1, 0) < 0 ? errno : 0;
}

static int others_limits(void)
{
    return syscall(SYS_prlimit64, getppid(), 0, NULL, NULL) < 0 ? errno : 0;
}

#if !defined(__SANITIZE_ADDRESS__)
static int trace_parent(void)
{
    return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) < 0 ? errno : 0;
}

static int another_process(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return pid < 0 ? errno : 0;
}

static int kill_parent(void)
{
    return syscall(SYS_tgkill, getppid(), getppid(), 0) < 0 ? errno : 0;
}
#endif

static void *nothing(void *arg)
{
    return arg;
}

static int daily_work(void)
{
    pthread_t thread;
    int fds[2];
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pipe2(fds, O_CLOEXEC) < 0 || write(fds[1], "x", 1) != 1)
        return 1;
    if (socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0)
        return 2;
    if (pthread_create(&thread, NULL, nothing, NULL) != 0 || pthread_join(thread, NULL) != 0)
        return 3;
    return 0;
}

static bool says(const char *status, const char *line)
{
    bool found = strstr(status, line);
    if (!found)
        fprintf(stderr, "no '%s' in:\n%s\n", line, status);
    return found;
}

static int look_at_status(void)
{
    struct dbx_buf buf;
    if (dbx_fs_read("/proc/self/status", 65536, &buf, NULL) < 0)
        return 1;
    const char *text = dbx_buf_cstr(&buf);
    return says(text, "NoNewPrivs:\t1") && says(text, "Seccomp:\t2") &&
                   says(text, "CapEff:\t0000000000000000") &&
                   says(text, "CapPrm:\t0000000000000000") &&
                   says(text, "CapInh:\t0000000000000000") &&
                   (geteuid() != 0 || says(text, "CapBnd:\t0000000000000000"))
               ? 0
               : 2;
}

static void on_name(const char *name, void *user)
{
    struct dbx_loop *loop = user;
    dbx_loop_stop(loop, strcmp(name, "ioprio_get") == 0 ? 7 : 8);
}

static int told_in_the_loop(void)
{
    struct dbx_loop *loop = dbx_loop_new();
    if (dbx_seccomp_watch(loop, on_name, loop, NULL) < 0 || odd_call() != ENOSYS ||
        odd_call() != ENOSYS)
        return 1;
    int code = dbx_loop_run(loop);
    dbx_seccomp_unwatch();
    dbx_loop_free(loop);
    return code;
}

int main(void)
{
    CHECK_EQ(tell(daily_work), 0);
    CHECK_EQ(tell(look_at_status), 0);
    CHECK_EQ(tell(exec_it), -SIGSYS);
    CHECK_EQ(tell(mount_it), -SIGSYS);
    CHECK_EQ(tell(become_root), -SIGSYS);
    CHECK_EQ(tell(new_namespace), -SIGSYS);
    CHECK_EQ(tell(packet_socket), ENOSYS);
    CHECK_EQ(tell(odd_call), ENOSYS);
    CHECK_EQ(tell(others_limits), ENOSYS);
    CHECK_EQ(tell(told_in_the_loop), 7);
#if !defined(__SANITIZE_ADDRESS__)
    CHECK_EQ(tell(trace_parent), -SIGSYS);
    CHECK_EQ(tell(another_process), ENOSYS);
    CHECK_EQ(tell(kill_parent), ENOSYS);
#endif
    CHECK_EQ(WTERMSIG(try_as(DBX_SYS_BASE, DBX_SYS_KILL, packet_socket)), SIGSYS);
    CHECK_EQ(WTERMSIG(try_as(DBX_SYS_BASE, DBX_SYS_KILL, daily_work)), SIGSYS);
    return check_result();
}
