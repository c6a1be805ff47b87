/* SPDX-License-Identifier: Apache-2.0 */
/* The pump on io_uring: for each pipe at most one READ is under way, straight into the free room of
 * its ring. The kernel owns that room until the completion, so a feed is only let go of after its
 * completion has come (stop: cancel, wait, then on_stopped). user_data is an index into a table and
 * the generation of that entry, never a pointer.
 *
 * The read end must be blocking: on one with O_NONBLOCK the kernel answers EAGAIN instead of
 * waiting. The loop learns of completions by a registered eventfd. What is submitted while
 * completions are handled completes (at once, if the pipe has bytes) into the next turn of the
 * loop, so that one busy pipe cannot keep it. */
#include "shim/keeper_pump.h"

#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/io/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ENTRIES 1024
#define COMPLETIONS 16384 /* two streams each of 4096 processes, and as many cancellations */
#define CANCELLED UINT64_MAX

struct entry {
    struct keeper_feed *feed; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
};

struct keeper_pump {
    struct dbx_loop *loop; /* borrowed */
    const struct keeper_pump_handlers *h;
    void *user;
    struct io_uring ring;
    int event;
    struct dbx_watch *watch;
    struct entry *entries; /* owned; grows */
    uint32_t n_entries, free_head;
    bool dirty; /* something was prepared and not submitted */
};

static void on_event(void *user, int events, int error);

static struct io_uring_sqe *get_sqe(struct keeper_pump *p)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&p->ring);
    if (!sqe) {
        (void)io_uring_submit(&p->ring);
        sqe = io_uring_get_sqe(&p->ring);
    }
    dbx_assert(sqe); /* without SQPOLL a submit empties the queue */
    p->dirty = true;
    return sqe;
}

static uint64_t user_data(const struct keeper_pump *p, uint32_t index)
{
    return (uint64_t)p->entries[index].generation << 32 | index;
}

/* Reads if there is room; else the ring is stalled or the feed has ended. */
static void submit_read(struct keeper_pump *p, struct keeper_feed *f)
{
    uint8_t *at;
    size_t room = keeper_feed_room(f, &at);
    if (room == 0) {
        if (f->ended)
            p->h->on_progress(f, 0, p->user);
        return;
    }
    struct io_uring_sqe *sqe = get_sqe(p);
    io_uring_prep_read(sqe, f->fd, at, (unsigned)room, 0);
    io_uring_sqe_set_data64(sqe, user_data(p, f->index));
    f->reading = true;
}

static void uring_flush(struct keeper_pump *p)
{
    if (!p->dirty)
        return;
    p->dirty = false;
    int r;
    do {
        r = io_uring_submit(&p->ring);
    } while (r == -EINTR || r == -EAGAIN || r == -EBUSY);
    dbx_assert(r >= 0);
}

static uint32_t take_entry(struct keeper_pump *p)
{
    if (p->free_head == UINT32_MAX) {
        uint32_t n = p->n_entries ? p->n_entries * 2 : 64;
        p->entries = dbx_realloc(p->entries, n * sizeof(*p->entries));
        for (uint32_t i = n; i-- > p->n_entries;) {
            p->entries[i] = (struct entry){.next_free = p->free_head};
            p->free_head = i;
        }
        p->n_entries = n;
    }
    uint32_t index = p->free_head;
    p->free_head = p->entries[index].next_free;
    return index;
}

static void release(struct keeper_pump *p, struct keeper_feed *f)
{
    struct entry *e = &p->entries[f->index];
    e->feed = NULL;
    e->generation++;
    e->next_free = p->free_head;
    p->free_head = f->index;
    p->h->on_stopped(f, p->user);
}

static void uring_start(struct keeper_feed *f, struct keeper_pump *p)
{
    f->pump = p;
    f->index = take_entry(p);
    p->entries[f->index].feed = f;
    (void)dbx_set_nonblock(f->fd, false);
    submit_read(p, f);
}

static void uring_resume(struct keeper_feed *f)
{
    if (!f->ended && !f->reading && !f->stopping)
        submit_read(f->pump, f);
}

static void uring_stop(struct keeper_feed *f)
{
    struct keeper_pump *p = f->pump;
    if (!f->reading) {
        release(p, f);
        return;
    }
    struct io_uring_sqe *sqe = get_sqe(p);
    io_uring_prep_cancel64(sqe, user_data(p, f->index), 0);
    io_uring_sqe_set_data64(sqe, CANCELLED);
    f->stopping = true;
}

static void completed(struct keeper_pump *p, struct keeper_feed *f, int res)
{
    f->reading = false;
    if (f->stopping) {
        release(p, f);
        return;
    }
    if (res > 0) {
        keeper_feed_filled(f, (size_t)res);
        submit_read(p, f);
    } else if (res == -EINTR) {
        submit_read(p, f);
        return;
    } else {
        keeper_feed_ended(f, res == 0 ? KEEPER_EOF : KEEPER_FAILED);
    }
    p->h->on_progress(f, res > 0 ? (size_t)res : 0, p->user);
}

static void reap(struct keeper_pump *p)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&p->ring, &cqe) == 0) {
        uint64_t data = io_uring_cqe_get_data64(cqe);
        int res = cqe->res;
        io_uring_cqe_seen(&p->ring, cqe);
        uint32_t index = (uint32_t)data;
        if (data == CANCELLED || index >= p->n_entries)
            continue;
        if (p->entries[index].feed && p->entries[index].generation == data >> 32)
            completed(p, p->entries[index].feed, res);
    }
}

static void on_event(void *user, int events, int error)
{
    struct keeper_pump *p = user;
    uint64_t count;
    (void)events;
    (void)error;
    reap(p); /* at once: what stands in memory need not wait for a call */
    (void)!read(p->event, &count, sizeof(count));
    reap(p); /* what came before the read, whose news that has taken */
    uring_flush(p);
}

/* Whether reading a pipe works as it should: a feature test, not a kernel version. */
static int try_read(struct io_uring *ring)
{
    DBX_CLEANUP(dbx_closep) int r = -1;
    DBX_CLEANUP(dbx_closep) int w = -1;
    int fds[2];
    struct io_uring_cqe *cqe;
    struct __kernel_timespec limit = {.tv_sec = 2};
    char c = 0;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    r = fds[0];
    w = fds[1];
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    io_uring_prep_read(sqe, r, &c, 1, 0);
    int res = io_uring_submit(ring);
    if (res < 0)
        return res;
    if (write(w, "x", 1) != 1)
        return -errno;
    res = io_uring_wait_cqe_timeout(ring, &cqe, &limit);
    if (res < 0)
        return res;
    res = cqe->res == 1 && c == 'x' ? 0 : cqe->res < 0 ? cqe->res : -ENOSYS;
    io_uring_cqe_seen(ring, cqe);
    return res;
}

/* What is asked of the kernel through a ring passes no seccomp filter: so the ring itself takes
 * nothing but reads and their cancelling, for good. */
static int restrict_ring(struct io_uring *ring)
{
    struct io_uring_restriction only[] = {
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_ASYNC_CANCEL},
        {.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_EVENTFD}};
    /* liburing declares functions for these two, and Debian's does not export them */
    int r = io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_RESTRICTIONS, only,
                              DBX_ARRAY_LEN(only));
    if (r == 0)
        r = io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    return r;
}

static int open_ring(struct io_uring *ring)
{
    struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_R_DISABLED,
                                     .cq_entries = COMPLETIONS};
    int r = io_uring_queue_init_params(ENTRIES, ring, &params);
    if (r == -EINVAL) { /* before 6.0 */
        params = (struct io_uring_params){.flags = IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
                                          .cq_entries = COMPLETIONS};
        r = io_uring_queue_init_params(ENTRIES, ring, &params);
    }
    if (r < 0)
        return r;
    r = restrict_ring(ring);
    if (r < 0)
        io_uring_queue_exit(ring);
    return r;
}

static int uring_open(struct dbx_loop *loop, const struct keeper_pump_handlers *h, void *user,
                      struct keeper_pump **ret, struct dbx_err *err)
{
    struct io_uring ring;
    DBX_CLEANUP(dbx_closep) int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = open_ring(&ring);
    if (r < 0)
        return dbx_err_set(err, r, DBX_UNAVAIL, "set up io_uring: %s", strerror(-r));
    r = try_read(&ring);
    if (r == 0)
        r = event < 0 ? -EMFILE : io_uring_register_eventfd(&ring, event);
    if (r < 0) {
        io_uring_queue_exit(&ring);
        return dbx_err_set(err, r, DBX_UNAVAIL, "read a pipe by io_uring: %s", strerror(-r));
    }
    struct keeper_pump *p = DBX_NEW(struct keeper_pump);
    *p = (struct keeper_pump){
        .loop = loop, .h = h, .user = user, .ring = ring, .free_head = UINT32_MAX};
    p->event = DBX_TAKE_FD(event);
    p->watch = dbx_watch_new(loop, p->event, DBX_READ, on_event, p);
    *ret = p;
    return 0;
}

static bool any_feed(const struct keeper_pump *p)
{
    for (uint32_t i = 0; i < p->n_entries; i++)
        if (p->entries[i].feed)
            return true;
    return false;
}

static void uring_close(struct keeper_pump *p)
{
    struct io_uring_cqe *cqe;
    struct __kernel_timespec limit = {.tv_nsec = 100000000};
    uint64_t until = dbx_now_ms() + 5000;
    uring_flush(p);
    while (any_feed(p) && dbx_now_ms() < until) { /* cancelled, on their way */
        (void)io_uring_wait_cqe_timeout(&p->ring, &cqe, &limit);
        reap(p);
    }
    p->watch = dbx_watch_free(p->watch);
    io_uring_queue_exit(&p->ring);
    dbx_close(p->event);
    free(p->entries);
    free(p);
}

const struct keeper_pump_ops keeper_pump_uring = {
    .name = "uring",
    .open = uring_open,
    .close = uring_close,
    .start = uring_start,
    .resume = uring_resume,
    .stop = uring_stop,
    .flush = uring_flush,
};
