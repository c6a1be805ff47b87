/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper's socket: one shim at a time. A new connection is a candidate until its HELLO; then it
 * takes the place of the old one, whose last messages are taken first: a shim that was killed right
 * after it handed over a process has handed it over. While anything waits to be sent, no request is
 * read, so that the queue stays as long as the inventory. */
#include "shim/keeper.h"

#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/metrics.h"
#include "common/io/loop.h"
#include "shim/keeper_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define READ_BUDGET 64
#define COLLECT_ROUNDS 16

struct outgoing {
    struct keeper_msg m;
    int fds[3]; /* borrowed */
    size_t n_fds;
};

struct connection {
    struct keeper *k;
    int fd; /* owned */
    struct dbx_watch *watch;
    bool greeted;
    struct outgoing *out; /* owned; from out_at on is to be sent */
    size_t out_at, n_out, cap_out;
    int bells_fd, wake_shim, wake_keeper; /* owned */
    struct keeper_doorbells *bells;
    struct dbx_watch *bell_watch;
};

struct keeper {
    struct dbx_loop *loop; /* borrowed */
    char *path;            /* owned */
    int listener;
    struct dbx_watch *watch;
    struct connection *shim, *candidate;
    struct keeper_table table;
    struct dbx_err pump_reason;
    struct dbx_metric *connects;
};

static void on_readable(void *user, int events, int error);

/* --- connections --- */

static struct connection *connection_new(struct keeper *k, int fd)
{
    struct connection *c = DBX_NEW(struct connection);
    *c = (struct connection){.k = k, .fd = fd, .bells_fd = -1, .wake_shim = -1, .wake_keeper = -1};
    c->watch = dbx_watch_new(k->loop, fd, DBX_READ, on_readable, c);
    return c;
}

static void connection_free(struct connection *c)
{
    struct keeper *k = c->k;
    if (k->shim == c)
        k->shim = NULL;
    if (k->candidate == c)
        k->candidate = NULL;
    c->watch = dbx_watch_free(c->watch);
    c->bell_watch = dbx_watch_free(c->bell_watch);
    keeper_bells_unmap(c->bells);
    dbx_close(c->fd);
    dbx_close(c->bells_fd);
    dbx_close(c->wake_shim);
    dbx_close(c->wake_keeper);
    free(c->out);
    free(c);
}

static void queue(struct connection *c, const struct keeper_msg *m, const int *fds, size_t n_fds)
{
    if (c->n_out == c->cap_out) {
        c->cap_out = c->cap_out ? c->cap_out * 2 : 16;
        c->out = dbx_realloc(c->out, c->cap_out * sizeof(*c->out));
    }
    struct outgoing *o = &c->out[c->n_out++];
    *o = (struct outgoing){.m = *m, .n_fds = n_fds};
    if (n_fds)
        memcpy(o->fds, fds, n_fds * sizeof(*fds));
}

/* 0, -EAGAIN when the socket is full, or why the connection is of no more use. */
static int flush(struct connection *c)
{
    while (c->out_at < c->n_out) {
        const struct outgoing *o = &c->out[c->out_at];
        int r = dbx_send_fds(c->fd, &o->m, sizeof(o->m), o->fds, o->n_fds);
        if (r < 0)
            return r;
        c->out_at++;
    }
    c->out_at = c->n_out = 0;
    return 0;
}

/* --- doorbells --- */

static void on_table_progress(uint32_t slot, void *user)
{
    struct keeper *k = user;
    if (k->shim)
        keeper_ring_bell(&k->shim->bells->ready, k->shim->wake_shim, slot);
}

static void on_room(uint32_t slot, void *user)
{
    struct keeper *k = user;
    keeper_resume_slot(&k->table, slot);
}

static void answer_bells(struct connection *c)
{
    uint64_t one = 1;
    for (int i = 0; i < COLLECT_ROUNDS; i++) {
        (void)keeper_collect(&c->bells->room, on_room, c->k);
        if (keeper_arm(&c->bells->room))
            break;
        if (i == COLLECT_ROUNDS - 1) /* let others have a turn, and come back */
            (void)!write(c->wake_keeper, &one, sizeof(one));
    }
    keeper_flush(&c->k->table);
}

static void on_bell(void *user, int events, int error)
{
    struct connection *c = user;
    uint64_t count;
    (void)events;
    (void)error;
    (void)!read(c->wake_keeper, &count, sizeof(count));
    answer_bells(c);
}

static int make_bells(struct connection *c, struct dbx_err *err)
{
    int r = keeper_bells_new(&c->bells_fd, &c->bells, err);
    if (r < 0)
        return r;
    c->wake_shim = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->wake_keeper = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake_shim < 0 || c->wake_keeper < 0)
        return dbx_err_sys(err, "make an eventfd");
    c->bell_watch = dbx_watch_new(c->k->loop, c->wake_keeper, DBX_READ, on_bell, c);
    return 0;
}

/* --- what the shim says --- */

static void queue_inventory(struct connection *c)
{
    struct keeper_table *t = &c->k->table;
    struct dbx_map_iter it = {0};
    struct keeper_msg m;
    uint64_t count = 0;
    while (dbx_map_next(t->sandboxes, &it)) {
        const struct keeper_sandbox *sb = it.value;
        if (sb->removed)
            continue;
        count++;
        int fds[2] = {sb->control, sb->state};
        m = (struct keeper_msg){.type = KEEPER_SANDBOX};
        memcpy(m.sandbox, sb->id, sizeof(m.sandbox));
        queue(c, &m, fds, sb->state < 0 ? 1 : 2);
    }
    for (uint32_t i = 0; i < KEEPER_SLOTS; i++) {
        const struct keeper_process *p = t->slots[i];
        if (!p)
            continue;
        int fds[2] = {p->memfd, p->in};
        m = p->what;
        m.type = KEEPER_PROCESS;
        m.serial = 0;
        if (p->in < 0)
            m.streams &= ~(uint32_t)KEEPER_STDIN;
        queue(c, &m, fds, p->in < 0 ? 1 : 2);
        count++;
    }
    m = (struct keeper_msg){.type = KEEPER_INVENTORY_END, .value = count};
    queue(c, &m, NULL, 0);
}

static int take_message(struct connection *c);

/* The old one's place is taken; what it had said before it died still counts. */
static void replace(struct keeper *k, struct connection *c)
{
    struct connection *old = k->shim;
    if (old) {
        old->out_at = old->n_out = 0;
        while (take_message(old) > 0)
            ;
        connection_free(old);
        dbx_log(DBX_LOG_INFO, NULL, "another shim has taken over");
    }
    k->shim = c;
    k->candidate = NULL;
}

static int on_hello(struct connection *c, const struct keeper_msg *m, struct dbx_err *err)
{
    struct keeper *k = c->k;
    struct keeper_msg w = {.type = KEEPER_WELCOME, .value = KEEPER_VERSION};
    if (c->greeted || m->value != KEEPER_VERSION)
        return dbx_err_set(err, -EPROTO, DBX_INVALID, "hello of version %llu",
                           (unsigned long long)m->value);
    int r = make_bells(c, err);
    if (r < 0)
        return r;
    c->greeted = true;
    replace(k, c);
    int fds[3] = {c->bells_fd, c->wake_shim, c->wake_keeper};
    queue(c, &w, fds, 3);
    queue_inventory(c);
    dbx_metric_add(k->connects, 1);
    for (uint32_t i = 0; i < KEEPER_SLOTS; i++) /* who stalled may have been given room since */
        keeper_resume_slot(&k->table, i);
    answer_bells(c);
    return 0;
}

static int on_request(struct connection *c, const struct keeper_msg *m, int *fds, size_t n_fds,
                      struct dbx_err *err)
{
    struct keeper_table *t = &c->k->table;
    int r;
    switch (m->type) {
    case KEEPER_ADD_SANDBOX:
        r = keeper_add_sandbox(t, m, fds, n_fds);
        break;
    case KEEPER_REMOVE_SANDBOX:
        r = keeper_remove_sandbox(t, m->sandbox);
        break;
    case KEEPER_ADD_PROCESS:
        r = keeper_add_process(t, m, fds, n_fds, err);
        break;
    case KEEPER_REMOVE_PROCESS:
        r = keeper_remove_process(t, m);
        break;
    default:
        r = keeper_close_stdin(t, m);
    }
    if (r == 0)
        for (size_t i = 0; i < n_fds; i++)
            fds[i] = -1; /* taken */
    struct keeper_msg reply = {
        .type = KEEPER_REPLY, .serial = m->serial, .error = -r, .slot = m->slot};
    queue(c, &reply, NULL, 0);
    return 0;
}

/* 1: one was dealt with. 0: none is there now. Else the connection is over (err empty: it simply
 * ended). */
static int take_message(struct connection *c)
{
    uint8_t data[sizeof(struct keeper_msg) + 1];
    int fds[KEEPER_MAX_FDS];
    size_t len, n_fds;
    struct keeper_msg m;
    struct dbx_err err = {0};
    int r = dbx_recv_fds(c->fd, data, sizeof(data), &len, fds, KEEPER_MAX_FDS, &n_fds);
    if (r == -EAGAIN)
        return 0;
    if (r < 0 || len == 0)
        return r < 0 ? r : -ENOTCONN;
    r = keeper_msg_decode(data, len, n_fds, true, &m, &err);
    if (r == 0 && m.type == KEEPER_HELLO)
        r = on_hello(c, &m, &err);
    else if (r == 0 && !c->greeted)
        r = dbx_err_set(&err, -EPROTO, DBX_INVALID, "no hello");
    else if (r == 0)
        r = on_request(c, &m, fds, n_fds, &err);
    for (size_t i = 0; i < n_fds; i++)
        dbx_close(fds[i]);
    if (r < 0)
        dbx_log(DBX_LOG_WARN, NULL, "a shim is cut off: %s", err.msg);
    return r < 0 ? r : 1;
}

static void on_readable(void *user, int events, int error)
{
    struct connection *c = user;
    (void)events;
    (void)error;
    int r = flush(c);
    for (int i = 0; i < READ_BUDGET && r == 0; i++) {
        r = take_message(c);
        if (r <= 0)
            break;
        r = flush(c);
    }
    if (r < 0 && r != -EAGAIN) {
        bool was_shim = c->k->shim == c;
        connection_free(c);
        if (was_shim)
            dbx_log(DBX_LOG_INFO, NULL, "the shim is gone; its sandboxes are kept");
        return;
    }
    dbx_watch_set(c->watch, r == -EAGAIN ? DBX_WRITE : DBX_READ);
}

static void on_connect(void *user, int events, int error)
{
    struct keeper *k = user;
    (void)events;
    (void)error;
    int fd = accept4(k->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (k->candidate)
        connection_free(k->candidate);
    k->candidate = connection_new(k, fd);
}

/* --- the whole --- */

static int listen_on(const char *path, int *ret, struct dbx_err *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    DBX_CLEANUP(dbx_closep)
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return dbx_err_sys(err, "make a socket");
    if (strlen(path) >= sizeof(addr.sun_path))
        return dbx_err_field(err, "socket", "path is too long");
    memcpy(addr.sun_path, path, strlen(path));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 || errno == EAGAIN)
        return dbx_err_set(err, -EADDRINUSE, DBX_CONFLICT, "a keeper listens on %s already", path);
    (void)unlink(path);
    mode_t before = umask(0177);
    int r = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
    umask(before);
    if (r < 0 || listen(fd, 16) < 0)
        return dbx_err_sys(err, "listen on %s", path);
    *ret = DBX_TAKE_FD(fd);
    return 0;
}

static int open_table(struct keeper *k, const char *pump, struct dbx_err *err)
{
    bool auto_choice = strcmp(pump, "auto") == 0;
    if (auto_choice || strcmp(pump, "uring") == 0) {
        int r = keeper_table_init(&k->table, k->loop, &keeper_pump_uring,
                                  auto_choice ? &k->pump_reason : err);
        if (r == 0 || !auto_choice)
            return r;
    } else if (strcmp(pump, "epoll") != 0) {
        return dbx_err_field(err, "pump", "must be auto, uring or epoll");
    }
    return keeper_table_init(&k->table, k->loop, &keeper_pump_epoll, err);
}

int keeper_new(const struct keeper_opts *opts, struct keeper **ret, struct dbx_err *err)
{
    struct keeper *k = DBX_NEW(struct keeper);
    k->loop = opts->loop;
    k->listener = -1;
    k->table.max_processes = opts->max_processes;
    k->table.max_sandboxes = opts->max_sandboxes;
    k->table.on_progress = on_table_progress;
    k->table.user = k;
    int r = open_table(k, opts->pump, err);
    if (r == 0)
        r = listen_on(opts->socket, &k->listener, err);
    if (r < 0) {
        keeper_free(k);
        return r;
    }
    k->path = dbx_strdup(opts->socket);
    k->connects = dbx_counter("devbox_keeper_connects_total", NULL, "Shims that connected.");
    k->watch = dbx_watch_new(k->loop, k->listener, DBX_READ, on_connect, k);
    *ret = k;
    return 0;
}

struct keeper *keeper_free(struct keeper *k)
{
    if (!k)
        return NULL;
    if (k->candidate)
        connection_free(k->candidate);
    if (k->shim)
        connection_free(k->shim);
    k->watch = dbx_watch_free(k->watch);
    dbx_close(k->listener);
    if (k->path)
        (void)unlink(k->path);
    keeper_table_done(&k->table);
    free(k->path);
    free(k);
    return NULL;
}

const char *keeper_pump_name(const struct keeper *k)
{
    return k->table.ops->name;
}

const struct dbx_err *keeper_pump_reason(const struct keeper *k)
{
    return &k->pump_reason;
}
