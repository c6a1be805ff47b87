/* SPDX-License-Identifier: Apache-2.0 */
/* The clock of one phase: CPU time against cpu_ms, time against wall_ms, oom kills. It decides when
 * to look next, so that a limit is noticed soon after it was crossed and an idle program costs
 * nothing: CPU time cannot run out sooner than (what is left) / (number of CPUs). Pure: the owner
 * has the timer and reads the cgroup. */
#pragma once

#include "common/base/def.h"

#define SHIM_WATCH_MIN_MS 10
#define SHIM_WATCH_MAX_MS 200

enum shim_over { SHIM_OVER_NOT, SHIM_OVER_OOM, SHIM_OVER_CPU, SHIM_OVER_WALL };

struct shim_limits_watch {
    uint64_t cpu_ms, wall_ms; /* the limits */
    uint32_t ncpu;
    uint64_t began_ms;
    uint64_t held_ms;       /* how long the log held the program back, all told */
    uint64_t held_since_ms; /* 0: it does not now */
};

void shim_watch_begin(struct shim_limits_watch *w, uint64_t cpu_ms, uint64_t wall_ms, uint32_t ncpu,
                      uint64_t now_ms);
/* The log began or ceased to hold the program back: such time does not count. */
void shim_watch_hold(struct shim_limits_watch *w, bool held, uint64_t now_ms);
uint64_t shim_watch_wall_ms(const struct shim_limits_watch *w, uint64_t now_ms);
/* cpu_ms: used since the phase began. *ret_next_ms: when to look again. */
enum shim_over shim_watch_check(const struct shim_limits_watch *w, uint64_t now_ms, uint64_t cpu_ms,
                                bool oom, uint64_t *ret_next_ms);
