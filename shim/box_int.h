/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by box.c (the sandbox and who is in it) and box_sync.c (what programs do to its files). */
#pragma once

#include "common/ext/crypto.h"
#include "shim/box.h"
#include "shim/exec_int.h"

#define SHIM_BOX_MAGIC 0x584f4253u

struct shim_box_sync;

struct shim_box {
    uint32_t magic;
    unsigned refs; /* of the table, of a claim, of a handler that runs, of a report on its way */
    struct shim_execs *execs;
    struct dbx_id id;
    char id_text[DBX_ID_TEXT];
    struct dbx_log_ctx log;
    struct shim_claim *claim;
    struct shim_sandbox *sb; /* once it is live */
    struct dbx_list members; /* shim_exec.box_link */
    struct dbx_timer *idle, *max;
    uint64_t idle_ms, idle_at_ms, max_at_ms; /* idle_at_ms 0: somebody is in it */
    const struct dbx_size *size;
    const char *why; /* it ends; NULL: nothing was said yet */
    bool closing, ended;
    int64_t revision;        /* of the files that were written */
    struct dbx_map *written; /* path -> struct shim_written, owned */
    struct shim_box_sync *sync;
};

/* What sandbox and record last agreed on at a path. */
struct shim_written {
    bool folder;
    bool local; /* a program's, and not yet a file of record */
    uint32_t mode;
    uint8_t sha[DBX_SHA256_LEN];
    int64_t revision; /* of the record, with it; 0: as it came with a process */
    bool wanted;      /* while the files are compared */
};

void shim_box__unref(struct shim_box *box);
uint32_t shim_box__mode(const uint8_t *data, size_t len); /* of a file of record */

/* Begins once box->sb is there; where an earlier shim had begun it goes on. */
void shim_box__sync_begin(struct shim_box *box);
void shim_box__sync_end(struct shim_box *box); /* the sandbox goes; what was heard is still sent */
void shim_box__sync_free(struct shim_box *box);
