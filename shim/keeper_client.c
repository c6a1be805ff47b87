/* SPDX-License-Identifier: Apache-2.0 */
/* The connection to the keeper. Streams with news stand in one list and are called in turn, a few
 * in each turn of the loop; while any are left the doorbell stays unarmed, so that a busy keeper
 * writes no eventfd that nobody needs. */
#include "shim/keeper_client_int.h"

#include "common/base/fd.h"
#include "common/io/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define KEEPER_CLIENT_MAGIC 0x534b4550u
#define BACKOFF_MIN_MS 10
#define BACKOFF_MAX_MS 1000
#define MAX_OUT 4096
#define READ_BUDGET 256
#define CALL_BUDGET 64 /* streams called in one turn */

struct outgoing {
    struct dbx_list node;
    struct keeper_msg m;
    int fds[KEEPER_MAX_FDS]; /* owned */
    size_t n_fds;
};

struct pending {
    struct dbx_list node;
    uint32_t serial;
    shim_keeper_done_fn *fn;
    void *user;
};

static void try_connect(void *user);
static void on_socket(void *user, int events, int error);
static void on_deferred_turn(void *user);

struct shim_keeper *shim_keeper_new(struct dbx_loop *loop, const char *path,
                                    const struct shim_keeper_handlers *h, void *user)
{
    struct shim_keeper *sk = DBX_NEW(struct shim_keeper);
    sk->magic = KEEPER_CLIENT_MAGIC;
    sk->loop = loop;
    sk->path = dbx_strdup(path);
    sk->h = h;
    sk->user = user;
    sk->fd = sk->wake_me = sk->wake_keeper = -1;
    sk->backoff_ms = BACKOFF_MIN_MS;
    dbx_list_init(&sk->out);
    dbx_list_init(&sk->pending);
    dbx_list_init(&sk->ready);
    sk->retry = dbx_timer_new(loop, try_connect, sk);
    dbx_timer_start(sk->retry, 0, 0);
    return sk;
}

bool shim_keeper_is_up(const struct shim_keeper *sk)
{
    return sk->state == LINK_UP;
}

/* --- the end of a connection --- */

static void outgoing_free(struct outgoing *o)
{
    for (size_t i = 0; i < o->n_fds; i++)
        dbx_close(o->fds[i]);
    free(o);
}

static void shut(struct shim_keeper *sk)
{
    struct outgoing *o;
    struct dbx_list *it, *tmp;
    sk->state = LINK_DOWN;
    sk->watch = dbx_watch_free(sk->watch);
    sk->bell_watch = dbx_watch_free(sk->bell_watch);
    dbx_closep(&sk->fd);
    dbx_closep(&sk->wake_me);
    dbx_closep(&sk->wake_keeper);
    keeper_bells_unmap(sk->bells);
    sk->bells = NULL;
    while ((o = dbx_list_first(&sk->out, struct outgoing, node))) {
        dbx_list_remove(&o->node);
        outgoing_free(o);
    }
    sk->n_out = 0;
    dbx_list_each(it, tmp, &sk->ready) dbx_list_remove(it);
    for (uint32_t i = 0; i < KEEPER_SLOTS; i++)
        if (sk->slots[i]) {
            sk->slots[i]->dead = true;
            sk->slots[i] = NULL;
        }
}

/* Tells the open requests. free: nobody is to be told. */
static void cancel_pending(struct shim_keeper *sk, const struct dbx_err *err, bool tell)
{
    struct pending *p;
    while ((p = dbx_list_first(&sk->pending, struct pending, node))) {
        dbx_list_remove(&p->node);
        sk->n_pending--;
        if (tell && p->fn)
            p->fn(err, p->user);
        free(p);
    }
}

static void leave(struct shim_keeper *sk)
{
    if (--sk->busy == 0 && sk->freed)
        free(sk);
}

/* Within busy: a callback may free sk. */
static void go_down(struct shim_keeper *sk, const struct dbx_err *err)
{
    bool told = sk->state == LINK_UP || sk->state == LINK_INVENTORY;
    if (sk->state == LINK_DOWN || sk->freed)
        return;
    shut(sk);
    cancel_pending(sk, err, true);
    if (told && !sk->freed && sk->h->on_down)
        sk->h->on_down(err, sk->user);
    if (!sk->freed) {
        dbx_timer_start(sk->retry, sk->backoff_ms, 0);
        sk->backoff_ms = sk->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : sk->backoff_ms * 2;
    }
}

struct shim_keeper *shim_keeper_free(struct shim_keeper *sk)
{
    if (!sk)
        return NULL;
    dbx_assert(sk->magic == KEEPER_CLIENT_MAGIC);
    sk->freed = true;
    sk->magic = 0;
    sk->busy++;
    shut(sk);
    cancel_pending(sk, NULL, false);
    sk->retry = dbx_timer_free(sk->retry);
    dbx_loop_undefer(sk->loop, on_deferred_turn, sk);
    free(sk->path);
    leave(sk);
    return NULL;
}

/* --- what goes out --- */

/* 0, -EAGAIN, or what is wrong with the connection. */
static int flush(struct shim_keeper *sk)
{
    struct outgoing *o;
    while ((o = dbx_list_first(&sk->out, struct outgoing, node))) {
        int r = dbx_send_fds(sk->fd, &o->m, sizeof(o->m), o->fds, o->n_fds);
        if (r < 0)
            return r;
        dbx_list_remove(&o->node);
        sk->n_out--;
        outgoing_free(o);
    }
    return 0;
}

static int enqueue(struct shim_keeper *sk, const struct keeper_msg *m, const int *fds, size_t n_fds)
{
    struct outgoing *o = DBX_NEW(struct outgoing);
    o->m = *m;
    for (size_t i = 0; i < n_fds; i++) {
        int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
        if (fd < 0) {
            int r = -errno;
            outgoing_free(o);
            return r;
        }
        o->fds[o->n_fds++] = fd;
    }
    dbx_list_push(&sk->out, &o->node);
    sk->n_out++;
    dbx_watch_set(sk->watch, DBX_READ | DBX_WRITE);
    return 0;
}

static int transmit(struct shim_keeper *sk, const struct keeper_msg *m, const int *fds,
                    size_t n_fds)
{
    if (sk->n_out == 0) {
        int r = dbx_send_fds(sk->fd, m, sizeof(*m), fds, n_fds);
        if (r == 0)
            return 0;
        if (r != -EAGAIN) /* told by reading */
            return -ENOTCONN;
    }
    return sk->n_out < MAX_OUT ? enqueue(sk, m, fds, n_fds) : -ENOBUFS;
}

int shim_keeper__request(struct shim_keeper *sk, struct keeper_msg *m, const int *fds, size_t n_fds,
                         shim_keeper_done_fn *fn, void *user)
{
    if (sk->state != LINK_UP)
        return -ENOTCONN;
    m->serial = ++sk->serial;
    int r = transmit(sk, m, fds, n_fds);
    if (r < 0)
        return r;
    struct pending *p = DBX_NEW(struct pending);
    *p = (struct pending){.serial = m->serial, .fn = fn, .user = user};
    dbx_list_push(&sk->pending, &p->node);
    sk->n_pending++;
    return 0;
}

int shim_keeper_add_sandbox(struct shim_keeper *sk, const struct dbx_id *sandbox, int control,
                            int state, shim_keeper_done_fn *fn, void *user)
{
    struct keeper_msg m = {.type = KEEPER_ADD_SANDBOX};
    int fds[2] = {control, state};
    memcpy(m.sandbox, sandbox->b, sizeof(m.sandbox));
    return shim_keeper__request(sk, &m, fds, state < 0 ? 1 : 2, fn, user);
}

int shim_keeper_remove_sandbox(struct shim_keeper *sk, const struct dbx_id *sandbox)
{
    struct keeper_msg m = {.type = KEEPER_REMOVE_SANDBOX};
    memcpy(m.sandbox, sandbox->b, sizeof(m.sandbox));
    return shim_keeper__request(sk, &m, NULL, 0, NULL, NULL);
}

/* --- streams --- */

void shim_keeper__wake(struct shim_keeper *sk, uint32_t slot)
{
    if (sk->bells)
        keeper_ring_bell(&sk->bells->room, sk->wake_keeper, slot);
}

void shim_keeper__schedule(struct shim_keeper *sk)
{
    if (sk->state != LINK_UP) /* nobody hears of bytes before on_up */
        return;
    if (!sk->turning)
        dbx_loop_defer(sk->loop, on_deferred_turn, sk);
    sk->turning = true;
}

static void on_ready_slot(uint32_t slot, void *user)
{
    struct shim_keeper *sk = user;
    if (sk->slots[slot])
        shim_kept__look(sk->slots[slot]);
}

/* One turn: what the doorbell says, a few calls, then sleep if nothing is left. */
static void take_turn(struct shim_keeper *sk)
{
    struct shim_stream *s;
    if (sk->state != LINK_UP)
        return;
    sk->busy++;
    if (sk->bells)
        (void)keeper_collect(&sk->bells->ready, on_ready_slot, sk);
    for (int i = 0; i < CALL_BUDGET && !sk->freed; i++) {
        s = dbx_list_first(&sk->ready, struct shim_stream, node);
        if (!s)
            break;
        (void)shim_stream__call(s);
    }
    if (!sk->freed) {
        bool rest = !dbx_list_empty(&sk->ready);
        if (!rest && sk->bells)
            rest = !keeper_arm(&sk->bells->ready);
        if (rest)
            shim_keeper__schedule(sk);
    }
    leave(sk);
}

static void on_deferred_turn(void *user)
{
    struct shim_keeper *sk = user;
    sk->turning = false;
    take_turn(sk);
}

static void on_bell(void *user, int events, int error)
{
    struct shim_keeper *sk = user;
    uint64_t count;
    (void)events;
    (void)error;
    (void)!read(sk->wake_me, &count, sizeof(count));
    take_turn(sk);
}

/* --- what the keeper says --- */

static int on_welcome(struct shim_keeper *sk, const struct keeper_msg *m, int *fds,
                      struct dbx_err *err)
{
    if (sk->state != LINK_WELCOME || m->value != KEEPER_VERSION)
        return dbx_err_set(err, -EPROTO, DBX_INVALID, "the keeper speaks version %llu, we %d",
                           (unsigned long long)m->value, KEEPER_VERSION);
    int r = keeper_bells_map(fds[0], &sk->bells, err);
    if (r < 0)
        return r;
    sk->wake_me = DBX_TAKE_FD(fds[1]);
    sk->wake_keeper = DBX_TAKE_FD(fds[2]);
    sk->bell_watch = dbx_watch_new(sk->loop, sk->wake_me, DBX_READ, on_bell, sk);
    sk->state = LINK_INVENTORY;
    sk->inventoried = 0;
    return 0;
}

static int on_kept(struct shim_keeper *sk, const struct keeper_msg *m, int *fds, size_t n_fds,
                   struct dbx_err *err)
{
    struct shim_kept *p;
    struct dbx_id id;
    if (sk->state != LINK_INVENTORY)
        return dbx_err_set(err, -EPROTO, DBX_INVALID, "the keeper lists out of turn");
    sk->inventoried++;
    if (m->type == KEEPER_SANDBOX) {
        memcpy(id.b, m->sandbox, sizeof(id.b));
        int control = DBX_TAKE_FD(fds[0]), state = n_fds > 1 ? DBX_TAKE_FD(fds[1]) : -1;
        if (sk->h->on_sandbox) {
            sk->h->on_sandbox(&id, control, state, sk->user);
        } else {
            dbx_close(control);
            dbx_close(state);
        }
        return 0;
    }
    int r = shim_kept__adopt(sk, m, fds[0], n_fds > 1 ? fds[1] : -1, &p, err);
    if (r < 0)
        return r;
    if (n_fds > 1)
        fds[1] = -1; /* taken */
    if (sk->h->on_process)
        sk->h->on_process(p, sk->user);
    else
        shim_kept_free(p);
    return 0;
}

static int on_reply(struct shim_keeper *sk, const struct keeper_msg *m, struct dbx_err *err)
{
    struct pending *p = dbx_list_first(&sk->pending, struct pending, node);
    struct dbx_err why;
    if (sk->state != LINK_UP || !p || p->serial != m->serial)
        return dbx_err_set(err, -EPROTO, DBX_INVALID, "the keeper answers out of turn");
    dbx_list_remove(&p->node);
    sk->n_pending--;
    if (m->error) {
        errno = m->error;
        (void)dbx_err_sys(&why, "the keeper refuses");
    }
    if (p->fn)
        p->fn(m->error ? &why : NULL, p->user);
    free(p);
    return 0;
}

static int on_message(struct shim_keeper *sk, const struct keeper_msg *m, int *fds, size_t n_fds,
                      struct dbx_err *err)
{
    switch (m->type) {
    case KEEPER_WELCOME:
        return on_welcome(sk, m, fds, err);
    case KEEPER_SANDBOX:
    case KEEPER_PROCESS:
        return on_kept(sk, m, fds, n_fds, err);
    case KEEPER_INVENTORY_END:
        if (sk->state != LINK_INVENTORY || m->value != sk->inventoried)
            return dbx_err_set(err, -EPROTO, DBX_INVALID, "the keeper's inventory is not whole");
        sk->state = LINK_UP;
        sk->backoff_ms = BACKOFF_MIN_MS;
        shim_keeper__schedule(sk); /* arms the doorbell */
        if (sk->h->on_up)
            sk->h->on_up(sk->user);
        return 0;
    default:
        return on_reply(sk, m, err);
    }
}

/* 1: one message; 0: none now; else the connection is over. */
static int take_message(struct shim_keeper *sk, struct dbx_err *err)
{
    uint8_t data[sizeof(struct keeper_msg) + 1];
    int fds[KEEPER_MAX_FDS];
    size_t len, n_fds;
    struct keeper_msg m;
    int r = dbx_recv_fds(sk->fd, data, sizeof(data), &len, fds, KEEPER_MAX_FDS, &n_fds);
    if (r == -EAGAIN)
        return 0;
    if (r < 0 || len == 0)
        return dbx_err_set(err, r < 0 ? r : -ECONNRESET, DBX_UNAVAIL, "the keeper is gone");
    r = keeper_msg_decode(data, len, n_fds, false, &m, err);
    if (r == 0)
        r = on_message(sk, &m, fds, n_fds, err);
    for (size_t i = 0; i < n_fds; i++)
        dbx_close(fds[i]);
    return r < 0 ? r : 1;
}

static void on_socket(void *user, int events, int error)
{
    struct shim_keeper *sk = DBX_CAST(struct shim_keeper, KEEPER_CLIENT_MAGIC, user);
    struct dbx_err err = {0};
    (void)events;
    (void)error;
    sk->busy++;
    int r = flush(sk);
    if (r == 0)
        dbx_watch_set(sk->watch, DBX_READ);
    r = 1;
    for (int i = 0; i < READ_BUDGET && r > 0 && sk->fd >= 0; i++)
        r = take_message(sk, &err);
    if (r < 0)
        go_down(sk, &err);
    leave(sk);
}

static int open_connection(struct shim_keeper *sk)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    DBX_CLEANUP(dbx_closep)
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    size_t len = strlen(sk->path);
    if (fd < 0)
        return -errno;
    if (len >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    memcpy(addr.sun_path, sk->path, len);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return -errno;
    struct keeper_msg hello = {.type = KEEPER_HELLO, .value = KEEPER_VERSION};
    int r = dbx_send_fds(fd, &hello, sizeof(hello), NULL, 0);
    if (r < 0)
        return r;
    sk->fd = DBX_TAKE_FD(fd);
    return 0;
}

static void try_connect(void *user)
{
    struct shim_keeper *sk = DBX_CAST(struct shim_keeper, KEEPER_CLIENT_MAGIC, user);
    if (open_connection(sk) < 0) {
        dbx_timer_start(sk->retry, sk->backoff_ms, 0);
        sk->backoff_ms = sk->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : sk->backoff_ms * 2;
        return;
    }
    sk->state = LINK_WELCOME;
    sk->watch = dbx_watch_new(sk->loop, sk->fd, DBX_READ, on_socket, sk);
}
