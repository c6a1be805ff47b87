/* SPDX-License-Identifier: Apache-2.0 */
/* Why a phase ended. All facts come from the platform (the cgroup, the clock, the shipper's count,
 * init's report of how the process ended); nothing is read out of the program's output. */
#pragma once

#include "common/proto/limits.h"

/* What was seen of one phase. Several may be true at once; shim_verdict has the precedence. */
struct shim_ending {
    bool cancelled;
    bool output_over; /* more bytes than output_bytes came */
    bool oom;         /* the kernel killed something in the sandbox for want of memory */
    bool cpu_over, wall_over;
    bool node_lost;      /* the keeper died: how it went on is not known */
    bool sandbox_lost;   /* the sandbox or its init died, or broke the protocol */
    bool disk_full;      /* init saw the writable layer full */
    bool at_process_max; /* init saw the count of processes at its maximum */
    bool exited;         /* exit_code is known */
    int exit_code;
    int signal; /* not 0: a signal ended it */
};

enum dbx_verdict shim_verdict(const struct shim_ending *e);
/* Writes verdict, exit_code and signal of an outcome: what the contract lets be seen of them. */
void shim_verdict_fill(const struct shim_ending *e, struct dbx_outcome *out);
/* Of the whole execution. compile and run may be NULL (no such phase); not both. */
enum dbx_verdict shim_verdict_total(const struct dbx_outcome *compile,
                                    const struct dbx_outcome *run);
