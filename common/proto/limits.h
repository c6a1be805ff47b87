/* SPDX-License-Identifier: Apache-2.0 */
/* What bounds an execution, how it ended, and what it used: the words all daemons share. */
#pragma once

#include "common/base/err.h"
#include "common/ext/json.h"

struct dbx_limits {
    int64_t cpu_ms, wall_ms, memory_mb, output_bytes, processes, open_files, disk_mb;
};
extern const struct dbx_limits dbx_limits_default; /* 10000 30000 256 16777216 64 1024 256 */
extern const struct dbx_limits dbx_limits_compile_default; /* 60000 60000 1024, the rest as above */

/* Fills *ret from an object that may hold any subset; a missing one is its default; below 1 or
 * above max: error that names prefix + field. object may be NULL. */
int dbx_limits_decode(const struct dbx_json *object, const struct dbx_limits *defaults,
                      const struct dbx_limits *max, const char *prefix, struct dbx_limits *ret,
                      struct dbx_err *err) DBX_MUST_USE;
void dbx_limits_write(struct dbx_jw *w, const struct dbx_limits *l); /* an object */

enum dbx_verdict {
    DBX_V_NONE, /* not ended */
    DBX_V_OK,
    DBX_V_EXIT_CODE,
    DBX_V_SIGNAL,
    DBX_V_TIME_LIMIT,
    DBX_V_WALL_LIMIT,
    DBX_V_MEMORY_LIMIT,
    DBX_V_OUTPUT_LIMIT,
    DBX_V_PROCESS_LIMIT,
    DBX_V_DISK_LIMIT,
    DBX_V_COMPILE_ERROR,
    DBX_V_CANCELLED,
    DBX_V_NODE_LOST,
    DBX_V_INTERNAL,
};
const char *dbx_verdict_name(enum dbx_verdict v);   /* "TIME_LIMIT"; NULL for NONE */
enum dbx_verdict dbx_verdict_parse(const char *s);  /* NONE for what is unknown */
const char *dbx_verdict_status(enum dbx_verdict v); /* "completed", "failed" or "cancelled" */
const char *dbx_signal_name(int signo);             /* "SIGSEGV"; "SIG34" for the unnamed */

struct dbx_usage {
    int64_t queued_ms, start_ms, wall_ms, cpu_ms, memory_peak_bytes, output_bytes, disk_bytes;
};
void dbx_usage_write(struct dbx_jw *w, const struct dbx_usage *u);
void dbx_usage_read(const struct dbx_json *object, struct dbx_usage *ret);

/* How one phase (compile or run) ended. exit_code is -1 unless it exited, signal 0 unless one ended
 * it; in JSON both are numbers or null:
 * {"verdict","exit_code","signal","stdout_bytes","stderr_bytes","usage":{...}}. */
struct dbx_outcome {
    enum dbx_verdict verdict;
    int exit_code, signal;
    int64_t stdout_bytes, stderr_bytes; /* of this phase, within the output limit */
    struct dbx_usage usage;
};
void dbx_outcome_write(struct dbx_jw *w, const struct dbx_outcome *o); /* an object */
int dbx_outcome_read(const struct dbx_json *object, struct dbx_outcome *ret,
                     struct dbx_err *err) DBX_MUST_USE;
