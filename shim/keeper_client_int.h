/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by keeper_client.c (the connection) and keeper_stream.c (the processes and their streams).
 */
#pragma once

#include "common/base/list.h"
#include "shim/keeper_client.h"
#include "shim/keeper_int.h"

struct dbx_timer;
struct dbx_watch;

struct shim_stream {
    struct shim_kept *p;
    int index;
    struct keeper_ring *shared;
    uint8_t *ring;
    uint64_t size, next;
    struct dbx_list node; /* in sk->ready while a call is due */
    bool held;            /* the handler wants no more until resume */
    bool told;            /* it has seen the end */
    bool insane;          /* the keeper's head cannot be */
};

struct shim_kept {
    struct shim_keeper *sk; /* borrowed */
    bool dead;              /* the keeper that had it is gone */
    uint32_t slot, phase;
    struct dbx_id sandbox, process;
    uint64_t ring_size;
    struct keeper_shared *shared;
    int in; /* owned; -1 */
    struct shim_stream streams[2];
    shim_stream_fn *fn;
    void *user;
    bool *gone; /* set when freed inside its own callback */
};

enum link_state { LINK_DOWN, LINK_WELCOME, LINK_INVENTORY, LINK_UP };

struct shim_keeper {
    uint32_t magic;
    struct dbx_loop *loop; /* borrowed */
    char *path;            /* owned */
    const struct shim_keeper_handlers *h;
    void *user;
    enum link_state state;
    int fd, wake_me, wake_keeper; /* owned */
    struct dbx_watch *watch, *bell_watch;
    struct dbx_timer *retry;
    bool turning; /* ready streams go on in the next turn of the loop */
    uint64_t backoff_ms;
    struct keeper_doorbells *bells;
    uint32_t serial;
    uint64_t inventoried;
    struct dbx_list out, pending, ready;
    size_t n_out, n_pending;
    struct shim_kept *slots[KEEPER_SLOTS]; /* borrowed: whoever holds a shim_kept frees it */
    unsigned busy;
    bool freed;
};

/* keeper_client.c. m's serial is filled in. fds are copied if they must wait. */
int shim_keeper__request(struct shim_keeper *sk, struct keeper_msg *m, const int *fds, size_t n_fds,
                         shim_keeper_done_fn *fn, void *user);
void shim_keeper__wake(struct shim_keeper *sk, uint32_t slot); /* a stalled ring of it has room */
void shim_keeper__schedule(struct shim_keeper *sk);            /* ready is not empty */

/* keeper_stream.c. memfd stays the caller's, in is taken. */
int shim_kept__adopt(struct shim_keeper *sk, const struct keeper_msg *m, int memfd, int in,
                     struct shim_kept **ret, struct dbx_err *err);
void shim_kept__look(
    struct shim_kept *p); /* puts those of its streams that have news among the ready */
bool shim_stream__call(struct shim_stream *s); /* false: its process was freed meanwhile */
