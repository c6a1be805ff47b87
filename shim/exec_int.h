/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by exec.c (life), exec_phase.c (a process in the sandbox) and exec_end.c (the end). */
#pragma once

#include "bundles/bundles.h"
#include "common/base/list.h"
#include "shim/box.h"
#include "shim/deps.h"
#include "shim/exec.h"
#include "shim/init_client.h"
#include "shim/keeper_client.h"
#include "shim/lane.h"
#include "shim/limits_watch.h"
#include "shim/pool.h"
#include "shim/sandbox.h"
#include "shim/ship.h"
#include "shim/stdin.h"
#include "shim/verdict.h"

#define SHIM_EXEC_MAGIC 0x43455845u
#define SHIM_EXECS_RECENT 1024

struct dbx_map;
struct dbx_metric;

struct shim_execs {
    struct shim_execs_opts opts;
    struct dbx_map *by_process; /* 16 bytes of id -> struct shim_exec */
    struct dbx_list all;
    struct dbx_list lanes;
    struct dbx_map *boxes; /* 16 bytes of the sandbox's id -> struct shim_box */
    size_t live;
    char *refuse; /* owned, or NULL */
    struct shim_exec_recent {
        struct dbx_id process;
        int64_t attempt;
    } recent[SHIM_EXECS_RECENT]; /* ended and acknowledged: a late start of these is no start */
    size_t recent_at;
    struct dbx_metric *start_seconds, *first_byte_seconds;
};

/* One phase: compile or run. */
struct shim_exec_phase {
    bool began, started, exited, killed, others_gone, streams_ended, ended;
    bool limited;  /* its limits are set */
    bool shipped;  /* sha is set */
    uint32_t flag; /* DBX_REC_COMPILE or 0 */
    const struct dbx_limits *limits;
    char *const *argv;
    struct shim_kept *kept;       /* until its records are acknowledged: see on_released */
    struct shim_ship_phase *ship; /* until the phase is over */
    struct shim_limits_watch watch;
    struct shim_ending ending;
    struct dbx_outcome outcome;
    uint64_t ordered_ms, exited_ms;
    uint8_t sha[2][DBX_SHA256_LEN];
};

struct shim_exec {
    uint32_t magic;
    struct shim_execs *execs;
    struct dbx_list link;
    struct shim_request *rq; /* owned */
    struct dbx_log_ctx log_process, log_trace;
    enum shim_exec_state state;
    uint64_t state_ms;
    int64_t arrived_us, claimed_us, started_us;
    bool spoke; /* the run phase has written something */
    uint64_t claimed_ms;
    struct bnd_plan plan;
    bool has_plan;
    const struct bnd_template *tpl;
    struct shim_claim *claim;
    struct shim_sandbox *sb; /* until ended; then it goes its way alone */
    struct shim_lane *lane;  /* of a batch: sb is its sandbox, or will be */
    uint32_t uid;            /* of its processes */
    struct shim_box *box;    /* of a workspace: sb is its sandbox, and borrowed */
    struct dbx_list box_link;
    /* of a workspace: the layer of its lock file */
    bool layered, installing; /* it was looked for; the compile phase is the installation */
    uint64_t layer_ns;        /* when */
    struct bnd_deps layer;
    struct shim_deps_wait *layer_wait;
    int install_fd; /* owned: the installer's words go there; -1 */
    size_t install_bytes;
    uint64_t oom_mark;        /* the sandbox's count of kills when it came */
    bool warm;                /* the claim was answered at once */
    bool ahead;               /* START follows the files at once */
    struct dbx_err files_err; /* how they went; code 0: well */
    struct dbx_buf block;     /* files on their way */
    struct shim_stdin *in;
    size_t early; /* bytes of input that came before the program was there */
    struct shim_ship_proc *ship;
    struct shim_exec_phase compile, run, *now; /* now: NULL before and after */
    struct dbx_timer *deadline, *watch;
    unsigned deadlines; /* passed in this state */
    unsigned refs;      /* kept streams that are not released, and one for the list */
    bool cancelled, node_lost, dropped, forgotten;
    bool saved;       /* the ledger has a record of it */
    bool adopted;     /* of an earlier shim, and init has not told of it yet */
    bool catching_up; /* of an earlier shim, and init has not told all that happened meanwhile */
    char **kept_argv; /* owned: run.argv of an adopted one */
    char words[256];  /* the platform's own, the last of its output */
    uint64_t end_seq;
    char trouble[240]; /* why INTERNAL, for the log */
    struct shim_exec_result result;
    struct dbx_buf end; /* the END record's JSON */
    struct shim_exec_report report;
};

/* Whether something of this template can begin here. */
int shim_execs__check(struct shim_execs *execs, const char *template, struct dbx_err *err);

/* The one setter. */
void shim_exec__set_state(struct shim_exec *ex, enum shim_exec_state st);
void shim_exec__unref(struct shim_exec *ex);
void shim_exec__claim(struct shim_exec *ex);         /* a sandbox, while it is claiming */
void shim_exec__leave_sandbox(struct shim_exec *ex); /* ends it; nothing is heard of it any more */
void shim_exec__prepare(struct shim_exec *ex);       /* writes its files, then begins */
void shim_exec__arm(struct shim_exec *ex, uint64_t ms); /* the state's deadline, anew */

struct shim_exec *shim_exec__new(struct shim_execs *execs, struct shim_request *rq);
void shim_exec__own_sandbox(struct shim_exec *ex, struct shim_sandbox *sb);
/* claiming -> preparing: it has one */
void shim_exec__claimed(struct shim_exec *ex, struct shim_sandbox *sb);

/* exec_adopt.c */
void shim_exec__save(struct shim_exec *ex);  /* as it is now, for the next shim */
void shim_exec__erase(struct shim_exec *ex); /* nothing more is to be known of it */
void shim_exec__keep_stdin(struct shim_exec *ex, uint64_t at);

void shim_exec__begin_phases(struct shim_exec *ex); /* its files stand there */

/* exec_deps.c */
extern const struct dbx_limits shim_exec__install_limits;
/* True: a layer is looked for, and begin_phases is called when it is there, or there is none. */
bool shim_exec__find_layer(struct shim_exec *ex);
int shim_exec__install(struct shim_exec *ex, int out); /* instead of a process of the phase */
void shim_exec__install_end(struct shim_exec *ex, int exit_code);
void shim_exec__install_drop(struct shim_exec *ex); /* nothing is waited for any more */

/* exec_phase.c */
int shim_exec__open_shipping(struct shim_exec *ex, struct shim_exec_phase *ph, bool adopt,
                             struct dbx_err *err);
void shim_exec__open_stdin(struct shim_exec *ex, struct shim_exec_phase *ph, const void *data,
                           size_t len, bool open, uint64_t at);
bool shim_exec__on_stream(struct shim_kept *kept, struct shim_stream *s, void *user);
void shim_exec__kill_others(struct shim_exec *ex, struct shim_exec_phase *ph);
/* May come ahead of the begin, which else does it. */
int shim_exec__phase_limit(struct shim_exec *ex, struct shim_exec_phase *ph, struct dbx_err *err);
void shim_exec__phase_begin(struct shim_exec *ex, struct shim_exec_phase *ph);
void shim_exec__on_started(struct shim_exec *ex, const struct shim_init_started *s);
void shim_exec__on_exited(struct shim_exec *ex, const struct shim_init_exited *e);
void shim_exec__on_saw(struct shim_exec *ex, const struct shim_init_saw *s);
void shim_exec__sandbox_lost(struct shim_exec *ex, const struct dbx_err *err);
void shim_exec__kill(struct shim_exec *ex); /* the phase's process, for a reason in its ending */
void shim_exec__on_watch(void *user);
void shim_exec__phase_deadline(struct shim_exec *ex);
void shim_exec__phase_lost(struct shim_exec *ex); /* nothing more will come: account, and go on */
void shim_exec__phase_release(struct shim_exec *ex, struct shim_exec_phase *ph); /* in any state */

/* exec_end.c */
/* The phases are over, or there were none: END record, report. trouble: NULL or why INTERNAL. */
void shim_exec__finish(struct shim_exec *ex, const char *trouble);
/* No plan is possible: the user's error, told in their own terms. */
void shim_exec__finish_unplanned(struct shim_exec *ex, const char *why);
void shim_exec__ship_end(struct shim_exec *ex);   /* ex->words, when an earlier shim was, too */
void shim_exec__finish_now(struct shim_exec *ex); /* without the log's acknowledgement */
