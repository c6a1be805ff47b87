/* SPDX-License-Identifier: Apache-2.0 */
/* The shim's end of a sandbox's control socket (init/protocol.h). Everything that comes from init
 * is hostile: it is decoded strictly, and the first message that is not right ends the conversation
 * (on_down). */
#pragma once

#include "common/base/err.h"
#include "common/proto/id.h"
#include "shim/init/protocol.h"

#include <sys/types.h>

struct dbx_loop;
struct shim_init;

#define SHIM_INIT_MAX_QUEUE 256   /* requests not yet written to the socket */
#define SHIM_INIT_MAX_PENDING 256 /* answers waited for */

struct shim_init_started {
    struct dbx_id process;
    uint32_t phase;
    bool again;   /* an answer to LIST or to a START that came twice */
    uint32_t pid; /* inside the sandbox */
    int error;    /* 0: it runs; else a positive errno, and there will be no on_exited: ack it */
    enum init_stage stage; /* where it failed; STAGE_EXEC with ENOENT: no such program */
};

/* The program runs and has just come to a maximum. What its end says contains this. */
struct shim_init_saw {
    struct dbx_id process;
    uint32_t phase;
    bool again;
    uint32_t seen; /* of INIT_SAW_AT_ONCE, at least one */
};

struct shim_init_exited {
    struct dbx_id process;
    uint32_t phase;
    bool again;
    int exit_code; /* -1 when a signal ended it */
    int signal;    /* 0 when it exited */
    uint32_t seen; /* enum init_seen */
    uint32_t tasks_max;
    uint64_t utime_us, stime_us, wall_us, disk_free_min;
};

struct shim_init_handlers {
    /* Init is there and speaks our version (anything else is on_down). At its start, and again
     * before a list. */
    void (*on_ready)(const struct init_ready *ready, void *user);
    void (*on_started)(const struct shim_init_started *s, void *user);
    /* Comes again after each list until shim_init_ack. */
    void (*on_exited)(const struct shim_init_exited *e, void *user);
    /* Once: the socket ended (err NULL: the sandbox is gone), failed, or init broke the protocol.
     * Open requests have been answered with -ECANCELED before. Only shim_init_free may be called
     * afterwards. */
    void (*on_down)(const struct dbx_err *err, void *user);
    /* Between on_started and on_exited, when there is something to tell. */
    void (*on_saw)(const struct shim_init_saw *s, void *user);
    /* Somebody connected to the port of shim_init_listen: shim_init_stream is the answer. NULL:
     * refused. */
    void (*on_wanted)(uint32_t id, void *user);
};

/* A control socket: ret[0] is the shim's end, ret[1] becomes init's fd 0. gVisor reads the buffer
 * size when it imports the socket, so it is raised here. Both close-on-exec, ret[0] does not block.
 */
int shim_init_socketpair(int ret[static 2], struct dbx_err *err) DBX_MUST_USE;

/* control is taken. Never calls back before it returned. Handlers may call anything, shim_init_free
 * too. */
struct shim_init *shim_init_new(struct dbx_loop *loop, int control,
                                const struct shim_init_handlers *h, void *user);
struct shim_init *shim_init_free(
    struct shim_init *si); /* open requests are answered with -ECANCELED before it returns */
int shim_init_fd(const struct shim_init *si); /* borrowed; for handing a copy to the keeper */

/* Requests return 0 (sent or queued), -ENOBUFS (too many at once), -EPIPE (down) or -E2BIG. fn is
 * called exactly once if the request was accepted, never before the call returned: err NULL when it
 * was done, else why not (TIMEOUT after timeout_ms, 0: 10 s; code -ECANCELED when freed or down).
 * Descriptors and bytes are copied: they stay the caller's. */
typedef void shim_init_done_fn(uint64_t value, const struct dbx_err *err, void *user);

/* block: common/proto/files.h, written below root as uid:gid. Big ones travel in a memfd. value:
 * files written. */
int shim_init_files(struct shim_init *si, const char *root, uid_t uid, gid_t gid, const void *block,
                    size_t len, uint32_t timeout_ms, shim_init_done_fn *fn, void *user);

/* What happens below root comes on pipe (init_change) from now on, without anything below a name of
 * ignored (each with a NUL, ignored_len bytes in all). pipe stays the caller's. */
int shim_init_watch(struct shim_init *si, const char *root, uid_t uid, gid_t gid,
                    const char *ignored, size_t ignored_len, bool all, int pipe,
                    shim_init_done_fn *fn, void *user);

struct shim_init_start {
    struct dbx_id process;
    uint32_t phase;    /* DBX_REC_COMPILE or 0 */
    char *const *argv; /* NULL-terminated; argv[0] is looked up in the PATH of env */
    char *const *env;  /* NULL-terminated: all of the environment */
    const char *cwd;
    uid_t uid;
    gid_t gid;
    mode_t umask;
    struct init_winsize tty; /* of its terminal; cols 0: it has none. With one, fds[2] is -1 */
    const struct init_rlimit *rlimits;
    size_t n_rlimits;
    bool end_group;   /* when the process ends, its group is killed */
    bool after_files; /* not when the FILES before it fail: stage FILES */
    bool may_parked;  /* what is parked may become it; else that is ended */
    int fds[3]; /* the program's stdin, stdout, stderr: fresh pipes (shim_kept_new makes them), -1:
                   /dev/null */
};
/* Answered by on_started; if that takes 10 s, init is stuck and on_down comes (TIMEOUT). Idempotent
 * for one (process, phase) until it is acknowledged. */
int shim_init_start(struct shim_init *si, const struct shim_init_start *req);
/* Starts a program ahead, that waits for a START with may_parked (see INIT_MAY_PARKED); fn when it
 * waits. process, phase, fds and the flags of req are not used. */
int shim_init_park(struct shim_init *si, const struct shim_init_start *req, uint32_t timeout_ms,
                   shim_init_done_fn *fn, void *user);
/* What ran before is gone with all it left, and req's uid may come next, in req's cwd; with fork,
 * what req starts forks what is parked (see RENEW). Any error: the sandbox is to be ended. */
int shim_init_renew(struct shim_init *si, const struct shim_init_start *req, bool fork,
                    uint32_t timeout_ms, shim_init_done_fn *fn, void *user);
/* -ESRCH in err->code when it does not run. */
int shim_init_signal(struct shim_init *si, const struct dbx_id *process, uint32_t phase, int signo,
                     enum init_scope scope, shim_init_done_fn *fn, void *user); /* fn may be NULL */
/* -ENOTTY in err->code when it has no terminal. */
int shim_init_resize(struct shim_init *si, const struct dbx_id *process, uint32_t phase,
                     struct init_winsize size, shim_init_done_fn *fn, void *user);
/* Lays a layer of the store over a folder (struct init_layer); name "": asks what stands there.
 * -ENOTEMPTY in err->code: something of the user's own. */
int shim_init_layer(struct shim_init *si, const char *target, const char *name, uid_t uid,
                    gid_t gid, shim_init_done_fn *fn, void *user);
/* Opens a port of the sandbox's loopback; on_wanted then tells of those who connect. Listening to
 * it already is no error. */
int shim_init_listen(struct shim_init *si, uint16_t port, shim_init_done_fn *fn, void *user);
/* Gives a connection its stream, a Unix socket (copied: it stays the caller's); -1: there is none,
 * it is closed. */
int shim_init_stream(struct shim_init *si, uint32_t id, int fd);
/* Nobody waits for a process here: what the next start would have to do first is done now. */
int shim_init_warm(struct shim_init *si);
/* SIGKILL to all but init; done when no process is left. */
int shim_init_kill_all(struct shim_init *si, uint32_t timeout_ms, shim_init_done_fn *fn,
                       void *user);
/* on_ready, on_started, on_saw and on_exited for all init knows (again = true), then fn. */
int shim_init_list(struct shim_init *si, shim_init_done_fn *fn, void *user);
/* The exit (or failed start) is safely recorded: init may forget it. */
int shim_init_ack(struct shim_init *si, const struct dbx_id *process, uint32_t phase);
typedef void shim_init_status_fn(const struct init_status *st, const struct dbx_err *err,
                                 void *user);
int shim_init_stat(struct shim_init *si, shim_init_status_fn *fn, void *user);
int shim_init_quit(struct shim_init *si);

/* One message of init, decoded and checked; for the client, its tests and the fuzzer. */
struct shim_init_msg {
    enum init_op op;
    uint32_t tag;
    union {
        struct init_ready ready;
        struct shim_init_started started;
        struct shim_init_exited exited;
        struct shim_init_saw saw;
        struct init_wanted wanted;
        struct {
            enum init_op of;
            int error;
            uint64_t value;
            char text[256];
        } done;
        struct init_status status;
    };
};
int shim_init_decode(const void *data, size_t len, struct shim_init_msg *ret,
                     struct dbx_err *err) DBX_MUST_USE;
