/* SPDX-License-Identifier: Apache-2.0 */
/* Shim and keeper: messages on a SEQPACKET socket, and the memory they share.
 *
 * The keeper (devbox-shim-keeper) outlives the shim. It holds a copy of each sandbox's control
 * socket, so that init does not see the shim die, and it alone reads the pipes of the programs,
 * straight into rings that the shim consumes. It publishes `head` after the bytes are there: a shim
 * that dies between two instructions has lost nothing, for it has read nothing. The keeper decides
 * nothing and looks at no content.
 *
 * Messages: one fixed struct each way, with descriptors. The shim says HELLO, the keeper answers
 * WELCOME, then everything it holds (SANDBOX, PROCESS), then INVENTORY_END. From then on the shim's
 * requests are answered one by one with REPLY, in order. A new connection replaces the old one,
 * whose messages are taken to the last before it is closed.
 *
 * Memory, per process one memfd made by the shim (sealed against shrinking and growing): the page
 * keeper_shared, then the stdout ring, then the stderr ring. Positions are stream offsets: byte n
 * stands at n & (ring_size - 1). keeper: owns head, state, stalled.   shim: owns tail and all below
 * it. Full ring: the keeper sets stalled, looks at tail once more, and stops reading; the pipe
 * fills, the program waits. The shim, having moved tail, looks at stalled, and when a quarter of
 * the ring is free sets the slot's bit in room[] and wakes the keeper. Each side stores, fences
 * (seq_cst), then loads what the other stores: one of the two always sees it.
 *
 * Doorbells, per connection one memfd page made by the keeper and an eventfd each way: the waking
 * side sets a bit and writes the eventfd only if the other has armed itself (armed is taken back by
 * whoever rings). */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "common/ext/crypto.h"

#define KEEPER_VERSION 1
#define KEEPER_SLOTS 4096     /* processes */
#define KEEPER_SANDBOXES 1024 /* default maximum */
#define KEEPER_PAGE 4096
#define KEEPER_RING_MIN (4u << 10)
#define KEEPER_RING_DEFAULT (256u << 10)
#define KEEPER_RING_MAX (8u << 20)
#define KEEPER_SHARED_MAGIC 0x4b584244u /* "DBXK" */

enum keeper_type {
    /* shim to keeper */
    KEEPER_HELLO = 1, /* value: version */
    KEEPER_ADD_SANDBOX =
        2, /* sandbox; fds: control socket, and one more if the shim likes (its own state) */
    KEEPER_REMOVE_SANDBOX =
        3,                  /* sandbox: its descriptors; its processes stay till each is removed */
    KEEPER_ADD_PROCESS = 4, /* slot, sandbox, process, phase, value: ring size, streams; fds: memfd,
                               then as in streams */
    KEEPER_REMOVE_PROCESS = 5, /* slot, process */
    KEEPER_CLOSE_STDIN = 6,    /* slot, process */
    /* keeper to shim */
    KEEPER_WELCOME = 64, /* value: version; fds: doorbell memfd, eventfd to wake the shim, eventfd
                            to wake the keeper */
    KEEPER_SANDBOX = 65, /* as in ADD_SANDBOX */
    KEEPER_PROCESS =
        66, /* as in ADD_PROCESS; fds: memfd, and stdin while it is open (streams says) */
    KEEPER_INVENTORY_END = 67, /* value: how many messages came before */
    KEEPER_REPLY = 68,         /* serial of the request, error */
};

enum keeper_streams {
    KEEPER_STDOUT = 1,
    KEEPER_STDERR = 2,
    KEEPER_STDIN = 4
}; /* which descriptors come, in this order */

struct keeper_msg {
    uint32_t type;
    uint32_t serial; /* chosen by the shim */
    int32_t error;   /* 0, or a positive errno */
    uint32_t slot;
    uint8_t sandbox[16], process[16];
    uint32_t phase;
    uint32_t streams; /* keeper_streams */
    uint64_t value;
};

enum keeper_state {
    KEEPER_OPEN = 0,
    KEEPER_EOF = 1,
    KEEPER_FAILED = 2
}; /* after the last byte's head */

/* Written by the keeper in the first half, by the shim in the second; each half a cache line of its
 * own. */
struct keeper_ring {
    _Alignas(64) _Atomic uint64_t head;
    _Atomic uint32_t state;   /* keeper_state */
    _Atomic uint32_t stalled; /* no read is under way: ring full */
    _Alignas(64) _Atomic uint64_t tail;
};

/* A record that was given to the log and is not acknowledged: what a new shim needs to say it again
 * with the same words. The bytes of an output record are those at `offset` of its ring. Filled,
 * then `used` is set; taken back by `used` alone. */
struct keeper_intent {
    uint64_t seq, offset;
    int64_t ts_us;
    uint32_t len;
    uint8_t type, flags; /* of the record */
    _Atomic uint8_t used;
    uint8_t reserved;
};

#define KEEPER_INTENTS 64
#define KEEPER_DURABLE_VERSION 1

/* The shim's own durable state of a process: the keeper never looks at it. Every change is one
 * store, or several that mean nothing before the last one: the shim may be killed between any two.
 */
struct keeper_durable {
    _Atomic uint32_t version;    /* set last when it is made; 0: it is not in use */
    _Atomic uint32_t hash_at[2]; /* per stream: which of its two hashes counts */
    _Atomic uint64_t acked[2];   /* per stream: every byte before is in the log */
    _Atomic uint64_t next_seq;   /* of the next record; an intent may be ahead of it */
    struct keeper_intent intents[KEEPER_INTENTS];
    struct dbx_sha256_state hash[2][2]; /* of the bytes that were given to the log */
};

struct keeper_shared {
    uint32_t magic, version;
    uint32_t ring_size; /* bytes of each ring, a power of two; the keeper uses the message's value,
                           not this */
    uint32_t reserved;
    struct keeper_ring ring[2]; /* stdout, stderr */
    struct keeper_durable durable;
};

struct keeper_bell {
    _Alignas(
        64) _Atomic uint32_t armed; /* its reader sleeps (or is about to) and wants the eventfd */
    _Alignas(64) _Atomic uint64_t bits[KEEPER_SLOTS / 64];
};

struct keeper_doorbells {
    struct keeper_bell ready; /* keeper to shim: bytes or an end */
    struct keeper_bell room;  /* shim to keeper: a stalled ring has room */
};

_Static_assert(sizeof(struct keeper_msg) == 64, "layout");
_Static_assert(sizeof(struct keeper_shared) <= KEEPER_PAGE, "one page");
_Static_assert(sizeof(struct keeper_doorbells) <= KEEPER_PAGE, "one page");

/* Where ring `stream` (0 or 1) begins, and how long the memfd is. */
static inline uint64_t keeper_ring_offset(uint64_t ring_size, int stream)
{
    return KEEPER_PAGE + (stream ? ring_size : 0);
}
static inline uint64_t keeper_map_size(uint64_t ring_size)
{
    return KEEPER_PAGE + 2 * ring_size;
}
