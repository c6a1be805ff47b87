/* SPDX-License-Identifier: Apache-2.0 */
/* What the scheduler writes, in batches: what comes while a commit is in flight goes into the next
 * one. Each statement holds the row of the epoch: a leader that is none any more changes nothing,
 * and learns it. */
#pragma once

#include "scheduler/sched.h"

struct dbx_pg_stmt;

enum sched_batch_kind { SCHED_B_PLACE, SCHED_B_STARTED, SCHED_B_ENDED };

struct sched_entry {
    struct dbx_list _node;
    struct dbx_id id;
    bool hit;                      /* the row was there, and open */
    uint32_t attempt;              /* place, started */
    char node[SCHED_NAME_MAX + 1]; /* place */
    int64_t at_us;                 /* when it started; 0: not known */
    enum dbx_verdict verdict;      /* ended */
    char *outcome;                 /* ended; owned, or NULL */
    bool ran;                      /* ended */
    struct sched_target *targets;  /* owned */
    size_t ntargets;
};

/* Called for each entry of a committed batch; the entry goes when it returns. */
typedef void sched_committed(struct sched *s, const struct sched_entry *e);

struct sched_store *sched_store_new(struct sched *s, sched_committed *const fns[3]);
struct sched_store *
sched_store_free(struct sched_store *st); /* what is not committed is forgotten */
/* Takes e (dbx_calloc); there is none of this id and kind yet. */
void sched_store_put(struct sched_store *st, enum sched_batch_kind kind, struct sched_entry *e);
void sched_store_kick(struct sched_store *st); /* the reign has begun: writes what was put before */
struct sched_entry *sched_store_find(struct sched_store *st, enum sched_batch_kind kind,
                                     const struct dbx_id *id);
void sched_entry_target(struct sched_entry *e, const struct sched_target *t); /* NULL: nothing */

const struct dbx_pg_stmt *sched_sql(size_t *ret_n); /* all statements, for dbx_pg_new */
