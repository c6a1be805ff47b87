/* SPDX-License-Identifier: Apache-2.0 */
/* One sandbox: a runsc container with init as its PID 1, its cgroup, its folders, its control
 * socket. Made and ended here; what runs in it is the business of who claimed it (through
 * shim_init).
 *
 *   provisioning -> warm -> assigned -> running <-> idle
 *        any of them -> terminating -> terminated
 *
 * Everything is asynchronous and bounded: each state but warm, running and idle has a deadline.
 * Whatever goes wrong ends in terminating, and from there the sandbox goes its way without its
 * owner: processes, cgroup, mounts, files. */
#pragma once

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/proto/id.h"
#include "shim/cgroup.h"

#include <sys/types.h>

struct dbx_loop;
struct shim_cgroups;
struct shim_cgroup;
struct shim_reaper;
struct shim_seats;
struct shim_keeper;
struct shim_init;
struct shim_init_started;
struct shim_init_exited;
struct shim_init_saw;
struct shim_sandbox;
struct bnd_template;
struct shim_ledger;
struct shim_sandbox_record;

enum shim_sb_state {
    SHIM_SB_PROVISIONING,
    SHIM_SB_WARM,        /* ready, nobody's yet */
    SHIM_SB_ASSIGNED,    /* claimed, nothing runs */
    SHIM_SB_RUNNING,     /* a process runs in it */
    SHIM_SB_IDLE,        /* long-lived, nothing runs now */
    SHIM_SB_TERMINATING, /* being taken down */
    SHIM_SB_TERMINATED,  /* nothing is left of it; freed when the callbacks have returned */
    SHIM_SB_STATES,
};
const char *shim_sb_state_name(enum shim_sb_state st);
bool shim_sb_may(enum shim_sb_state from, enum shim_sb_state to);

/* What all sandboxes of a node share; filled once by main, borrowed, outlives them. */
struct shim_node {
    struct dbx_loop *loop;
    struct shim_reaper *reaper;
    struct shim_cgroups *cgroups;
    struct shim_yields *yields;
    struct shim_seats *seats; /* NULL: none are made ahead */
    struct shim_keeper
        *keeper; /* NULL: none (tests); then nobody holds the control sockets but the shim */
    struct shim_ledger *ledger; /* NULL: none (tests), or not yet; then nothing is left to the next
                                   shim */
    const struct dbx_log_ctx *log;
    const char *runsc_root; /* runsc's own folder, 0700; it pins a name space there by a mount, so a
                               short-lived place
                               (/run/...) is best; NULL: state_dir/runsc */
    const char *state_dir;  /* absolute; sandboxes/ID and runsc/ stand in it */
    const char *runsc, *shim_exec; /* paths of the programs */
    const char *init_dir;          /* holds the program `init` */
    const char *layers_dir;        /* or NULL */
    const char *registry_socket;   /* of the registry cache, or NULL */
    bool no_fast_path;             /* as in bnd_runsc_opts; the probe says so */
    uint64_t provision_ms;         /* deadline of provisioning; default 10000 */
    uint64_t assigned_ms;          /* claimed but never used: ended; default 60000 */
    uint64_t terminate_ms; /* teardown that takes longer is logged as an error and goes on; default
                              10000 */
};

struct shim_sandbox_opts {
    const struct bnd_template *tpl; /* with an image */
    uint64_t disk_mb;
    uint64_t memory_mb;  /* what programs inside see as the machine's memory, and the limit until
                            claimed */
    uint32_t cpu_millis; /* 0: no limit; while it is made there is none */
    uint32_t processes;
    enum shim_weight weight; /* of the CPU, while it is made */
    bool plain;              /* nothing is parked in it */
};

/* on_ready, then on_lost, each at most once; on_gone once, the last. Never before the call that
 * caused it has returned. */
struct shim_sandbox_handlers {
    void (*on_ready)(struct shim_sandbox *sb, void *user); /* provisioning is over: warm */
    /* It is terminating (or was never made): why. Before ready: it could not be made. After: the
     * sandbox died by itself, or init broke its protocol, or a deadline passed. Not called after
     * shim_sandbox_end. The sandbox ends itself. */
    void (*on_lost)(struct shim_sandbox *sb, const struct dbx_err *err, void *user);
    /* What init says of processes, for the owner; see init_client.h. May be NULL. */
    void (*on_started)(struct shim_sandbox *sb, const struct shim_init_started *s, void *user);
    void (*on_exited)(struct shim_sandbox *sb, const struct shim_init_exited *e, void *user);
    void (*on_saw)(struct shim_sandbox *sb, const struct shim_init_saw *s, void *user);
    /* Nothing is left of it, and it is freed when this returns. */
    void (*on_gone)(struct shim_sandbox *sb, void *user);
};

/* The sandbox is its own; the caller (the maker) holds a handle until on_gone. h is borrowed. */
struct shim_sandbox *shim_sandbox_create(const struct shim_node *node,
                                         const struct shim_sandbox_opts *opts,
                                         const struct shim_sandbox_handlers *h, void *user);
/* One that an earlier shim made: warm, or running when somebody has it. control is taken. Whatever
 * has happened to it meanwhile is told from the loop. */
struct shim_sandbox *shim_sandbox_adopt(const struct shim_node *node, const struct dbx_id *id,
                                        const struct shim_sandbox_record *rec,
                                        const struct bnd_template *tpl, int control, bool claimed,
                                        const struct shim_sandbox_handlers *h, void *user);
/* The owner's handlers, for who claimed it: from now on on_lost comes to the owner instead of the
 * maker, and on_gone to both, the owner first. NULL: the owner wants to hear nothing (any more). */
void shim_sandbox_set_owner(struct shim_sandbox *sb, const struct shim_sandbox_handlers *h,
                            void *user);
/* Somebody waits for it now. */
void shim_sandbox_hurry(struct shim_sandbox *sb);
/* Nobody does: it does ahead what its first program would wait for. */
void shim_sandbox_warm_up(struct shim_sandbox *sb);
/* warm -> assigned; the pool does it. cpu_millis holds from the next shim_sandbox_set_limits on.
 * background: it yields from now on, else it does not. */
void shim_sandbox_assign(struct shim_sandbox *sb, uint32_t cpu_millis, bool background);
/* assigned|idle -> running; running -> idle. */
void shim_sandbox_set_running(struct shim_sandbox *sb,
                              bool running); /* assigned|idle -> running; running -> idle */
/* Takes it down, whatever it is doing. In any state, any number of times. */
void shim_sandbox_end(struct shim_sandbox *sb);

const struct dbx_id *
shim_sandbox_id(const struct shim_sandbox *sb); /* of the instance, not the client's sandbox id */
const char *shim_sandbox_id_text(const struct shim_sandbox *sb);
enum shim_sb_state shim_sandbox_state(const struct shim_sandbox *sb);
const struct bnd_template *shim_sandbox_template(const struct shim_sandbox *sb);
const struct shim_sandbox_opts *shim_sandbox_opts(const struct shim_sandbox *sb);
/* Speaks with PID 1; the sandbox's, gone with it. NULL unless warm, assigned, running or idle. Its
 * events come through the owner's handlers; that it is down comes as on_lost. */
struct shim_init *shim_sandbox_init(const struct shim_sandbox *sb);
/* From now on programs in it reach the registry cache at BND_REGISTRY_URL: for who claimed it (or
 * adopted it), before anything runs in it. Nothing happens where the node has none. */
void shim_sandbox_open_registry(struct shim_sandbox *sb);
const struct dbx_log_ctx *shim_sandbox_log(const struct shim_sandbox *sb);
uint64_t shim_sandbox_ready_ms(const struct shim_sandbox *sb); /* how long provisioning took */

/* For one of many: who is alone gets the CPU first; it gets on all the same (yield.h). */
void shim_sandbox_yield(struct shim_sandbox *sb);
/* One that yields: is anybody in it? Then it wants the CPU, as far as one can know. */
void shim_sandbox_wants(struct shim_sandbox *sb, bool wants);
/* Nobody is in it: what is used now is the runtime's own, and what was parked or, the first time,
 * has just been (server): that is the next program's, as ever. Returns the tasks in its cgroup, 0
 * when that cannot be read. */
uint64_t shim_sandbox_rest(struct shim_sandbox *sb, bool first, bool server);
/* Sets the limits of the phase that begins, and takes the marks that usage counts from. What the
 * runtime itself uses now is not charged: the cgroup's limit is that plus memory_mb. Call it before
 * each phase (compile, run). */
int shim_sandbox_set_limits(struct shim_sandbox *sb, uint64_t memory_mb, uint32_t processes,
                            struct dbx_err *err) DBX_MUST_USE;
/* Usage counts from now on: for a phase the limits of which were set ahead of its begin. */
int shim_sandbox_mark(struct shim_sandbox *sb, struct dbx_err *err) DBX_MUST_USE;
/* What is parked becomes the program of this phase: what it uses by now is part of the peak. */
void shim_sandbox_count_parked(struct shim_sandbox *sb);
/* Since the last set_limits or mark. */
struct shim_sandbox_usage {
    int64_t cpu_ms;
    int64_t memory_peak_bytes; /* without cache of files on disk */
    int64_t memory_bytes;
    uint64_t oom_kills;
    bool oom; /* the kernel killed something for want of memory */
};
/* Works until the sandbox is terminated; after it died by itself the last numbers stand. */
uint64_t shim_sandbox_disk_bytes(const struct shim_sandbox *sb); /* the size of its disk */
void shim_sandbox_usage(struct shim_sandbox *sb, struct shim_sandbox_usage *ret);
/* The same for who looks often: CPU and oom kills are new, memory is at most a second old. */
void shim_sandbox_spent(struct shim_sandbox *sb, struct shim_sandbox_usage *ret);

/* Ends and removes whatever an earlier shim left and node's ledger does not name: its sandboxes'
 * processes, cgroups, folders. fn is called when nothing is left (err NULL) or after the deadline
 * with what could not be removed. */
void shim_sandbox_sweep(const struct shim_node *node,
                        void (*fn)(const struct dbx_err *err, void *user), void *user);
/* Lets go of what runsc keeps for all its sandboxes (the mount in runsc_root): when the last one
 * has gone and no more come. */
void shim_sandbox_release(const struct shim_node *node);
