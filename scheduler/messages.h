/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes and gateways say (docs/protocols.md), checked and in our own types. Foreign: every
 * length is bounded. */
#pragma once

#include "common/ext/json.h"
#include "common/proto/limits.h"
#include "scheduler/core.h"

#define SCHED_MAX_INVENTORY 100000
#define SCHED_MAX_OUTCOME (64u << 10)
#define SCHED_MAX_REQUEST (1u << 20) /* JSON of a request, without files */

struct sched_inventory {
    struct dbx_id process;
    uint32_t attempt;
    bool running, ended;
};

struct sched_hello {
    char node_id[SCHED_NAME_MAX + 1], url[256], version[65];
    struct sched_capacity cap;
    struct dbx_id *boxes; /* owned: sandboxes of workspaces that live there */
    size_t nboxes;
    struct sched_inventory *inventory; /* owned */
    size_t ninventory;
};
int sched_hello_decode(const struct dbx_json *header, struct sched_hello *ret,
                       struct dbx_err *err) DBX_MUST_USE;
void sched_hello_done(struct sched_hello *h);

/* "capacity" and "templates" of `hello` and `state`. */
int sched_capacity_decode(const struct dbx_json *header, struct sched_capacity *ret,
                          struct dbx_err *err) DBX_MUST_USE;

/* `place`: a process for sched_core_add, with blob copied in unless keep_blob is false. */
int sched_place_decode(const struct dbx_json *header, const uint8_t *blob, size_t blob_len,
                       bool keep_blob, struct sched_proc **ret, struct dbx_err *err) DBX_MUST_USE;
/* Fills template and retry from the JSON of a request, and keeps its text. */
int sched_request_take(struct sched_proc *sp, const char *json, size_t len,
                       struct dbx_err *err) DBX_MUST_USE;

struct sched_report {
    struct dbx_id process;
    uint32_t attempt;
    enum dbx_verdict verdict; /* of `ended` */
    char *outcome;            /* owned; JSON or NULL */
    int64_t started_us;       /* by the node's clock; 0: not known, or in the future */
};
/* `started` and `ended`. A verdict or an outcome that makes no sense becomes INTERNAL: the process
 * did end. */
int sched_report_decode(const struct dbx_json *header, bool ended, struct sched_report *ret,
                        struct dbx_err *err) DBX_MUST_USE;
void sched_report_done(struct sched_report *r);

/* `files`: what programs did to files of a workspace, as literals of arrays for the database, one a
 * column. The buffers are the caller's, empty. */
#define SCHED_FILES_COLUMNS 5
struct dbx_link_msg;
int sched_files_decode(const struct dbx_link_msg *m, struct dbx_buf col[SCHED_FILES_COLUMNS],
                       struct dbx_err *err) DBX_MUST_USE;

int sched_id_field(const struct dbx_json *header, const char *key, struct dbx_id *ret,
                   struct dbx_err *err) DBX_MUST_USE;
