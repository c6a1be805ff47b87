/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by both ends of the keeper's protocol: messages checked, rings mapped. */
#pragma once

#include "common/base/err.h"
#include "shim/keeper_protocol.h"

#define KEEPER_MAX_FDS 4

/* One message as it came. from_shim: which direction. Checks type, ranges and how many descriptors
 * there are. -EBADMSG. */
int keeper_msg_decode(const void *data, size_t len, size_t n_fds, bool from_shim,
                      struct keeper_msg *ret, struct dbx_err *err) DBX_MUST_USE;

/* Maps a process's memfd: it must be sealed against shrinking and of the right size, or SIGBUS
 * could be had. */
int keeper_map(int memfd, uint64_t ring_size, struct keeper_shared **ret,
               struct dbx_err *err) DBX_MUST_USE;
void keeper_unmap(struct keeper_shared *shared, uint64_t ring_size);
static inline uint8_t *keeper_ring_data(struct keeper_shared *shared, uint64_t ring_size,
                                        int stream)
{
    return (uint8_t *)shared + keeper_ring_offset(ring_size, stream);
}

/* The page of the doorbells, made (memfd in *fd) or mapped. */
int keeper_bells_new(int *ret_fd, struct keeper_doorbells **ret, struct dbx_err *err) DBX_MUST_USE;
int keeper_bells_map(int fd, struct keeper_doorbells **ret, struct dbx_err *err) DBX_MUST_USE;
void keeper_bells_unmap(struct keeper_doorbells *bells);

/* Sets the bit of slot and wakes the reader by eventfd if it has armed itself. */
void keeper_ring_bell(struct keeper_bell *bell, int eventfd, uint32_t slot);
/* Calls fn for every set bit, which it clears. Returns how many there were. */
size_t keeper_collect(struct keeper_bell *bell, void (*fn)(uint32_t slot, void *user), void *user);
/* Goes to sleep: true when armed; false when a bit was set meanwhile (then collect again). */
bool keeper_arm(struct keeper_bell *bell);
