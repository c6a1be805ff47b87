/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/exec.h"

static const char *const state_names[SHIM_EX_STATES] = {
    "queued", "claiming", "preparing", "compiling", "running", "draining", "shipping", "ended"};

#define TO(st) (1u << (st))
static const uint16_t may_become[SHIM_EX_STATES] = {
    [SHIM_EX_QUEUED] = TO(SHIM_EX_CLAIMING) | TO(SHIM_EX_SHIPPING) | TO(SHIM_EX_ENDED),
    [SHIM_EX_CLAIMING] = TO(SHIM_EX_PREPARING) | TO(SHIM_EX_SHIPPING) | TO(SHIM_EX_ENDED),
    [SHIM_EX_PREPARING] =
        TO(SHIM_EX_COMPILING) | TO(SHIM_EX_RUNNING) | TO(SHIM_EX_SHIPPING) | TO(SHIM_EX_ENDED),
    [SHIM_EX_COMPILING] = TO(SHIM_EX_DRAINING) | TO(SHIM_EX_SHIPPING) | TO(SHIM_EX_ENDED),
    [SHIM_EX_RUNNING] = TO(SHIM_EX_DRAINING) | TO(SHIM_EX_SHIPPING) | TO(SHIM_EX_ENDED),
    [SHIM_EX_DRAINING] = TO(SHIM_EX_RUNNING) | TO(SHIM_EX_SHIPPING) | TO(SHIM_EX_ENDED),
    [SHIM_EX_SHIPPING] = TO(SHIM_EX_ENDED),
    [SHIM_EX_ENDED] = 0,
};
/* Compiling and running: until the process is there; from then on the limits watch. */
static const uint64_t deadlines_ms[SHIM_EX_STATES] = {
    [SHIM_EX_QUEUED] = 1000,     [SHIM_EX_CLAIMING] = SHIM_EXEC_CLAIM_MS + 5000,
    [SHIM_EX_PREPARING] = 30000, [SHIM_EX_COMPILING] = 10000,
    [SHIM_EX_RUNNING] = 10000,   [SHIM_EX_DRAINING] = 5000,
    [SHIM_EX_SHIPPING] = 300000, [SHIM_EX_ENDED] = 0,
};

const char *shim_exec_state_name(enum shim_exec_state st)
{
    return st < SHIM_EX_STATES ? state_names[st] : "unknown";
}

bool shim_exec_may(enum shim_exec_state from, enum shim_exec_state to)
{
    return from < SHIM_EX_STATES && to < SHIM_EX_STATES && (may_become[from] & TO(to));
}

uint64_t shim_exec_deadline_ms(enum shim_exec_state st)
{
    return st < SHIM_EX_STATES ? deadlines_ms[st] : 0;
}
