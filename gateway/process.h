/* SPDX-License-Identifier: Apache-2.0 */
/* A process as the database and the scheduler describe it. */
#pragma once

#include "common/proto/id.h"
#include "common/proto/limits.h"
#include "common/proto/token.h"

/* How a process stands; terminal ones say how it ended. */
struct gw_end {
    char status[16]; /* "pending", "running", "completed", "failed", "cancelled" */
    bool terminal;
    enum dbx_verdict verdict;
    bool has_outcome, compiled, ran; /* has_outcome false: it never got an END record */
    struct dbx_outcome compile, run;
};

/* verdict and outcome as in the row or the `ended` message; either may be NULL. -EINVAL when the
 * status is unknown. An outcome that cannot be read counts as none. */
int gw_end_read(const char *status, const char *verdict, const struct dbx_json *outcome,
                struct gw_end *ret) DBX_MUST_USE;

struct gw_process {
    struct dbx_id id, sandbox, execution, owner; /* execution is zero in a workspace */
    struct gw_end end;
    int64_t log_offset, created_us, started_us, ended_us; /* 0 when not yet */
    char template[65];
    bool in_batch, has_passed, passed; /* the last where its stdout was expected */
    int64_t batch_index, batch_seq;    /* as posted, from 0; as ended, from 1 */
    enum dbx_role role;                /* of who asked, where that was asked for */
};
