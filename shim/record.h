/* SPDX-License-Identifier: Apache-2.0 */
/* The records of the ledger: what the next shim must know of a sandbox, an execution, a workspace's
 * box, and of input that waits. Numbered fields, so that another version reads what it knows and
 * leaves out the rest; what it needs and is not there is an error. Decoding is strict: nothing is
 * believed because it is ours. */
#pragma once

#include "common/ext/crypto.h"
#include "shim/cgroup.h"
#include "shim/limits_watch.h"
#include "shim/request.h"
#include "shim/verdict.h"

struct shim_sandbox_record {
    char template[SHIM_MAX_TEMPLATE + 1];
    uint64_t disk_mb, memory_mb;
    uint32_t cpu_millis, processes;
    int32_t sentry;
    uint64_t limit_bytes, idle_bytes;
    bool fresh;      /* nothing was ever asked of it */
    bool plain;      /* nothing is parked in it */
    char digest[72]; /* of its image */
    struct shim_cgroup_stat mark;
};

struct shim_box_record {
    struct dbx_id instance;
    uint64_t idle_ms, idle_at_ms, max_at_ms; /* by CLOCK_MONOTONIC; idle_at 0: it is used */
    uint64_t memory_mb;                      /* of its size; 0: an earlier version's */
    bool closing;
    bool standby; /* it was ordered ahead */
};

struct shim_phase_record {
    bool began, started, exited, killed, others_gone, ended, shipped;
    struct shim_limits_watch watch;
    struct shim_ending ending;
    struct dbx_outcome outcome;
    uint64_t ordered_ms, exited_ms;
    uint8_t sha[2][DBX_SHA256_LEN];
};

struct shim_exec_record {
    struct shim_request *rq; /* owned; without files and command */
    struct dbx_id instance;  /* its sandbox; zero: a workspace's */
    uint32_t state;          /* shim_exec_state: compiling to ended */
    bool in_compile;         /* of the two phases it is this */
    bool warm, spoke, cancelled, node_lost;
    int64_t arrived_us, claimed_us, started_us;
    uint64_t claimed_ms, oom_mark;
    uint32_t uid;
    char trouble[240];
    char **run_argv; /* owned; while the run phase is to come */
    /* From shipping on. */
    uint32_t verdict;
    bool has_compile, has_run, end_record;
    uint64_t end_seq;
    char words[256]; /* the last of its output, the platform's own */
    struct dbx_buf end;
    struct shim_phase_record compile, run;
};

struct shim_stdin_record {
    uint64_t at; /* position of the first byte; the ledger's mark is up to where it was given */
    struct dbx_buf data;
};

/* out is initialised by the caller; encoding fails only for want of room in it. */
int shim_sandbox_record_encode(const struct shim_sandbox_record *rec, struct dbx_buf *out);
int shim_box_record_encode(const struct shim_box_record *rec, struct dbx_buf *out);
int shim_exec_record_encode(const struct shim_exec_record *rec, struct dbx_buf *out);
int shim_stdin_record_encode(uint64_t at, const void *data, size_t len, struct dbx_buf *out);

/* -EBADMSG. ret on success only; what it owns is freed by _done. */
int shim_sandbox_record_decode(const uint8_t *data, size_t len, struct shim_sandbox_record *ret,
                               struct dbx_err *err) DBX_MUST_USE;
int shim_box_record_decode(const uint8_t *data, size_t len, struct shim_box_record *ret,
                           struct dbx_err *err) DBX_MUST_USE;
int shim_exec_record_decode(const uint8_t *data, size_t len, struct shim_exec_record *ret,
                            struct dbx_err *err) DBX_MUST_USE;
int shim_stdin_record_decode(const uint8_t *data, size_t len, struct shim_stdin_record *ret,
                             struct dbx_err *err) DBX_MUST_USE;
void shim_exec_record_done(struct shim_exec_record *rec);
void shim_stdin_record_done(struct shim_stdin_record *rec);
