/* SPDX-License-Identifier: Apache-2.0 */
/* How many warm sandboxes of a template the demand asks for: those that are claimed in the time in
 * which the pool makes as many anew. Pure; times in ms of a monotonic clock. */
#pragma once

#include <stdint.h>

struct shim_demand {    /* begin with zero */
    uint64_t window_ms; /* begin of the window that is counted now */
    uint32_t count;     /* claims in it */
    double peak;        /* claims a window, the largest lately */
    uint64_t peak_ms;   /* when it was that much */
    double missed;      /* claims that found none warm, lately */
    uint64_t missed_ms;
    double make_ms; /* a sandbox's making, smoothed */
};

void shim_demand_claim(struct shim_demand *d, uint64_t now);
/* A claim found none warm: one more was asked for than there were. */
void shim_demand_missed(struct shim_demand *d, uint64_t now);
void shim_demand_made(struct shim_demand *d, uint64_t took_ms);
/* at_once: how many are made in parallel. floor: what is always held; never less than that. */
uint32_t shim_demand_target(const struct shim_demand *d, uint64_t now, uint32_t at_once,
                            uint32_t floor);
