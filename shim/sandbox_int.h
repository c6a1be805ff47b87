/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of one sandbox: sandbox.c holds its state and whom it tells, sandbox_start.c makes it,
 * sandbox_end.c takes it down, sandbox_limits.c measures it. */
#pragma once

#include "shim/cgroup.h"
#include "shim/sandbox.h"
#include "shim/seat.h"
#include "shim/yield.h"

#define SHIM_SANDBOX_MAGIC 0x5b5b0001u
#define SHIM_SANDBOX_DIR "sandboxes" /* in state_dir; one folder a sandbox */

struct shim_sandbox {
    uint32_t magic;
    uint32_t refs; /* who may still call back: itself until gone, a start, the keeper's answer */
    enum shim_sb_state state;
    const struct shim_node *node;
    struct shim_sandbox_opts opts;
    char digest[72]; /* of the image that it was made with */
    struct dbx_id id;
    char id_text[DBX_ID_TEXT];
    struct dbx_log_ctx log;
    const struct shim_sandbox_handlers *maker, *owner;
    void *maker_user, *owner_user;

    char *dir;                      /* owned: state_dir/sandboxes/ID */
    struct shim_cgroup *cg;         /* owned; NULL before it is made and after it is gone */
    pid_t cli;                      /* runsc while it runs (or who is to become it), else 0 */
    int words, seat_control;        /* owned, of a seat that was taken; else, and later, -1 */
    pid_t sentry;                   /* 0: not known yet */
    int pidfd;                      /* of the sentry */
    struct dbx_watch *exited;       /* owned: pidfd */
    struct shim_init *init;         /* owned */
    struct shim_registry *registry; /* owned; NULL: it has no way to the registry cache */
    bool init_ready, in_keeper;
    bool parking, settled;      /* a program is being parked; it is, or will not be */
    struct dbx_timer *deadline; /* owned: of the state */
    uint64_t began_ms, ready_ms;

    struct shim_cgroup_stat mark;   /* at the last set_limits */
    uint64_t measured_ms;           /* when all of `last` was read */
    struct shim_sandbox_usage last; /* as it was read last: the peak only grows */
    uint64_t limit_bytes;           /* of the phase */
    uint64_t idle_bytes;            /* what the runtime used before anything ran */
    uint64_t parked_bytes;          /* what waits in it between two programs */

    struct shim_yield yield; /* while it runs for one of many */

    struct dbx_timer *sweep;   /* owned: the rounds of taking it down */
    uint64_t sweep_ms, end_ms; /* wait between rounds; when taking down began */
};

struct shim_sandbox *shim_sb__ref(struct shim_sandbox *sb);
void shim_sb__unref(struct shim_sandbox *sb);
void shim_sb__set_state(struct shim_sandbox *sb, enum shim_sb_state st);
/* It cannot go on: tells why, and takes it down. Nothing happens when that has begun already. */
void shim_sb__lose(struct shim_sandbox *sb, const struct dbx_err *err);
void shim_sb__ready(struct shim_sandbox *sb); /* provisioning -> warm, told */
void shim_sb__gone(struct shim_sandbox *sb);  /* terminating -> terminated, told, freed */

void shim_sb__note_idle(struct shim_sandbox *sb); /* nothing has run in it yet */
void shim_sb__seat(struct shim_sandbox *sb, const struct shim_seat *seat); /* takes all of it */
int shim_sb__start(struct shim_sandbox *sb, struct dbx_err *err);
void shim_sb__take_over(struct shim_sandbox *sb, int control, pid_t sentry);
void shim_sb__save(struct shim_sandbox *sb);      /* for the next shim */
void shim_sb__kill(struct shim_sandbox *sb);      /* at once, whatever there is */
void shim_sb__take_down(struct shim_sandbox *sb); /* from the loop; ends in shim_sb__gone */

char *shim_sb__runsc_root(const struct shim_node *node); /* the caller frees it */
/* One round of taking down what id left, shared with the sweep: 0 nothing is left, -EAGAIN come
 * back, else -errno (come back too, later). *cg is freed and NULL when its cgroup is gone. */
int shim_sb__clean_round(const struct shim_node *node, struct shim_cgroup **cg, const char *dir,
                         const char *id, struct dbx_err *err);
