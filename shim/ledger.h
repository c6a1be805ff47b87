/* SPDX-License-Identifier: Apache-2.0 */
/* What a shim leaves to its successor: small records by kind and id, in memory that the keeper
 * holds on to. Whatever the instant at which the shim is killed, a record is there as it was put
 * last, or as before, or not at all.
 *
 * The memory (a sealed memfd): a page of header, the table of entries, the data in blocks. An entry
 * is `where`, one 64-bit word that names blocks and length: data is written into free blocks, then
 * `where` is stored. Which blocks are free is nobody's record: it follows from the entries. */
#pragma once

#include "common/base/err.h"
#include "common/proto/id.h"

struct shim_ledger;

enum shim_ledger_kind {
    SHIM_LG_SANDBOX = 1, /* by instance */
    SHIM_LG_EXEC = 2,    /* by process */
    SHIM_LG_BOX = 3,     /* by the client's sandbox */
    SHIM_LG_STDIN = 4,   /* by process */
    SHIM_LG_FILES = 5,   /* of a box (box_table.h), by the client's sandbox */
};

#define SHIM_LEDGER_MAX (16u << 20) /* one record */
/* What the keeper knows it by: a sandbox that nobody has. */
extern const struct dbx_id shim_ledger_id;

int shim_ledger_new(struct shim_ledger **ret, struct dbx_err *err) DBX_MUST_USE;
/* An earlier shim's. fd is taken. -EBADMSG: it cannot be one, or is of a version that is not ours.
 */
int shim_ledger_open(int fd, struct shim_ledger **ret, struct dbx_err *err) DBX_MUST_USE;
struct shim_ledger *shim_ledger_free(struct shim_ledger *lg);
int shim_ledger_fd(const struct shim_ledger *lg); /* borrowed */

/* Replaces. -ENOSPC, -E2BIG: there is no room, and nothing stands there now. lg NULL (tests): does
 * nothing. */
int shim_ledger_put(struct shim_ledger *lg, enum shim_ledger_kind kind, const struct dbx_id *id,
                    const void *data, size_t len);
void shim_ledger_del(struct shim_ledger *lg, enum shim_ledger_kind kind, const struct dbx_id *id);
/* NULL: none. In the memory itself: good until the record changes. */
const uint8_t *shim_ledger_get(const struct shim_ledger *lg, enum shim_ledger_kind kind,
                               const struct dbx_id *id, size_t *ret_len);
/* A number beside a record, changed in place; 0 when the record is made, kept when it is replaced.
 */
void shim_ledger_mark(struct shim_ledger *lg, enum shim_ledger_kind kind, const struct dbx_id *id,
                      uint64_t mark);
uint64_t shim_ledger_marked(const struct shim_ledger *lg, enum shim_ledger_kind kind,
                            const struct dbx_id *id);
/* fn may delete the record it is called for. */
void shim_ledger_each(struct shim_ledger *lg, enum shim_ledger_kind kind,
                      void (*fn)(const struct dbx_id *id, const uint8_t *data, size_t len,
                                 void *user),
                      void *user);
size_t shim_ledger_count(const struct shim_ledger *lg, enum shim_ledger_kind kind);
