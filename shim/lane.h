/* SPDX-License-Identifier: Apache-2.0 */
/* A lane: one sandbox in which executions of one batch run one after another ("isolation":"batch"),
 * each with a uid of its own. Between two of them init makes it as new (RENEW), and the host's
 * cgroup is looked at; what is not certain ends the sandbox. A lane that nobody uses ends soon. It
 * is not left to the next shim: that one ends what nobody runs in, and who runs in one then is its
 * last. What a death of the shim costs is so one start a lane: at most two a processor. */
#pragma once

#include <stdbool.h>

struct dbx_jw;
struct shim_exec;
struct shim_execs;
struct shim_lane;
struct shim_sandbox;

/* ex claims: it has a sandbox of its batch now, or will have it. False: there is none. */
bool shim_lane_join(struct shim_exec *ex);
/* A new one, of a sandbox that was claimed for ex. */
void shim_lane_begin(struct shim_exec *ex, struct shim_sandbox *sb);
/* ex is through with it. Not fit: it ends at once. */
void shim_lane_leave(struct shim_exec *ex, bool fit);
void shim_lanes_end(struct shim_execs *execs); /* those that nobody is in */
/* For the scheduler, in an array: the batch of each that nobody is in. */
void shim_lanes_write(const struct shim_execs *execs, struct dbx_jw *w);
