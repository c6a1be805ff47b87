/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the pool: pool.c decides when what happens, pool_slot.c has the sandboxes, pool_claim.c
 * those who want one, pool_fill.c how many are made ahead. Nothing here calls back to the pool's
 * users but what shim_pool__refuse_one, shim_pool__serve_one and shim_pool__relieve do, for the
 * kick alone. */
#pragma once

#include "bundles/bundles.h"
#include "common/base/err.h"
#include "common/base/list.h"
#include "shim/demand.h"
#include "shim/pool.h"

#define SLOT_MAGIC 0x5b5b0002u
#define CLAIM_MAGIC 0x5b5b0003u
#define REFRESH_MS 1000

enum slot_state { SLOT_STARTING, SLOT_WARM, SLOT_CLAIMED, SLOT_ENDING };

/* Warm ones that can stand for each other: a template's, of the pool's disk (for executions) or of
 * the usual size of workspaces. */
struct kind {
    const struct bnd_template *tpl;
    uint64_t disk_mb, memory_mb;
    bool workspace;
    struct shim_demand demand;
    uint32_t n[SLOT_ENDING + 1];   /* slots by state */
    uint64_t retry_ms, backoff_ms; /* after a start that failed */
};

struct slot {
    uint32_t magic;
    struct dbx_list node; /* pool->slots */
    struct shim_pool *pool;
    struct kind *kind;
    enum slot_state state;
    struct shim_sandbox *sb;  /* a handle until it is gone */
    struct shim_claim *claim; /* who waits for this start; or NULL */
    bool background;          /* it was ordered for one of these */
    bool plain;               /* nothing is parked in it: for workspaces */
    bool warmed;              /* it was told that nobody waits */
    uint64_t disk_mb, cost_mb;
    uint64_t given_ms; /* to a claim that is waited for; 0: never */
    uint64_t ordered_ms;
    char digest[BND_DIGEST_LEN + 1]; /* of its image */
};

struct shim_claim {
    uint32_t magic;
    struct dbx_list node; /* pool->claims */
    struct shim_pool *pool;
    struct kind *kind; /* NULL when refused */
    struct shim_claim_opts opts;
    struct slot *slot;          /* the start it waits for; or NULL */
    struct dbx_err refused;     /* code != 0: it is decided */
    struct dbx_timer *deadline; /* owned */
    shim_claimed *fn;
    void *user;
    uint64_t began_ms;
    bool missed;       /* none was warm for it */
    unsigned failures; /* starts that came to nothing */
};

struct shim_pool {
    struct shim_pool_opts opts;
    struct kind kinds[2 * SHIM_POOL_MAX_TEMPLATES]; /* a template's are 2i and 2i + 1 */
    size_t n_kinds;
    struct dbx_list slots, claims;
    uint32_t n_slots, n_claims;
    uint32_t n_starting[2]; /* [1]: for claims in the background */
    uint64_t used_mb;
    bool started, draining, changed;
    char held[240];                                             /* "": not */
    struct dbx_timer *kick, *refresh, *retry, *calm, *pressure; /* owned */
    void (*on_drained)(void *user);
    void *drained_user;
    void (*on_change)(void *user);
    void *change_user;
    struct shim_sandbox *(*on_pressure)(void *user);
    void *pressure_user;
};

void shim_pool__ask(struct shim_pool *pool);   /* for a kick */
void shim_pool__touch(struct shim_pool *pool); /* the same; the counts have changed */
/* What no kind has the disk for is made to measure, as the first. NULL: no such template. */
struct kind *shim_pool__find_kind(struct shim_pool *pool, const char *name, uint64_t disk_mb,
                                  bool workspace);

/* ---- pool_slot.c ---- */

void shim_pool__slot_state(struct slot *sl, enum slot_state st);
/* Of one without a program; what is parked is one, but nobody's yet. */
uint64_t shim_pool__overhead_mb(const struct kind *kd);
void shim_pool__set_cost(struct slot *sl, uint64_t memory_mb);
void shim_pool__slot_end(struct slot *sl);
/* cl NULL: for the pool itself. */
struct slot *shim_pool__slot_new(struct shim_pool *pool, struct kind *kd, struct shim_claim *cl);

/* ---- pool_claim.c ---- */

/* What one start did not do, on a machine that is as busy as it may be, the next one does. */
void shim_pool__claim_failed(struct shim_claim *cl, const struct dbx_err *err);
void shim_pool__claim_free(struct shim_claim *cl);
bool shim_pool__room_for(const struct shim_pool *pool, uint64_t cost_mb);
/* Each of these two answers one claim at most, and then says so: what is called back may claim,
 * cancel and end anything, so the walk must begin anew. *ret_all: no claim waits for room. */
bool shim_pool__refuse_one(struct shim_pool *pool);
bool shim_pool__serve_one(struct shim_pool *pool, bool *ret_all);
/* Has a claimed sandbox ended, when one who is waited for has no room otherwise. */
void shim_pool__relieve(struct shim_pool *pool);

/* ---- pool_fill.c ---- */

uint32_t shim_pool__target(const struct shim_pool *pool, const struct kind *kd);
/* Of one kind, not promised to anybody. */
uint32_t shim_pool__unclaimed_in(const struct shim_pool *pool, const struct kind *kd,
                                 enum slot_state st);
void shim_pool__fill(struct shim_pool *pool);
void shim_pool__on_refresh(void *pool); /* looks at the store, and ends a surplus */
