/* SPDX-License-Identifier: Apache-2.0 */
/* Starting, counting and burying processes.
 *
 * A child shares init's memory until it has executed its program (as posix_spawn does; in gVisor an
 * address space less saves 2 of 4.5 ms), so it leaves behind why it failed, and init knows when
 * clone returns. What it costs: between dropping to the user's uid and exec, another process of
 * that uid could stop the child, and init with it. That is somebody breaking his own sandbox; the
 * shim has a deadline for it. */
#include "shim/init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

/* A layer with less room than this is full: a write of a large block may already fail for its
 * bookkeeping, and leave room behind. */
static uint64_t full_below(uint64_t size)
{
    uint64_t part = size / 64;
    return part < 64u << 10 ? 64u << 10 : part > 1u << 20 ? 1u << 20 : part;
}

/* Programs that run into their limits often end soon after: their first moments, and those near the
 * limit, are looked at more often. */
#define SAMPLE_CLOSELY_US 1000000u

#define CHILD_STACK (64u << 10) /* execvp puts the path it tries on it */

static struct proc *find(struct init *in, const struct init_key *key)
{
    for (size_t i = 0; i < INIT_MAX_PROCESSES; i++)
        if (in->procs[i].state != PROC_FREE && !memcmp(&in->procs[i].key, key, sizeof(*key)))
            return &in->procs[i];
    return NULL;
}

static struct proc *find_free(struct init *in)
{
    for (size_t i = 0; i < INIT_MAX_PROCESSES; i++)
        if (in->procs[i].state == PROC_FREE)
            return &in->procs[i];
    return NULL;
}

size_t init_running(const struct init *in)
{
    size_t n = 0;
    for (size_t i = 0; i < INIT_MAX_PROCESSES; i++)
        n += in->procs[i].state == PROC_RUNNING;
    return n;
}

/* --- in the child --- */

static _Noreturn void child_fail(struct launch *l, enum init_stage stage)
{
    l->error = errno ? errno : EINVAL;
    l->stage = stage;
    _exit(127);
}

/* What init handles, exec resets; what it ignores and blocks, it does not. */
static void reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int drop_identity(uid_t uid, gid_t gid, bool server)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    if (server) {
        none[0].effective = none[0].permitted = 1u << CAP_SETUID | 1u << CAP_SETGID;
        return (int)syscall(SYS_capset, &head, none);
    }
    if (geteuid() == 0) {
        if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
            return -1;
    } else if (getuid() != uid || getgid() != gid) {
        errno = EPERM;
        return -1;
    }
    return (int)syscall(SYS_capset, &head, none);
}

/* Descriptors that came are all above 2: init occupies 0, 1 and 2 with /dev/null, which is what the
 * rest gets. */
static int place_fds(uint32_t which, const int *fds)
{
    for (int i = 0; i < 3; i++)
        if (which & 1u << i && dup2(*fds++, i) < 0)
            return -1;
    return 0;
}

/* The other descriptors of init go with exec, whatever stands at 3 now with this. */
static int place_control(int control)
{
    if (control == 3)
        return fcntl(control, F_SETFD, 0);
    return control < 0 ? 0 : dup2(control, 3);
}

/* The terminal becomes the session's, and the child's group the one in its foreground. */
static int place_tty(int slave)
{
    for (int i = 0; i < 3; i++)
        if (dup2(slave, i) < 0)
            return -1;
    return ioctl(0, TIOCSCTTY, 0);
}

static int place(const struct launch *l)
{
    return l->tty ? place_tty(l->fds[0]) : place_fds(l->req->fixed.fds, l->fds);
}

/* Linux counts a process among those of the user it changes to. gVisor goes on counting it among
 * those of the user who made it, root: there, one less is left for the others. */
struct rlimit init_limit(const struct launch *l, const struct init_rlimit *limit)
{
    struct rlimit r = {.rlim_cur = limit->soft, .rlim_max = limit->hard};
    if (limit->resource == RLIMIT_NPROC && l->uncounted) {
        r.rlim_cur -= r.rlim_cur > 0 && r.rlim_cur != RLIM_INFINITY;
        r.rlim_max -= r.rlim_max > 0 && r.rlim_max != RLIM_INFINITY;
    }
    return r;
}

static int child(void *arg)
{
    struct launch *l = arg;
    const struct init_start *f = &l->req->fixed;
    reset_signals();
    umask(f->umask);
    if (setsid() < 0 || place(l) < 0 || place_control(l->control) < 0)
        child_fail(l, INIT_STAGE_SETUP);
    for (size_t i = 0; i < f->n_rlimits; i++) {
        const struct init_rlimit *limit = &l->req->rlimits[i];
        struct rlimit r = init_limit(l, limit);
        if (setrlimit((__rlimit_resource_t)limit->resource, &r) < 0)
            child_fail(l, INIT_STAGE_SETUP);
    }
    if (drop_identity(f->uid, f->gid, l->server) < 0)
        child_fail(l, INIT_STAGE_SETUP);
    if (chdir(l->req->cwd) < 0)
        child_fail(l, INIT_STAGE_CWD);
    environ = l->req->env;
    execvp(l->req->argv[0], l->req->argv);
    child_fail(l, INIT_STAGE_EXEC);
}

/* --- in init --- */

static void failed(struct proc *p, int error, enum init_stage stage)
{
    p->state = PROC_FAILED;
    p->error = error;
    p->stage = stage;
    p->say_start = true;
}

static size_t count_fds(uint32_t which)
{
    return (size_t)__builtin_popcount(which & 7);
}

static void close_pumps(struct pump *const pumps[2])
{
    for (int i = 0; i < 2; i++)
        if (pumps[i])
            init_pump_close(pumps[i]);
}

/* fds becomes what the program is given. */
static int open_pumps(struct init *in, const struct init_start *f, int *fds, struct pump *ret[2])
{
    int error = 0;
    fds += (f->fds & INIT_FD_STDIN) != 0;
    for (int i = 0; i < 2 && !error; i++)
        if (f->fds & (uint32_t)INIT_FD_STDOUT << i)
            error = init_pump_open(in, fds++, f->uid, f->gid, &ret[i]);
    if (error)
        close_pumps(ret);
    return error;
}

pid_t init_spawn(struct launch *l)
{
    static uint8_t stack[CHILD_STACK] __attribute__((aligned(16)));
    pid_t pid = clone(child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, l);
    if (pid > 0 && l->error)
        (void)waitpid(pid, NULL, 0);
    return pid;
}

static int nothing(void *arg)
{
    char *argv[] = {"true", NULL}, *env[] = {NULL};
    (void)arg;
    (void)execve("/bin/true", argv, env);
    _exit(127);
}

/* gVisor keeps the address space of a program that has ended for the next one; to make one takes 2
 * to 4 ms. And what every program maps, the loader and libc, is open then. */
void init_warm_up(void)
{
    static uint8_t stack[CHILD_STACK] __attribute__((aligned(16)));
    pid_t pid = clone(nothing, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
    if (pid > 0)
        (void)waitpid(pid, NULL, 0);
}

static void close_streams(struct init *in, struct pump *const pumps[2], struct tty *tty)
{
    close_pumps(pumps);
    if (tty)
        init_tty_failed(in, tty);
}

static void launch(struct init *in, struct proc *p, const struct init_start_request *req, int *fds)
{
    struct launch l = {
        .req = req, .fds = fds, .control = -1, .tty = req->size.cols > 0, .uncounted = in->pid1};
    struct pump *pumps[2] = {0};
    struct tty *tty = NULL;
    init_drop_spare(in);
    init_block(fds, count_fds(req->fixed.fds));
    int error = l.tty ? init_tty_open(in, &req->fixed, &req->size, fds, &tty)
                      : open_pumps(in, &req->fixed, fds, pumps);
    if (error) {
        failed(p, error, INIT_STAGE_SETUP);
        return;
    }
    pid_t pid = init_spawn(&l);
    if (pid < 0) {
        failed(p, errno, INIT_STAGE_FORK);
        close_streams(in, pumps, tty);
    } else if (l.error) {
        failed(p, l.error, l.stage);
        close_streams(in, pumps, tty);
    } else {
        p->state = PROC_RUNNING;
        p->pid = pid;
        if (tty)
            init_tty_began(in, tty, pid);
    }
}

static void begin(struct init *in, struct proc *p, const struct init_start_request *req, int *fds)
{
    if (in->renew.step) {
        failed(p, EBUSY, INIT_STAGE_FORK);
        return;
    }
    in->begun = true;
    p->end_group = req->fixed.fds & INIT_END_GROUP;
    p->start_us = init_now_us();
    p->end.disk_free_min = UINT64_MAX;
    for (size_t i = 0; i < req->fixed.n_rlimits; i++)
        if (req->rlimits[i].resource == RLIMIT_NPROC)
            p->nproc = req->rlimits[i].soft;
    if (!init_claim_parked(in, p, req, fds)) {
        init_unpark(in); /* it goes while the other is being made */
        launch(in, p, req, fds);
    }
    in->closely = true;
    p->say_start = true;
}

void init_start(struct init *in, const struct init_header *h, const uint8_t *body, size_t len,
                int *fds, size_t n_fds)
{
    struct init_start_request req = {.argv = in->argv, .env = in->env};
    struct init_key key = {0};
    bool tty = h->op == INIT_START_TTY;
    size_t skip = tty ? sizeof(struct init_winsize) : 0;
    int r = tty ? init_decode_start_tty(body, len, &req) : init_decode_start(body, len, &req);
    if (len >= skip + sizeof(key))
        memcpy(&key, body + skip, sizeof(key));
    struct proc *p = find(in, &key);
    if (p) { /* asked twice: what is known is the answer */
        p->tag = h->tag;
        p->again = true;
        p->say_start = true;
        p->say_end = p->state == PROC_EXITED;
        p->say_saw = p->end.seen & INIT_SAW_AT_ONCE;
        return;
    }
    p = find_free(in);
    if (!p) {
        struct init_started s = {.key = key, .error = EAGAIN, .stage = INIT_STAGE_REQUEST};
        init_answer(in, INIT_STARTED, 0, h->tag, &s, sizeof(s));
        return;
    }
    *p = (struct proc){.key = key, .tag = h->tag, .end.key = key};
    if (r)
        failed(p, r, INIT_STAGE_REQUEST);
    else if (n_fds != count_fds(req.fixed.fds))
        failed(p, EBADF, INIT_STAGE_FDS);
    else if (req.fixed.fds & INIT_AFTER_FILES && in->files_error)
        failed(p, in->files_error, INIT_STAGE_FILES);
    else
        begin(in, p, &req, fds);
}

void init_ack(struct init *in, const struct init_key *key)
{
    struct proc *p = find(in, key);
    if (p && p->state != PROC_RUNNING)
        p->state = PROC_FREE;
}

static void ended(struct proc *p, int status, const struct rusage *ru, bool others)
{
    p->state = PROC_EXITED;
    p->say_end = true;
    p->end.wait_status = status;
    p->end.utime_us = (uint64_t)ru->ru_utime.tv_sec * 1000000 + (uint64_t)ru->ru_utime.tv_usec;
    p->end.stime_us = (uint64_t)ru->ru_stime.tv_sec * 1000000 + (uint64_t)ru->ru_stime.tv_usec;
    p->end.wall_us = init_now_us() - p->start_us;
    if (others)
        p->end.seen |= INIT_LEFT_OTHERS;
}

/* While its leader is a zombie, the number names the group and nothing else. */
static void end_group(const struct init *in, pid_t leader)
{
    for (size_t i = 0; i < INIT_MAX_PROCESSES; i++) {
        const struct proc *p = &in->procs[i];
        if (p->state == PROC_RUNNING && p->pid == leader && p->end_group)
            (void)kill(-leader, SIGKILL);
    }
}

size_t init_others(const struct init *in)
{
    struct sysinfo si;
    size_t ours = 1 + (in->server.pid > 0);
    if (!in->pid1 || sysinfo(&si) < 0)
        return init_running(in);
    return si.procs > ours ? si.procs - ours : 0;
}

void init_gone(struct init *in, pid_t pid, int status, const struct rusage *ru)
{
    if (pid == in->server.pid)
        init_server_ended(in);
    if (init_parked_ended(in, pid))
        return;
    for (size_t i = 0; i < INIT_MAX_PROCESSES; i++) {
        struct proc *p = &in->procs[i];
        if (p->state == PROC_RUNNING && p->pid == pid) {
            ended(p, status, ru, in->pid1 && init_others(in) > (in->parked.dying > 0));
            init_tty_leader_ended(in, &p->key);
        }
    }
}

bool init_reap(struct init *in)
{
    int status;
    struct rusage ru;
    for (;;) {
        siginfo_t next = {0};
        if (waitid(P_ALL, 0, &next, WEXITED | WNOHANG | WNOWAIT) == 0 && next.si_pid > 0)
            end_group(in, next.si_pid);
        pid_t pid = wait4(next.si_pid > 0 ? next.si_pid : -1, &status, WNOHANG, &ru);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid <= 0)
            return pid == 0;
        init_gone(in, pid, status, &ru);
    }
}

void init_kill(struct init *in, int signo)
{
    if (in->pid1 && in->pristine.known && signo == SIGKILL) {
        init_kill_runner(in);
        return;
    }
    if (in->pid1) {
        (void)kill(-1, signo); /* all but PID 1 */
        return;
    }
    /* not alone (a test on the host): only what we started */
    for (size_t i = 0; i < INIT_MAX_PROCESSES; i++)
        if (in->procs[i].state == PROC_RUNNING)
            if (kill(-in->procs[i].pid, signo) < 0)
                (void)kill(in->procs[i].pid, signo);
}

int init_signal(struct init *in, const struct init_signal *sig)
{
    if (sig->scope == INIT_TO_ALL) {
        init_kill(in, (int)sig->signo);
        return 0;
    }
    struct proc *p = find(in, &sig->key);
    if (!p || p->state != PROC_RUNNING)
        return ESRCH;
    if (sig->scope == INIT_TO_GROUP && sig->signo == SIGKILL && init_has_tty(in, &sig->key)) {
        init_signal_session(p->pid, SIGKILL);
        return 0;
    }
    return kill(sig->scope == INIT_TO_GROUP ? -p->pid : p->pid, (int)sig->signo) < 0 ? errno : 0;
}

/* --- what the limits came to --- */

uint32_t init_probe(bool pid1)
{
    struct statfs fs;
    struct sysinfo si;
    uint32_t features = geteuid() == 0 ? INIT_CAN_SETUID : 0;
    if (statfs("/", &fs) == 0 && fs.f_blocks > 0)
        features |= INIT_CAN_STATFS;
    if (pid1 && sysinfo(&si) == 0 && si.procs >= 1)
        features |= INIT_CAN_COUNT;
    return features;
}

void init_status(const struct init *in, struct init_status *ret)
{
    struct statfs fs;
    *ret = (struct init_status){.running = (uint32_t)init_running(in)};
    ret->uptime_ms = (init_now_us() - in->boot_us) / 1000;
    if (in->features & INIT_CAN_STATFS && statfs("/", &fs) == 0) {
        ret->disk_size = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
        ret->disk_free = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
    }
    if (in->features & INIT_CAN_COUNT) {
        size_t others = init_others(in), dying = in->parked.dying > 0;
        ret->tasks = others > dying ? (uint32_t)(others - dying) : 0;
    }
}

static void sample_one(const struct init *in, const struct init_status *st, struct proc *p)
{
    uint32_t before = p->end.seen;
    if (in->features & INIT_CAN_STATFS) {
        if (st->disk_free < p->end.disk_free_min)
            p->end.disk_free_min = st->disk_free;
        if (st->disk_free < full_below(st->disk_size))
            p->end.seen |= INIT_SAW_DISK_FULL;
    }
    if (st->tasks > p->end.tasks_max)
        p->end.tasks_max = st->tasks;
    if (p->nproc && st->tasks >= p->nproc)
        p->end.seen |= INIT_SAW_PROCESS_MAX;
    if (p->end.seen != before)
        p->say_saw = true;
}

void init_sample(struct init *in)
{
    struct init_status st;
    init_status(in, &st);
    in->closely = false;
    for (size_t i = 0; i < INIT_MAX_PROCESSES; i++) {
        struct proc *p = &in->procs[i];
        if (p->state != PROC_RUNNING)
            continue;
        sample_one(in, &st, p);
        if (init_now_us() - p->start_us < SAMPLE_CLOSELY_US ||
            (p->nproc && st.tasks > p->nproc / 2))
            in->closely = true;
    }
}
