/* SPDX-License-Identifier: Apache-2.0 */
/* The client of init. Requests go straight to the socket, or wait in a bounded queue while it is
 * full. An answer is found by its tag; tags begin at random, so that answers to a shim that died
 * before us are nobody's and dropped. A START is an open request like the others, with a deadline:
 * an init that is stuck is as good as dead. */
#include "shim/init_client.h"

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/list.h"
#include "common/base/rand.h"
#include "common/io/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define INIT_CLIENT_MAGIC 0x53494e43u
#define DEFAULT_TIMEOUT_MS 10000
#define READ_BUDGET 64 /* messages in one turn of the loop */
#define SOCKET_BUFFER (1 << 20)

struct outgoing {
    struct dbx_list node;
    int fds[INIT_MAX_FDS]; /* owned */
    size_t n_fds, len;
    uint8_t data[];
};

struct pending {
    struct dbx_list node;
    uint32_t tag;
    enum init_op op;
    uint64_t deadline_ms;
    struct init_key key; /* of a START */
    shim_init_done_fn *done;
    shim_init_status_fn *status;
    void *user;
};

struct shim_init {
    uint32_t magic;
    struct dbx_loop *loop; /* borrowed */
    int fd;                /* owned */
    struct dbx_watch *watch;
    struct dbx_timer *timer;
    const struct shim_init_handlers *h; /* borrowed */
    void *user;
    struct dbx_list queue, pending;
    size_t n_queue, n_pending;
    uint32_t next_tag;
    unsigned busy; /* callbacks on the stack */
    bool down, freed;
};

static void on_socket(void *user, int events, int error);
static void on_deadline(void *user);

int shim_init_socketpair(int ret[static 2], struct dbx_err *err)
{
    static const int size = SOCKET_BUFFER;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret) < 0)
        return dbx_err_sys(err, "make a control socket");
    for (int i = 0; i < 2; i++) /* as far as the kernel allows */
        for (int opt = 0; opt < 2; opt++)
            if (setsockopt(ret[i], SOL_SOCKET, opt ? SO_SNDBUFFORCE : SO_RCVBUFFORCE, &size,
                           sizeof(size)) < 0)
                (void)setsockopt(ret[i], SOL_SOCKET, opt ? SO_SNDBUF : SO_RCVBUF, &size,
                                 sizeof(size));
    dbx_set_nonblock(ret[0], true);
    return 0;
}

struct shim_init *shim_init_new(struct dbx_loop *loop, int control,
                                const struct shim_init_handlers *h, void *user)
{
    struct shim_init *si = DBX_NEW(struct shim_init);
    si->magic = INIT_CLIENT_MAGIC;
    si->loop = loop;
    si->fd = control;
    si->h = h;
    si->user = user;
    dbx_list_init(&si->queue);
    dbx_list_init(&si->pending);
    dbx_random(&si->next_tag, sizeof(si->next_tag));
    si->timer = dbx_timer_new(loop, on_deadline, si);
    si->watch = dbx_watch_new(loop, control, DBX_READ, on_socket, si);
    return si;
}

int shim_init_fd(const struct shim_init *si)
{
    return si->fd;
}

/* --- the end of it --- */

static void outgoing_free(struct outgoing *o)
{
    for (size_t i = 0; i < o->n_fds; i++)
        dbx_close(o->fds[i]);
    free(o);
}

static void destroy(struct shim_init *si)
{
    si->magic = 0;
    free(si);
}

static void enter(struct shim_init *si)
{
    si->busy++;
}

/* Returns whether si still lives (and is not to be touched otherwise). */
static bool leave(struct shim_init *si)
{
    si->busy--;
    if (!si->freed)
        return true;
    if (si->busy == 0)
        destroy(si);
    return false;
}

static struct pending *pending_take(struct shim_init *si, struct pending *p)
{
    dbx_list_remove(&p->node);
    si->n_pending--;
    return p;
}

static void answer(struct pending *p, uint64_t value, const struct init_status *st,
                   const struct dbx_err *err)
{
    if (p->done)
        p->done(value, err, p->user);
    if (p->status)
        p->status(st, err, p->user);
    free(p);
}

/* Closes everything and cancels what is open. Within enter/leave. */
static void shut(struct shim_init *si)
{
    struct dbx_err err;
    struct outgoing *o;
    struct pending *p;
    si->down = true;
    si->watch = dbx_watch_free(si->watch);
    si->timer = dbx_timer_free(si->timer);
    dbx_closep(&si->fd);
    while ((o = dbx_list_first(&si->queue, struct outgoing, node))) {
        dbx_list_remove(&o->node);
        outgoing_free(o);
    }
    (void)dbx_err_set(&err, -ECANCELED, DBX_UNAVAIL, "the sandbox's init is gone");
    while ((p = dbx_list_first(&si->pending, struct pending, node)))
        answer(pending_take(si, p), 0, NULL, &err);
}

struct shim_init *shim_init_free(struct shim_init *si)
{
    if (!si)
        return NULL;
    dbx_assert(si->magic == INIT_CLIENT_MAGIC && !si->freed);
    si->freed = true;
    si->busy++;
    shut(si);
    (void)leave(si);
    return NULL;
}

static void go_down(struct shim_init *si, const struct dbx_err *err)
{
    if (si->down)
        return;
    enter(si);
    shut(si);
    if (!si->freed && si->h->on_down)
        si->h->on_down(err, si->user);
    (void)leave(si);
}

/* --- what goes out --- */

static void rearm(struct shim_init *si)
{
    struct dbx_list *it, *tmp;
    uint64_t first = UINT64_MAX, now = dbx_now_ms();
    dbx_list_each(it, tmp, &si->pending)
    {
        const struct pending *p = dbx_list_entry(it, struct pending, node);
        if (p->deadline_ms < first)
            first = p->deadline_ms;
    }
    if (first == UINT64_MAX)
        dbx_timer_stop(si->timer);
    else
        dbx_timer_start(si->timer, first > now ? first - now : 0, 0);
}

static void flush(struct shim_init *si)
{
    struct outgoing *o;
    while ((o = dbx_list_first(&si->queue, struct outgoing, node))) {
        if (dbx_send_fds(si->fd, o->data, o->len, o->fds, o->n_fds) == -EAGAIN)
            break; /* any other failure is told by reading */
        dbx_list_remove(&o->node);
        si->n_queue--;
        outgoing_free(o);
    }
    dbx_watch_set(si->watch, si->n_queue ? DBX_READ | DBX_WRITE : DBX_READ);
}

static int enqueue(struct shim_init *si, const void *data, size_t len, const int *fds, size_t n_fds)
{
    struct outgoing *o = dbx_calloc(1, sizeof(*o) + len);
    memcpy(o->data, data, len);
    o->len = len;
    for (size_t i = 0; i < n_fds; i++) {
        int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
        if (fd < 0) {
            int r = -errno;
            outgoing_free(o);
            return r;
        }
        o->fds[o->n_fds++] = fd;
    }
    dbx_list_push(&si->queue, &o->node);
    si->n_queue++;
    dbx_watch_set(si->watch, DBX_READ | DBX_WRITE);
    return 0;
}

static int transmit(struct shim_init *si, const struct dbx_buf *msg, const int *fds, size_t n_fds)
{
    if (si->n_queue == 0) {
        int r = dbx_send_fds(si->fd, msg->data, msg->len, fds, n_fds);
        if (r != -EAGAIN)
            return r == -ECONNRESET ? -EPIPE : r;
    }
    if (si->n_queue >= SHIM_INIT_MAX_QUEUE)
        return -ENOBUFS;
    return enqueue(si, msg->data, msg->len, fds, n_fds);
}

/* A memfd with what does not fit into a message; sealed, so that init can map it without fear. */
static int body_fd(const struct dbx_buf *body, int *ret)
{
    DBX_CLEANUP(dbx_closep) int fd = memfd_create("devbox-body", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    int r = dbx_write_all(fd, body->data, body->len);
    if (r < 0)
        return r;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return -errno;
    *ret = DBX_TAKE_FD(fd);
    return 0;
}

/* fds has room for one more. */
static int transmit_request(struct shim_init *si, enum init_op op, uint32_t tag,
                            const struct dbx_buf *body, int *fds, size_t n_fds)
{
    struct init_header h = {.op = (uint16_t)op, .tag = tag, .body_len = body->len};
    DBX_CLEANUP(dbx_closep) int big = -1;
    struct dbx_buf msg;
    bool inlined = body->len <= INIT_MAX_MESSAGE - sizeof(h);
    if (!inlined) {
        int r = body_fd(body, &big);
        if (r < 0)
            return r;
        h.flags |= INIT_BODY_FD;
        fds[n_fds++] = big;
    }
    dbx_buf_init(&msg, INIT_MAX_MESSAGE);
    int r = dbx_buf_append(&msg, &h, sizeof(h));
    if (r == 0 && inlined && body->len)
        r = dbx_buf_append(&msg, body->data, body->len);
    if (r == 0)
        r = transmit(si, &msg, fds, n_fds);
    dbx_buf_done(&msg);
    return r;
}

/* The two ways to start are answered alike. */
static enum init_op plain_op(enum init_op op)
{
    return op == INIT_START_TTY ? INIT_START : op;
}

/* p: what waits for the answer (copied), or NULL when there is none. */
static int request(struct shim_init *si, enum init_op op, const struct dbx_buf *body, int *fds,
                   size_t n_fds, uint32_t timeout_ms, const struct pending *p)
{
    dbx_assert(si->magic == INIT_CLIENT_MAGIC);
    if (si->down)
        return -EPIPE;
    if (p && si->n_pending >= SHIM_INIT_MAX_PENDING)
        return -ENOBUFS;
    if (++si->next_tag == 0)
        si->next_tag = 1;
    int r = transmit_request(si, op, si->next_tag, body, fds, n_fds);
    if (r < 0 || !p)
        return r;
    struct pending *open = DBX_NEW(struct pending);
    *open = *p;
    open->op = plain_op(op);
    open->tag = si->next_tag;
    open->deadline_ms = dbx_now_ms() + (timeout_ms ? timeout_ms : DEFAULT_TIMEOUT_MS);
    dbx_list_push(&si->pending, &open->node);
    si->n_pending++;
    rearm(si);
    return 0;
}

static int request_fixed(struct shim_init *si, enum init_op op, const void *data, size_t len,
                         uint32_t timeout_ms, const struct pending *p)
{
    struct dbx_buf body = {.data = (uint8_t *)data, .len = len, .max = len};
    int fds[1];
    return request(si, op, &body, fds, 0, timeout_ms, p);
}

int shim_init_files(struct shim_init *si, const char *root, uid_t uid, gid_t gid, const void *block,
                    size_t len, uint32_t timeout_ms, shim_init_done_fn *fn, void *user)
{
    struct init_files f = {.uid = uid, .gid = gid, .root_len = (uint32_t)strlen(root)};
    struct pending p = {.done = fn, .user = user};
    struct dbx_buf body;
    int fds[1];
    dbx_buf_init(&body, INIT_MAX_FILES_BODY);
    int r = dbx_buf_append(&body, &f, sizeof(f));
    if (r == 0)
        r = dbx_buf_str(&body, root);
    if (r == 0)
        r = dbx_buf_append(&body, block, len);
    if (r == 0)
        r = request(si, INIT_FILES, &body, fds, 0, timeout_ms, &p);
    dbx_buf_done(&body);
    return r;
}

int shim_init_layer(struct shim_init *si, const char *target, const char *name, uid_t uid,
                    gid_t gid, shim_init_done_fn *fn, void *user)
{
    struct init_layer f = {.uid = uid,
                           .gid = gid,
                           .target_len = (uint32_t)strlen(target),
                           .name_len = (uint32_t)strlen(name)};
    struct pending p = {.done = fn, .user = user};
    struct dbx_buf body;
    int fds[1];
    dbx_buf_init(&body, DBX_MAX_HEADER);
    int r = dbx_buf_append(&body, &f, sizeof(f));
    if (r == 0)
        r = dbx_buf_str(&body, target);
    if (r == 0)
        r = dbx_buf_str(&body, name);
    if (r == 0)
        r = request(si, INIT_LAYER, &body, fds, 0, 0, &p);
    dbx_buf_done(&body);
    return r;
}

int shim_init_watch(struct shim_init *si, const char *root, uid_t uid, gid_t gid,
                    const char *ignored, size_t ignored_len, bool all, int pipe,
                    shim_init_done_fn *fn, void *user)
{
    struct init_watch r = {.uid = uid,
                           .gid = gid,
                           .root_len = (uint32_t)strlen(root),
                           .ignored_len = (uint32_t)ignored_len,
                           .all = all,
                           .fences = 1};
    struct pending p = {.done = fn, .user = user};
    struct dbx_buf body;
    int fds[2] = {pipe, -1};
    dbx_buf_init(&body, 4096);
    int r2 = dbx_buf_append(&body, &r, sizeof(r));
    if (r2 == 0)
        r2 = dbx_buf_str(&body, root);
    if (r2 == 0)
        r2 = dbx_buf_append(&body, ignored, ignored_len);
    if (r2 == 0)
        r2 = request(si, INIT_WATCH, &body, fds, 1, 0, &p);
    dbx_buf_done(&body);
    return r2;
}

static struct init_key make_key(const struct dbx_id *process, uint32_t phase)
{
    struct init_key key = {.phase = phase};
    memcpy(key.id, process->b, sizeof(key.id));
    return key;
}

static int append_strings(struct dbx_buf *body, char *const *strings, uint16_t *ret_count)
{
    size_t n = 0;
    for (; strings && strings[n]; n++) {
        int r =
            n < INIT_MAX_ARGS ? dbx_buf_append(body, strings[n], strlen(strings[n]) + 1) : -E2BIG;
        if (r < 0)
            return r;
    }
    *ret_count = (uint16_t)n;
    return 0;
}

static int start_body(struct dbx_buf *body, struct init_start *s, const struct shim_init_start *req)
{
    int r = req->tty.cols ? dbx_buf_append(body, &req->tty, sizeof(req->tty)) : 0;
    size_t at = body->len;
    if (r == 0)
        r = dbx_buf_append(body, s, sizeof(*s));
    if (r == 0 && req->n_rlimits)
        r = dbx_buf_append(body, req->rlimits, req->n_rlimits * sizeof(req->rlimits[0]));
    if (r == 0)
        r = dbx_buf_append(body, req->cwd, strlen(req->cwd) + 1);
    if (r == 0)
        r = append_strings(body, req->argv, &s->argc);
    if (r == 0)
        r = append_strings(body, req->env, &s->envc);
    if (r == 0)
        memcpy(body->data + at, s, sizeof(*s)); /* the counts are known now */
    return r;
}

static int request_start(struct shim_init *si, enum init_op op, struct init_start *s,
                         const struct shim_init_start *req, int *fds, size_t n_fds,
                         uint32_t timeout_ms, const struct pending *p)
{
    struct dbx_buf body;
    if (req->n_rlimits > INIT_MAX_RLIMITS)
        return -E2BIG;
    s->uid = req->uid;
    s->gid = req->gid;
    s->n_rlimits = (uint16_t)req->n_rlimits;
    s->umask = (uint16_t)req->umask;
    dbx_buf_init(&body, INIT_MAX_START_BODY);
    int r = start_body(&body, s, req);
    if (r == 0)
        r = request(si, op, &body, fds, n_fds, timeout_ms, p);
    dbx_buf_done(&body);
    return r;
}

int shim_init_start(struct shim_init *si, const struct shim_init_start *req)
{
    struct pending p = {.key = make_key(&req->process, req->phase)};
    struct init_start s = {.key = p.key};
    int fds[INIT_MAX_FDS];
    size_t n_fds = 0;
    for (int i = 0; i < 3; i++)
        if (req->fds[i] >= 0) {
            s.fds |= 1u << i;
            fds[n_fds++] = req->fds[i];
        }
    s.fds |= req->end_group ? INIT_END_GROUP : 0;
    s.fds |= req->after_files ? INIT_AFTER_FILES : 0;
    s.fds |= req->may_parked ? INIT_MAY_PARKED : 0;
    return request_start(si, req->tty.cols ? INIT_START_TTY : INIT_START, &s, req, fds, n_fds, 0,
                         &p);
}

int shim_init_park(struct shim_init *si, const struct shim_init_start *req, uint32_t timeout_ms,
                   shim_init_done_fn *fn, void *user)
{
    struct pending p = {.done = fn, .user = user};
    struct init_start s = {0};
    int fds[1];
    return request_start(si, INIT_PARK, &s, req, fds, 0, timeout_ms, &p);
}

int shim_init_renew(struct shim_init *si, const struct shim_init_start *req, bool fork,
                    uint32_t timeout_ms, shim_init_done_fn *fn, void *user)
{
    struct pending p = {.done = fn, .user = user};
    struct init_start s = {.fds = fork ? INIT_FORK : 0};
    int fds[1];
    return request_start(si, INIT_RENEW, &s, req, fds, 0, timeout_ms, &p);
}

int shim_init_signal(struct shim_init *si, const struct dbx_id *process, uint32_t phase, int signo,
                     enum init_scope scope, shim_init_done_fn *fn, void *user)
{
    struct init_signal s = {
        .key = make_key(process, phase), .signo = (uint32_t)signo, .scope = scope};
    struct pending p = {.done = fn, .user = user};
    return request_fixed(si, INIT_SIGNAL, &s, sizeof(s), 0, &p);
}

int shim_init_resize(struct shim_init *si, const struct dbx_id *process, uint32_t phase,
                     struct init_winsize size, shim_init_done_fn *fn, void *user)
{
    struct init_resize body = {.key = make_key(process, phase), .size = size};
    struct pending p = {.done = fn, .user = user};
    return request_fixed(si, INIT_RESIZE, &body, sizeof(body), 0, &p);
}

int shim_init_listen(struct shim_init *si, uint16_t port, shim_init_done_fn *fn, void *user)
{
    struct init_listen body = {.port = port};
    struct pending p = {.done = fn, .user = user};
    return request_fixed(si, INIT_LISTEN, &body, sizeof(body), 0, &p);
}

int shim_init_stream(struct shim_init *si, uint32_t id, int fd)
{
    struct init_stream what = {.id = id};
    struct dbx_buf body = {.data = (uint8_t *)&what, .len = sizeof(what), .max = sizeof(what)};
    int fds[2] = {fd};
    return request(si, INIT_STREAM, &body, fds, fd < 0 ? 0 : 1, 0, NULL);
}

int shim_init_kill_all(struct shim_init *si, uint32_t timeout_ms, shim_init_done_fn *fn, void *user)
{
    struct pending p = {.done = fn, .user = user};
    return request_fixed(si, INIT_KILL_ALL, NULL, 0, timeout_ms, &p);
}

int shim_init_list(struct shim_init *si, shim_init_done_fn *fn, void *user)
{
    struct pending p = {.done = fn, .user = user};
    return request_fixed(si, INIT_LIST, NULL, 0, 0, &p);
}

int shim_init_ack(struct shim_init *si, const struct dbx_id *process, uint32_t phase)
{
    struct init_key key = make_key(process, phase);
    return request_fixed(si, INIT_ACK, &key, sizeof(key), 0, NULL);
}

int shim_init_stat(struct shim_init *si, shim_init_status_fn *fn, void *user)
{
    struct pending p = {.status = fn, .user = user};
    return request_fixed(si, INIT_STAT, NULL, 0, 0, &p);
}

int shim_init_warm(struct shim_init *si)
{
    return request_fixed(si, INIT_WARM, NULL, 0, 0, NULL);
}

int shim_init_quit(struct shim_init *si)
{
    return request_fixed(si, INIT_QUIT, NULL, 0, 0, NULL);
}

/* --- what comes in --- */

static struct pending *find_pending(struct shim_init *si, uint32_t tag, enum init_op op)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &si->pending)
    {
        struct pending *p = dbx_list_entry(it, struct pending, node);
        if (p->tag == tag && p->op == op)
            return p;
    }
    return NULL;
}

static void drop_pending(struct shim_init *si, struct pending *p)
{
    if (p)
        free(pending_take(si, p));
}

/* A START that init could not even read: the same to the caller as one that failed. */
static void start_refused(struct shim_init *si, struct pending *p, int error)
{
    struct shim_init_started s = {
        .phase = p->key.phase, .error = error ? error : EPROTO, .stage = INIT_STAGE_REQUEST};
    memcpy(s.process.b, p->key.id, sizeof(p->key.id));
    drop_pending(si, p);
    if (si->h->on_started)
        si->h->on_started(&s, si->user);
}

static void on_done(struct shim_init *si, const struct shim_init_msg *m)
{
    struct pending *p = find_pending(si, m->tag, plain_op(m->done.of));
    struct dbx_err err;
    if (!p)
        return; /* too late, or asked for by a shim before us */
    if (p->op == INIT_START) {
        start_refused(si, p, m->done.error);
        return;
    }
    if (m->done.error) {
        errno = m->done.error;
        (void)dbx_err_sys(&err, "in the sandbox%s%s", m->done.text[0] ? ": " : "", m->done.text);
    }
    answer(pending_take(si, p), m->done.value, NULL, m->done.error ? &err : NULL);
}

static void dispatch(struct shim_init *si, const struct shim_init_msg *m)
{
    struct pending *p;
    switch (m->op) {
    case INIT_READY:
        if (si->h->on_ready)
            si->h->on_ready(&m->ready, si->user);
        break;
    case INIT_STARTED:
        drop_pending(si, find_pending(si, m->tag, INIT_START));
        if (si->h->on_started)
            si->h->on_started(&m->started, si->user);
        break;
    case INIT_EXITED:
        if (si->h->on_exited)
            si->h->on_exited(&m->exited, si->user);
        break;
    case INIT_SAW:
        if (si->h->on_saw)
            si->h->on_saw(&m->saw, si->user);
        break;
    case INIT_WANTED:
        if (si->h->on_wanted)
            si->h->on_wanted(m->wanted.id, si->user);
        else
            (void)shim_init_stream(si, m->wanted.id, -1);
        break;
    case INIT_STATUS:
        p = find_pending(si, m->tag, INIT_STAT);
        if (p)
            answer(pending_take(si, p), 0, &m->status, NULL);
        break;
    default:
        on_done(si, m);
    }
}

/* One message. Returns 1 when there was one, 0 when there is none now, -1 when it is over (err:
 * why, or code 0: the end). */
static int read_one(struct shim_init *si, struct shim_init_msg *m, struct dbx_err *err)
{
    uint8_t data[INIT_MAX_REPLY];
    int fds[INIT_MAX_FDS];
    size_t len, n_fds;
    int r = dbx_recv_fds(si->fd, data, sizeof(data), &len, fds, INIT_MAX_FDS, &n_fds);
    if (r == -EAGAIN)
        return 0;
    err->code = 0;
    if (r == -ECONNRESET)
        return -1;
    if (r < 0) {
        errno = -r;
        (void)dbx_err_sys(err, "read from init");
        return -1;
    }
    for (size_t i = 0; i < n_fds; i++) /* nobody in there has any for us */
        dbx_close(fds[i]);
    if (len == 0 || shim_init_decode(data, len, m, err) < 0)
        return -1;
    return 1;
}

static void on_socket(void *user, int events, int error)
{
    struct shim_init *si = DBX_CAST(struct shim_init, INIT_CLIENT_MAGIC, user);
    struct shim_init_msg m;
    struct dbx_err err = {0};
    (void)error; /* reading tells it too */
    enter(si);
    if (events & DBX_WRITE)
        flush(si);
    for (int i = 0; i < READ_BUDGET && !si->down; i++) {
        int r = read_one(si, &m, &err);
        if (r == 0)
            break;
        if (r < 0)
            go_down(si, err.code ? &err : NULL);
        else
            dispatch(si, &m);
    }
    if (!si->down)
        rearm(si);
    (void)leave(si);
}

static struct pending *first_expired(struct shim_init *si, uint64_t now)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &si->pending)
    {
        struct pending *p = dbx_list_entry(it, struct pending, node);
        if (p->deadline_ms <= now)
            return p;
    }
    return NULL;
}

static void on_deadline(void *user)
{
    struct shim_init *si = DBX_CAST(struct shim_init, INIT_CLIENT_MAGIC, user);
    struct pending *p;
    struct dbx_err err;
    uint64_t now = dbx_now_ms();
    enter(si);
    (void)dbx_err_set(&err, -ETIMEDOUT, DBX_TIMEOUT, "the sandbox's init does not answer");
    while (!si->down && (p = first_expired(si, now))) {
        if (p->op == INIT_START)
            go_down(si, &err);
        else
            answer(pending_take(si, p), 0, NULL, &err);
    }
    if (!si->down)
        rearm(si);
    (void)leave(si);
}
