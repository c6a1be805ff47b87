/* SPDX-License-Identifier: Apache-2.0 */
/* A program that is started before it is wanted: an interpreter that has come up to where it would
 * open the user's file, and waits there (bundles/parked). It has the identity of every user process
 * and pipes of the sandbox's kernel for stdio. What a START says that a process is given by exec
 * reaches it otherwise: arguments, environment and stdin through its fd 3, limits by prlimit,
 * output by joining its pipes to the host's. It is used once, or ended. */
#include "shim/init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PIPE_SIZE (256 << 10)
#define MAX_PLAIN (64u << 10) /* what is larger is not searched */

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void let_go(struct parked *k)
{
    close_one(&k->sock);
    close_one(&k->in);
    for (int i = 0; i < 2; i++)
        if (k->out[i])
            init_pump_close(k->out[i]);
    k->out[0] = k->out[1] = NULL;
    k->pid = 0;
    k->ready = k->forked = false;
}

void init_park_tidy(struct init *in)
{
    for (int i = 0; i < 2; i++)
        if (in->left[i] > 0) {
            close(in->left[i]);
            in->left[i] = 0;
        }
}

/* As let_go, of what runs now: closing can wait, it cannot. */
static void let_run(struct init *in, struct parked *k)
{
    init_park_tidy(in);
    in->left[0] = k->sock;
    in->left[1] = k->in;
    k->sock = k->in = -1;
    k->out[0] = k->out[1] = NULL;
    let_go(k);
}

void init_park_program(struct init *in, const struct init_start_request *req)
{
    snprintf(in->program.root, sizeof(in->program.root), "%s", req->cwd);
    snprintf(in->program.name, sizeof(in->program.name), "%s", req->argv[req->fixed.argc - 1]);
}

/* Nobody runs who could change it before it is run. */
void init_park_wrote(struct init *in, const char *root, const struct init_file *f)
{
    static const char end_of_archive[] = {'P', 'K', 5, 6};
    if (!strcmp(f->path, in->program.name) && !strcmp(root, in->program.root))
        in->parked.plain = !f->gone && !f->folder && f->size <= MAX_PLAIN &&
                           !memmem(f->data, f->size, end_of_archive, sizeof(end_of_archive));
}

static void answer(struct init *in, int error)
{
    if (in->parked.forked)
        return; /* RENEW looks for itself */
    struct init_header h = {.op = INIT_PARK, .tag = in->parked.tag};
    init_done(in, &h, error, 0, NULL);
}

/* ours: which end stays here; the other is its, and its user's. */
static int make_pipe(int *mine, int *its, int ours, uid_t uid, gid_t gid)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    *mine = ends[ours];
    *its = ends[!ours];
    (void)fcntl(*its, F_SETPIPE_SZ, PIPE_SIZE);
    return geteuid() == 0 ? fchown(*its, uid, gid) : 0;
}

static int make_out(struct init *in, struct pump **ret, int *its, uid_t uid, gid_t gid)
{
    int mine = -1;
    if (make_pipe(&mine, its, 0, uid, gid) == 0 && (*ret = init_pump_ahead(in, mine)))
        return 0;
    int error = errno;
    close_one(&mine);
    errno = error;
    return -1;
}

/* its: what becomes its fds 0, 1, 2 and 3. Its socket is heard of once: that it waits, or is not
 * there. */
static int make_ends(struct init *in, uid_t uid, gid_t gid, int its[static 4])
{
    struct parked *k = &in->parked;
    struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.u32 = ON_PARKED};
    int control[2] = {-1, -1}, error = 0;
    if (make_pipe(&k->in, &its[0], 1, uid, gid) < 0 ||
        make_out(in, &k->out[0], &its[1], uid, gid) < 0 ||
        make_out(in, &k->out[1], &its[2], uid, gid) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) < 0 ||
        epoll_ctl(in->epoll, EPOLL_CTL_ADD, control[0], &ev) < 0)
        error = errno;
    k->sock = control[0];
    its[3] = control[1];
    return error;
}

static int spawn(struct init *in, struct init_start_request *req)
{
    struct parked *k = &in->parked;
    struct init_start *f = &req->fixed;
    int its[4] = {-1, -1, -1, -1}, error = make_ends(in, f->uid, f->gid, its);
    struct launch l = {.req = req, .fds = its, .control = its[3], .uncounted = in->pid1};
    f->fds = INIT_FD_STDIN | INIT_FD_STDOUT | INIT_FD_STDERR;
    if (!error) {
        pid_t pid = init_spawn(&l);
        error = pid < 0 ? errno : l.error;
        k->pid = error ? 0 : pid;
    }
    for (int i = 0; i < 4; i++)
        close_one(&its[i]);
    return error;
}

static int ask_server(struct init *in, const int its[static 4])
{
    const struct init_fork what = {.uid = in->renew.uid, .gid = in->renew.gid};
    const int fds[4] = {its[3], its[0], its[1], its[2]};
    union {
        struct cmsghdr align;
        uint8_t room[CMSG_SPACE(sizeof(fds))];
    } control = {0};
    struct iovec iov = {.iov_base = (void *)&what, .iov_len = sizeof(what)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(fds));
    memcpy(CMSG_DATA(c), fds, sizeof(fds));
    return sendmsg(in->server.sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(what) ? 0 : errno;
}

static const struct parked nobody = {.sock = -1, .in = -1};

int init_park_forked(struct init *in)
{
    struct parked *k = &in->parked;
    int its[4] = {-1, -1, -1, -1}, dying = k->dying;
    *k = nobody;
    k->dying = dying;
    k->forked = true;
    k->argc = in->renew.argc;
    int error = make_ends(in, in->renew.uid, in->renew.gid, its);
    if (!error)
        error = ask_server(in, its);
    for (int i = 0; i < 4; i++)
        close_one(&its[i]);
    if (error)
        let_go(k);
    return error;
}

void init_park(struct init *in, const struct init_header *h, const uint8_t *body, size_t len)
{
    struct init_start_request req = {.argv = in->argv, .env = in->env};
    struct parked *k = &in->parked;
    int error = init_decode_start(body, len, &req);
    if (!error && k->pid)
        error = EBUSY;
    if (error) {
        init_done(in, h, error, 0, NULL);
        return;
    }
    pid_t dying = k->dying;
    init_park_program(in, &req);
    *k = nobody;
    k->dying = dying;
    k->tag = h->tag;
    k->argc = req.fixed.argc;
    k->n_rlimits = req.fixed.n_rlimits;
    memcpy(k->rlimits, req.rlimits, k->n_rlimits * sizeof(*k->rlimits));
    error = spawn(in, &req);
    if (error) {
        let_go(k);
        answer(in, error);
    }
}

/* The byte that says that it waits, or its end. */
void init_on_parked(struct init *in)
{
    struct parked *k = &in->parked;
    char byte;
    if (k->sock < 0)
        return; /* it was claimed or ended in this turn */
    if (!k->ready && recv(k->sock, &byte, 1, MSG_DONTWAIT) == 1) {
        k->ready = true;
        answer(in, 0);
        return;
    }
    init_unpark(in); /* it speaks when it should not, or has ended */
}

static bool has_limits(const struct parked *k, const struct init_start_request *req)
{
    if (req->fixed.n_rlimits != k->n_rlimits)
        return false;
    for (size_t i = 0; i < k->n_rlimits; i++) {
        const struct init_rlimit *a = &k->rlimits[i], *b = &req->rlimits[i];
        if (a->resource != b->resource || a->soft != b->soft || a->hard != b->hard)
            return false;
    }
    return true;
}

/* Only who has its user and group for real may set its limits: so has init for this moment, in
 * which nothing runs here but init and what is parked. */
static int limit(const struct init *in, pid_t pid, const struct init_start_request *req)
{
    struct launch l = {.uncounted = in->pid1};
    bool root = geteuid() == 0;
    int r = 0;
    if (root && (setresgid(req->fixed.gid, (gid_t)-1, (gid_t)-1) < 0 ||
                 setresuid(req->fixed.uid, (uid_t)-1, (uid_t)-1) < 0))
        r = -1;
    for (size_t i = 0; r == 0 && i < req->fixed.n_rlimits; i++) {
        struct rlimit rl = init_limit(&l, &req->rlimits[i]);
        r = prlimit(pid, (__rlimit_resource_t)req->rlimits[i].resource, &rl, NULL);
    }
    if (root && (setresuid(0, (uid_t)-1, (uid_t)-1) < 0 || setresgid(0, (gid_t)-1, (gid_t)-1) < 0))
        _exit(70); /* init without its identity is of no use */
    return r;
}

/* The strings of a request stand one behind the other, as they came. */
static size_t span(char *const *strings, size_t from, size_t to)
{
    return from == to ? 0 : (size_t)(strings[to - 1] + strlen(strings[to - 1]) + 1 - strings[from]);
}

static bool tell(const struct parked *k, const struct init_start_request *req)
{
    const struct init_start *f = &req->fixed;
    char head[64];
    struct iovec parts[3] = {
        {.iov_base = head},
        {req->argv[k->argc < f->argc ? k->argc : 0], span(req->argv, k->argc, f->argc)},
        {req->env[0], span(req->env, 0, f->envc)}};
    int n = snprintf(head, sizeof(head), "%zu %d %d %d", parts[1].iov_len + parts[2].iov_len,
                     f->argc - k->argc, f->fds & INIT_FD_STDIN ? 1 : 0, k->plain);
    parts[0].iov_len = (size_t)n + 1;
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = 3};
    ssize_t len = (ssize_t)(parts[0].iov_len + parts[1].iov_len + parts[2].iov_len);
    return sendmsg(k->sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == len;
}

/* Both of its pipes to the host's, or away where there is none. */
static int join(struct init *in, struct parked *k, const struct init_start *f, int *fds)
{
    int error = 0;
    if (f->fds & INIT_FD_STDIN) {
        error = init_pump_join(in, *fds, k->in);
        *fds++ = k->in = -1;
    }
    for (int i = 0; i < 2 && !error; i++) { /* it has both: see init_claim_parked */
        error = init_pump_aim(in, k->out[i], *fds);
        *fds++ = -1;
    }
    return error;
}

bool init_claim_parked(struct init *in, struct proc *p, const struct init_start_request *req,
                       int *fds)
{
    struct parked *k = &in->parked;
    const uint32_t out = INIT_FD_STDOUT | INIT_FD_STDERR;
    if (!k->pid || !k->ready || !(req->fixed.fds & INIT_MAY_PARKED) || req->fixed.argc < k->argc ||
        (req->fixed.fds & out) != out)
        return false;
    if ((!has_limits(k, req) && limit(in, k->pid, req) < 0) || !tell(k, req))
        return false;
    p->pid = k->pid;
    p->state = PROC_RUNNING;
    if (join(in, k, &req->fixed, fds) == 0) {
        let_run(in, k);
        return true;
    }
    (void)kill(p->pid, SIGKILL); /* no memory for that: its output would go nowhere */
    let_go(k);
    return true;
}

void init_unpark(struct init *in)
{
    struct parked *k = &in->parked;
    if (!k->pid)
        return;
    (void)kill(k->pid, SIGKILL);
    k->dying = k->pid;
    if (!k->ready)
        answer(in, ECHILD);
    let_go(k);
}

bool init_parked_ended(struct init *in, pid_t pid)
{
    struct parked *k = &in->parked;
    if (k->dying == pid) {
        k->dying = 0;
        return true;
    }
    if (!k->pid || k->pid != pid)
        return false;
    if (!k->ready)
        answer(in, ECHILD);
    let_go(k);
    return true;
}
