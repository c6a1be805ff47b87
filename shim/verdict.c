/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/verdict.h"

/* The order is the rule: what the user wanted, then what the platform did to the process (the
 * strictest count first: bytes and oom kills are exact, clocks are sampled), then what happened to
 * the platform, then what the process says of itself. */
enum dbx_verdict shim_verdict(const struct shim_ending *e)
{
    bool bad_end = e->signal != 0 || (e->exited && e->exit_code != 0);
    if (e->cancelled)
        return DBX_V_CANCELLED;
    if (e->output_over)
        return DBX_V_OUTPUT_LIMIT;
    if (e->oom && e->sandbox_lost && e->at_process_max)
        return DBX_V_PROCESS_LIMIT; /* so many that their bare existence was too much */
    if (e->oom)
        return DBX_V_MEMORY_LIMIT;
    if (e->cpu_over)
        return DBX_V_TIME_LIMIT;
    if (e->wall_over)
        return DBX_V_WALL_LIMIT;
    if (e->node_lost)
        return DBX_V_NODE_LOST;
    if (e->sandbox_lost || (!e->exited && !e->signal))
        return DBX_V_INTERNAL;
    if (e->disk_full && bad_end)
        return DBX_V_DISK_LIMIT;
    if (e->at_process_max && bad_end)
        return DBX_V_PROCESS_LIMIT;
    if (e->signal)
        return DBX_V_SIGNAL;
    return e->exit_code ? DBX_V_EXIT_CODE : DBX_V_OK;
}

void shim_verdict_fill(const struct shim_ending *e, struct dbx_outcome *out)
{
    out->verdict = shim_verdict(e);
    out->exit_code = -1;
    out->signal = 0;
    switch (out->verdict) {
    case DBX_V_OK:
    case DBX_V_EXIT_CODE:
        out->exit_code = e->exit_code;
        break;
    case DBX_V_SIGNAL:
        out->signal = e->signal;
        break;
    case DBX_V_DISK_LIMIT: /* "null unless it exited": it did */
    case DBX_V_PROCESS_LIMIT:
        if (e->exited)
            out->exit_code = e->exit_code;
        break;
    default:
        break;
    }
}

enum dbx_verdict shim_verdict_total(const struct dbx_outcome *compile,
                                    const struct dbx_outcome *run)
{
    if (run)
        return run->verdict;
    switch (compile->verdict) {
    case DBX_V_CANCELLED:
    case DBX_V_NODE_LOST:
    case DBX_V_INTERNAL:
        return compile->verdict;
    case DBX_V_OK: /* the run that should have followed never began */
        return DBX_V_INTERNAL;
    default:
        return DBX_V_COMPILE_ERROR;
    }
}
