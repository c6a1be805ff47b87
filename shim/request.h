/* SPDX-License-Identifier: Apache-2.0 */
/* What the scheduler orders by `start` (docs/protocols.md, "The request of a process"), decoded
 * strictly into an object of its own: the message it came in does not live on. */
#pragma once

#include "common/base/buf.h"
#include "common/proto/id.h"
#include "common/proto/limits.h"

struct dbx_json;
struct dbx_size;

#define SHIM_MAX_TEMPLATE 64
#define SHIM_MAX_ARGS 1024
#define SHIM_MAX_ENV 512
#define SHIM_MAX_WORDS (128u << 10)      /* bytes of all arguments, and of the whole environment */
#define SHIM_MAX_BOX_MS (7 * 86400000ll) /* of the life of a workspace's sandbox */

struct shim_request {
    struct dbx_id process, sandbox;
    struct dbx_id owner; /* who has it run; 0: nobody says */
    char process_text[DBX_ID_TEXT], sandbox_text[DBX_ID_TEXT];
    int64_t attempt, epoch, accepted_us;
    char trace[64];
    char template[SHIM_MAX_TEMPLATE + 1];
    char *command_shell; /* owned; at most one of these two */
    char **command_argv; /* owned, NULL-terminated */
    char **env;          /* owned, "K=V", NULL-terminated; names are checked */
    bool stdin_open;
    uint16_t cols, rows; /* of its terminal; 0: it has none */
    bool in_batch;       /* one of many: those that are alone have precedence */
    bool shares;         /* the sandbox that it has may have been another's of its batch before */
    struct dbx_id batch;
    bool workspace;              /* it joins the sandbox, which stays; limits of 0 are none */
    char *cwd;                   /* owned, below the working folder; or NULL */
    const struct dbx_size *size; /* of a workspace's sandbox; NULL in what an earlier shim left */
    int64_t revision, idle_ms, max_ms;
    struct dbx_limits limits, compile_limits;
    struct dbx_buf files; /* a block of proto/files.h that has been checked, or nothing */
    struct dbx_buf input; /* what stdin begins with */
};

/* process_id and attempt, as every op to a node names them. */
int shim_request_target(const struct dbx_json *header, struct dbx_id *ret_process,
                        int64_t *ret_attempt, struct dbx_err *err) DBX_MUST_USE;
int shim_request_decode(const struct dbx_json *header, const uint8_t *blob, size_t blob_len,
                        struct shim_request **ret, struct dbx_err *err) DBX_MUST_USE;
struct shim_request *shim_request_free(struct shim_request *rq);
void shim_request_freep(struct shim_request **rq);
