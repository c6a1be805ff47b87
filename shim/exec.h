/* SPDX-License-Identifier: Apache-2.0 */
/* The executions of a node: each takes a start order to its one end.
 *
 *   queued -> claiming -> preparing -> [compiling -> draining ->] running -> draining -> shipping
 *   -> ended
 *
 * What can go wrong goes to shipping (the END record says what), and from there to ended; a
 * dropped one goes to ended at once. Each state has a deadline. An ended one stays until the
 * scheduler has acknowledged its end. */
#pragma once

#include "common/base/log.h"
#include "common/proto/link.h"
#include "shim/request.h"

struct dbx_loop;
struct bnd_store;
struct shim_pool;
struct shim_keeper;
struct shim_ship;
struct shim_execs;
struct shim_exec;
struct shim_exec_record;
struct shim_kept;
struct shim_ledger;
struct shim_sandbox;

enum shim_exec_state {
    SHIM_EX_QUEUED,    /* the order is here */
    SHIM_EX_CLAIMING,  /* waits for a sandbox */
    SHIM_EX_PREPARING, /* its files are on the way */
    SHIM_EX_COMPILING,
    SHIM_EX_RUNNING,
    SHIM_EX_DRAINING, /* the process has ended, its streams have not */
    SHIM_EX_SHIPPING, /* the END record is on its way into the log */
    SHIM_EX_ENDED,
    SHIM_EX_STATES,
};
const char *shim_exec_state_name(enum shim_exec_state st);
bool shim_exec_may(enum shim_exec_state from, enum shim_exec_state to);
#define SHIM_EXEC_CLAIM_MS 30000                         /* how long a sandbox is waited for */
uint64_t shim_exec_deadline_ms(enum shim_exec_state st); /* 0: ended has none */

struct shim_execs_opts {
    struct dbx_loop *loop;
    struct bnd_store *store;
    struct shim_pool *pool;
    struct shim_keeper *keeper;
    struct shim_ship *ship;
    struct shim_deps *deps; /* or NULL: no dependency layers */
    const struct dbx_log_ctx *log;
    struct shim_ledger *const *ledger; /* where it stands when there is one */
    uint32_t ncpu;
    uint32_t max; /* of all states; more are refused */
    /* The scheduler has to be told. on_started comes from the loop;
     * on_ended too, but for executions that a call here ends at once. */
    void (*on_started)(struct shim_exec *ex, void *user);
    void (*on_ended)(struct shim_exec *ex, void *user); /* not for dropped ones */
    /* Of a workspace; why: "idle", "max_age", "requested", "lost", "failed", "drained",
     * "evicted". Or NULL. */
    void (*on_box_ended)(const char *sandbox_id, const char *why, void *user);
    /* What happened to the files of a workspace's sandbox, to the scheduler: false when none is
     * there; else fn is called once. Or NULL. */
    /* A message without an answer. False: no scheduler is there. Or NULL. */
    bool (*tell)(const char *op, dbx_link_fill *fill, void *arg, void *user);
    bool (*report_files)(dbx_link_fill *fill, void *arg, const void *blob, size_t len,
                         dbx_link_answer *fn, void *fn_user, void *user);
    void (*on_change)(void *user); /* the count of live ones changed */
    void *user;
};
struct shim_execs *shim_execs_new(const struct shim_execs_opts *opts);
struct shim_execs *shim_execs_free(struct shim_execs *execs); /* ends nothing, frees everything */

/* 0: this node has it and will report its end; also for one that it has already, or had. Else it
 * has not, and err says why. Takes rq when it succeeds and the execution is new, frees it in any
 * other case. */
int shim_execs_start(struct shim_execs *execs, struct shim_request *rq,
                     struct dbx_err *err) DBX_MUST_USE;
struct shim_exec *shim_execs_find(struct shim_execs *execs, const struct dbx_id *process);
size_t shim_execs_count(const struct shim_execs *execs); /* those that have not ended */
size_t shim_execs_unreported(const struct shim_execs *execs);
void shim_execs_each(struct shim_execs *execs, void (*fn)(struct shim_exec *ex, void *user),
                     void *user);
/* No start is taken any more (kind UNAVAIL). */
void shim_execs_refuse(struct shim_execs *execs, const char *why);
/* The keeper is gone: what runs is lost. */
void shim_execs_keeper_down(struct shim_execs *execs);
/* Ends all that live: verdict NODE_LOST, for the node goes away. */
void shim_execs_end_all(struct shim_execs *execs);

/* One of an earlier shim. rec is taken (what it owns); sb: its sandbox, whose owner it becomes, or
 * NULL (of a box that was adopted before, or gone). kept: what the keeper has of its compile and
 * run phase, taken; or NULL. It goes on from where it was, or ends with the reason. */
void shim_execs_adopt(struct shim_execs *execs, struct shim_exec_record *rec,
                      struct shim_sandbox *sb, struct shim_kept *const kept[static 2]);
/* init has told all it knows of sandbox: who is not known there was never started (dropped), or is
 * lost. */
void shim_execs_listed(struct shim_execs *execs, const struct shim_sandbox *sb);

void shim_exec_cancel(struct shim_exec *ex); /* CANCELLED, unless it has ended */
void shim_exec_drop(
    struct shim_exec *ex); /* nobody wants it: killed, and nothing said. Frees it soon */
/* The scheduler has acknowledged the end: it is forgotten. */
void shim_exec_reported(struct shim_exec *ex);
/* For gateways: LIMIT, CONFLICT. */
int shim_exec_input(struct shim_exec *ex, const void *data, size_t len,
                    struct dbx_err *err) DBX_MUST_USE;
int shim_exec_eof(struct shim_exec *ex, struct dbx_err *err) DBX_MUST_USE;
/* Before the program is there, it is the size that it begins with. CONFLICT: no terminal. */
int shim_exec_resize(struct shim_exec *ex, uint16_t cols, uint16_t rows,
                     struct dbx_err *err) DBX_MUST_USE;
/* To the process's group. CONFLICT when it does not run (yet). */
int shim_exec_signal(struct shim_exec *ex, int signo, struct dbx_err *err) DBX_MUST_USE;

const struct shim_request *shim_exec_request(const struct shim_exec *ex);
enum shim_exec_state shim_exec_state(const struct shim_exec *ex);
const struct dbx_log_ctx *shim_exec_log(const struct shim_exec *ex);
int64_t shim_exec_started_us(const struct shim_exec *ex); /* 0: not yet */
/* What node.c keeps beside it: which reports are open. */
struct shim_exec_report {
    bool started_sent, started_acked, ended_sent, ended_acked;
};
struct shim_exec_report *shim_exec_report(struct shim_exec *ex);

/* How it ended. Meaningful in SHIM_EX_ENDED. */
struct shim_exec_result {
    enum dbx_verdict verdict;
    bool has_compile, has_run;
    struct dbx_outcome compile, run;
    bool end_record; /* the log has acknowledged it */
};
/* The END record's JSON; length 0 when there is none. */
const char *shim_exec_end_json(const struct shim_exec *ex, size_t *ret_len);
const struct shim_exec_result *shim_exec_result(const struct shim_exec *ex);
