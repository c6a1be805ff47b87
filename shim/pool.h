/* SPDX-License-Identifier: Apache-2.0 */
/* The warm pool: sandboxes of each template made ahead, used once: for executions as many as demand
 * asks for from the template's own number up, for workspaces of the usual size one or more. A claim
 * takes a warm one whose sizes fit, else has one made to measure, else waits its turn, bounded and
 * with a deadline. The pool fills itself in the background, when the claims leave it room. */
#pragma once

#include "common/base/err.h"
#include "shim/sandbox.h"

struct bnd_store;
struct shim_pool;
struct shim_claim;

/* Where sandboxes come from; tests give their own. As the functions of sandbox.h. */
struct shim_pool_source {
    /* Somebody waits for this one, which was made for the pool. NULL: nothing to do. */
    void (*hurry)(struct shim_sandbox *sb);
    /* It is warm, and nobody waits for it. NULL: nothing to do. */
    void (*warm_up)(struct shim_sandbox *sb);
    struct shim_sandbox *(*create)(void *ctx, const struct shim_sandbox_opts *opts,
                                   const struct shim_sandbox_handlers *h, void *user);
    void (*assign)(struct shim_sandbox *sb, uint32_t cpu_millis, bool background);
    void (*end)(struct shim_sandbox *sb);
};

struct shim_pool_opts {
    const struct shim_node *node;
    struct bnd_store
        *store;             /* borrowed; refreshed every second until each template has its image */
    uint32_t max_sandboxes; /* all states, those being taken down included; default 64 */
    uint64_t memory_mb;     /* what all sandboxes together may be promised; 0: no budget */
    uint32_t max_starts;    /* in parallel; default: the number of CPUs */
    uint32_t max_waiting;   /* claims in the queue; default 256 */
    int32_t warm; /* per template, whatever the demand; -1: from what the template says upwards */
    uint32_t max_warm; /* of all templates together, where demand asks for more; default 3/4 of
                          max_sandboxes */
    uint64_t disk_mb, warm_memory_mb;      /* sizes of warm ones; default 256, 256 */
    uint32_t processes;                    /* default 64 */
    const struct shim_pool_source *source; /* NULL: shim_sandbox_create on node and so on */
    void *source_ctx;
};
struct shim_pool *shim_pool_new(const struct shim_pool_opts *opts);
/* Begins to fill, and serves claims (until then they wait). */
void shim_pool_start(struct shim_pool *pool);
/* With words: new claims are refused with them (kind UNAVAIL), and nothing is filled; NULL: goes
 * on. */
void shim_pool_hold(struct shim_pool *pool, const char *why);
const char *shim_pool_held(const struct shim_pool *pool); /* the words, or NULL */
/* Ends all sandboxes that nobody has claimed, and makes new ones: what they were known to is gone
 * (the keeper). */
void shim_pool_renew(struct shim_pool *pool);
/* A sandbox of an earlier shim, for who had claimed it, or (claimed_mb 0) warm again. control is
 * taken. NULL: there is no such template. */
struct shim_sandbox *shim_pool_adopt(struct shim_pool *pool, const struct dbx_id *id,
                                     const struct shim_sandbox_record *rec, int control,
                                     uint64_t claimed_mb);
/* No claim is taken any more, open ones get -ECANCELED, warm sandboxes are ended; fn when all of
 * the pool's are gone (claimed ones stay with who claimed them, but count), and what runsc keeps
 * for all of them has been released. */
void shim_pool_drain(struct shim_pool *pool, void (*fn)(void *user), void *user);
struct shim_pool *shim_pool_free(struct shim_pool *pool); /* drained, or the loop has ended */

struct shim_claim_opts {
    const char *template; /* its name */
    uint64_t disk_mb;     /* 0: the pool's */
    uint64_t memory_mb; /* the larger of both phases; what the budget is asked for. 0: the pool's */
    uint32_t processes; /* the larger of both phases; 0: the pool's */
    uint32_t cpu_millis; /* 0: no limit */
    uint64_t wait_ms;    /* deadline; default 10000 */
    bool background;     /* of many: what is held for those that are alone is left to them */
    bool workspace;      /* for a workspace: nothing is parked in it */
    bool ahead;          /* nobody waits for it yet: it holds up nobody, and nobody gives way */
};
/* Exactly once, never before shim_pool_claim has returned. sb is in state assigned and the caller's
 * to use and to end; the caller calls shim_sandbox_set_owner in this call. Else err: NOT_FOUND no
 * such template; UNAVAIL its image is not there, or the node is not fit; LIMIT the queue is full,
 * or it could never fit; TIMEOUT; INTERNAL it could not be made; -ECANCELED. */
typedef void shim_claimed(struct shim_sandbox *sb, const struct dbx_err *err, void *user);
struct shim_claim *shim_pool_claim(struct shim_pool *pool, const struct shim_claim_opts *opts,
                                   shim_claimed *fn, void *user);
void shim_claim_wanted(struct shim_claim *cl); /* one of ahead is waited for now */
void shim_claim_cancel(
    struct shim_claim *cl); /* before its callback only, which comes with -ECANCELED */

#define SHIM_POOL_MAX_TEMPLATES 64
struct shim_pool_counts {
    uint32_t max_sandboxes, sandboxes, starting, claimed, ending, waiting;
    uint64_t memory_mb, memory_used_mb;
    size_t n_templates;
    struct shim_pool_template_counts {
        const char *name;                         /* the store's */
        bool image;                               /* it has one */
        uint32_t warm, starting, claimed, target; /* warm, target: those for executions */
        uint32_t workspace_warm;                  /* those of the usual size of workspaces */
    } templates[SHIM_POOL_MAX_TEMPLATES];
};
void shim_pool_counts(const struct shim_pool *pool, struct shim_pool_counts *ret);
/* Somebody waits (not a batch, nor one of ahead) for whom there is no room, and none is on its way:
 * fn ends one of the claimed sandboxes, if one can be spared, and gives it; NULL: asked again soon.
 */
void shim_pool_on_pressure(struct shim_pool *pool, struct shim_sandbox *(*fn)(void *user),
                           void *user);
/* Called after the counts changed (at most once an iteration of the loop). */
void shim_pool_on_change(struct shim_pool *pool, void (*fn)(void *user), void *user);
