/* SPDX-License-Identifier: Apache-2.0 */
/* How the keeper reads pipes into rings: one interface, two back ends (io_uring, and plain reads
 * when the loop says so). */
#pragma once

#include "common/base/err.h"
#include "shim/keeper_protocol.h"

struct dbx_loop;
struct keeper_pump;

/* One pipe and its ring. Embedded in the keeper's process; the pump uses it from start until
 * on_stopped. */
struct keeper_feed {
    int fd; /* read end; borrowed */
    uint8_t *ring;
    uint64_t size;
    struct keeper_ring *shared;
    uint64_t head; /* ours: what stands in shared memory is not believed */
    bool ended;
    int slot_stream; /* 0 stdout, 1 stderr: its place in the process */
    /* the pump's own */
    bool reading, stopping;
    uint32_t index;
    void *watch;
    struct keeper_pump *pump;
};

struct keeper_pump_handlers {
    void (*on_progress)(struct keeper_feed *f, size_t n, void *user); /* head or state has moved */
    void (*on_stopped)(struct keeper_feed *f,
                       void *user); /* neither fd nor ring is used any more */
};

struct keeper_pump_ops {
    const char *name;
    /* -ENOSYS, -EPERM and the like: this back end does not work here. */
    int (*open)(struct dbx_loop *loop, const struct keeper_pump_handlers *h, void *user,
                struct keeper_pump **ret, struct dbx_err *err);
    void (*close)(struct keeper_pump *p); /* every feed was stopped */
    void (*start)(struct keeper_feed *f, struct keeper_pump *p);
    void (*resume)(
        struct keeper_feed *f);          /* there may be room again; harmless if it reads already */
    void (*stop)(struct keeper_feed *f); /* on_stopped follows, perhaps at once */
    void (*flush)(struct keeper_pump *p); /* after a batch of start, resume and stop */
};
extern const struct keeper_pump_ops keeper_pump_uring, keeper_pump_epoll;

/* Free room, contiguous. 0: the ring is full and marked stalled, or tail is mad and the feed has
 * ended in KEEPER_FAILED. */
size_t keeper_feed_room(struct keeper_feed *f, uint8_t **ret);
void keeper_feed_filled(struct keeper_feed *f, size_t n);
void keeper_feed_ended(struct keeper_feed *f, enum keeper_state state);
