/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes from one stream socket to another through a small buffer, for both ends of a sandbox's
 * connection: init and the shim. libc only, no loop: who has one asks what to wait for. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RELAY_BUFFER (32u << 10)

/* Begin with zero, and the descriptors: borrowed, O_NONBLOCK. */
struct relay {
    int from, to;
    uint32_t at, len; /* what stands in data */
    bool ended;       /* nothing more comes from `from` */
    bool told;        /* and `to` knows, after the last byte: over */
    uint8_t data[RELAY_BUFFER];
};

/* One piece. *ret_moved: bytes read or written. Returns 0, or a positive errno: it is broken. When
 * `from` has ended and all is written, the writing side of `to` is shut down. */
int relay_move(struct relay *r, uint64_t *ret_moved);
static inline bool relay_reads(const struct relay *r) /* waits for `from` */
{
    return !r->ended && r->len == 0;
}
static inline bool relay_writes(const struct relay *r) /* waits for `to` */
{
    return r->len > 0;
}
