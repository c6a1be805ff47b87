/* SPDX-License-Identifier: Apache-2.0 */
/* Seats: cgroups made ahead, in each of them a devbox-shim-exec that waits to be told what it is to
 * become. A process that enters a cgroup of v1 has the kernel wait for all processors to pass a
 * quiet state (the write side of cgroup_threadgroup_rwsem, 10 ms and more: kernel/cgroup/cgroup.c,
 * kernel/rcu/sync.c), and who waits for a sandbox should not wait for that. */
#pragma once

#include "common/proto/id.h"

#include <sys/types.h>

struct shim_node;
struct shim_cgroup;
struct shim_seats;

/* All of it is the taker's: the cgroup with nothing limited, a child that is registered with
 * nobody, and two descriptors. */
struct shim_seat {
    struct dbx_id id; /* the cgroup's name: whose seat it is has to have this one */
    struct shim_cgroup *cg;
    pid_t pid;
    int words;   /* where it reads its arguments, or their end: see shim_seat_tell */
    int control; /* our end of a control socket; its own is its fd 0 */
};

/* count of them are kept, made one after the other in the background. */
struct shim_seats *shim_seats_new(const struct shim_node *node, uint32_t count);
/* Must be ended before. */
struct shim_seats *shim_seats_free(struct shim_seats *ss);
/* Makes no more and removes those that nobody took; fn is called from the loop when none is left.
 */
void shim_seats_end(struct shim_seats *ss, void (*fn)(void *user), void *user);
/* false: there is none now. The pid must be registered with the reaper in the same callback. */
bool shim_seats_take(struct shim_seats *ss, struct shim_seat *ret);
/* It becomes argv[0]. Closes *words. -errno: it has ended, or argv is too long (its own end follows
 * either way). */
int shim_seat_tell(int *words, char *const *argv);
