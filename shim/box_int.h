/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by box.c (the sandbox and who is in it), box_files.c (files of record on their way in) and
 * box_sync.c (what programs do to them). */
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
    bool standby, ready;       /* it was ordered ahead of any process; its files stand there */
    bool used;                 /* it has had a process, or a shim before this one */
    struct dbx_timer *prepare; /* until it is ready */
    int64_t revision;          /* of the files that were written; -1: nothing is known */
    bool behind;               /* something of it was left alone, for a program's change */
    uint64_t asked_ms;         /* what has changed since was asked for then; 0: it was not */
    bool ask_again;
    bool fenced; /* init says when a FILES is done */
    uint64_t files_sent, files_done;
    unsigned writing;        /* blocks of changes that init has not answered */
    int64_t layer_revision;  /* of the files whose layer was looked for */
    struct dbx_map *written; /* path -> struct shim_written, owned */
    struct shim_box_sync *sync;
};

/* What sandbox and record last agreed on at a path. */
struct shim_written {
    bool folder;
    bool local;               /* a program's, and not yet a file of record */
    bool agreed, base_folder; /* the record has had it as `base` */
    bool seen;                /* since this shim is there */
    uint64_t writing; /* number of the FILES that wrote it last; what init told before is older */
    uint32_t mode;
    uint8_t sha[DBX_SHA256_LEN], base[DBX_SHA256_LEN];
    int64_t revision; /* of the record, with it; 0: as it came with a process */
    bool wanted;      /* while the files are compared */
    bool replaced;    /* `was` is what both had there before the writes that are not done */
    uint8_t was[DBX_SHA256_LEN];
    int64_t since; /* with replaced: box->revision before these writes */
};

void shim_box__unref(struct shim_box *box);
void shim_box__save(struct shim_box *box);
/* The table of files, for the next shim, and from the one before; false: it left none. */
void shim_box__save_files(struct shim_box *box);
bool shim_box__load_files(struct shim_box *box);
/* box_sync.c: files that programs have removed, which the record does not know yet. */
void shim_box__sync_removed(const struct shim_box *box,
                            void (*fn)(const char *path, const uint8_t sha[static DBX_SHA256_LEN],
                                       void *user),
                            void *user);
void shim_box__pull(struct shim_box *box); /* asks what has changed of the record */
/* box_standby.c: one that was ordered ahead has its sandbox; what of its files stands there may
 * have become all of them. Both do nothing for others. */
void shim_box__prepare(struct shim_box *box);
void shim_box__look_ready(struct shim_box *box);
void shim_box__on_prepare(void *box);
struct shim_box *shim_box__claim(struct shim_execs *execs, const struct dbx_id *id,
                                 const char *template, const struct dbx_size *size, int64_t max_ms,
                                 bool ahead);
/* box_sync.c: a program's change at this path is on its way to the record. */
bool shim_box__sync_has(const struct shim_box *box, const char *path, size_t len);
uint32_t shim_box__mode(const uint8_t *data, size_t len); /* of a file of record */

/* Begins once box->sb is there; where an earlier shim had begun it goes on. */
/* again: all that stands there is told and compared with the table, which an earlier shim left. */
void shim_box__sync_begin(struct shim_box *box, bool again);
bool shim_box__sync_rests(const struct shim_box *box); /* nothing that was heard is on its way */
void shim_box__sync_end(struct shim_box *box); /* the sandbox goes; what was heard is still sent */
void shim_box__sync_free(struct shim_box *box);
