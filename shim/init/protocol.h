/* SPDX-License-Identifier: Apache-2.0 */
/* What the shim and init (PID 1 of a sandbox) say to each other over init's fd 0, a SEQPACKET
 * socket. libc only: init is a static program that links nothing of ours. Both ends run on the same
 * machine: native little-endian structs.
 *
 * Every message begins with init_header. A request may carry descriptors; with INIT_BODY_FD the
 * last one is a regular file or memfd that holds the body (body_len bytes from offset 0), else the
 * body follows the header in the message.
 *
 * Init is level-triggered: it keeps what it knows about a process (failed to start, running,
 * exited) until INIT_ACK, a START for a key that it knows starts nothing and is answered by what is
 * known, and LIST says everything again. So a shim that died and came back loses nothing. What init
 * says is hostile to the shim (a program may have broken the sandbox's kernel); what the shim says
 * is checked too, so that a bug there is an error and not a crash. Init exits when its socket ends.
 */
#pragma once

#include <stdint.h>

#define INIT_VERSION 1
#define INIT_MAGIC 0x49584244u           /* "DBXI" */
#define INIT_MAX_MESSAGE (64u << 10)     /* one request, header and inline body */
#define INIT_MAX_START_BODY (2u << 20)   /* arguments and environment, by INIT_BODY_FD */
#define INIT_MAX_FILES_BODY (160u << 20) /* a block of files, by INIT_BODY_FD */
#define INIT_MAX_REPLY 512
#define INIT_MAX_PROCESSES 256 /* known at a time, those not yet acknowledged included */
#define INIT_MAX_ARGS 16384    /* arguments, and as many variables */
#define INIT_MAX_RLIMITS 16
#define INIT_MAX_TTYS 64
#define INIT_MAX_WINSIZE 1000 /* columns, rows */
#define INIT_MAX_STREAMS 64   /* connections to the port at a time; more are closed */
#define INIT_MAX_FDS 4        /* stdin, stdout, stderr, body */

enum init_op {
    /* requests */
    INIT_FILES = 1,  /* init_files; answered by DONE */
    INIT_START = 2,  /* init_start; answered by STARTED, later EXITED */
    INIT_SIGNAL = 3, /* init_signal; answered by DONE */
    INIT_KILL_ALL =
        4, /* no body: every process but init; DONE when none is left (or -ETIMEDOUT after 5 s) */
    INIT_LIST = 5, /* no body: READY, STARTED and EXITED of all that is known, then DONE */
    INIT_ACK = 6,  /* init_key: forget this process, which exited or failed to start; no answer */
    INIT_STAT = 7, /* no body; answered by STATUS */
    INIT_QUIT = 8, /* no body: init exits 0, and the sandbox with it */
    INIT_PARK =
        9, /* init_start, its key and fds unused: starts a program ahead; DONE when it waits */
    INIT_RENEW = 10, /* init_start, its key unused: nothing of who ran before is left, and its uid
                        is who may come next; DONE when that is so. Any error: end the sandbox */
    INIT_WARM =
        11, /* no body: nobody waits, so do now what the next START would have to; no answer */
    /* 16..31: terminals */
    INIT_START_TTY = 16, /* init_winsize, then as START; INIT_FD_STDIN and _STDOUT come: pipes,
                            between which and the program stands a terminal */
    INIT_RESIZE = 17,    /* init_resize; answered by DONE, ENOTTY when it has no terminal */
    INIT_LAYER = 24,     /* init_layer; answered by DONE */
    INIT_WATCH =
        32, /* init_watch and a pipe: what happens to files comes there from now on; DONE */
    /* 33..47: files read, listed. */
    /* 48..63: streams to and from ports */
    INIT_LISTEN = 48, /* init_listen: on the sandbox's loopback; answered by DONE. From then on
                         WANTED is said of each who connects */
    INIT_STREAM = 49, /* init_stream, the answer to WANTED; not answered itself */

    /* answers and events */
    INIT_READY = 128,   /* init_ready; at start and in LIST */
    INIT_STARTED = 129, /* init_started: runs, or could not be started */
    INIT_EXITED = 130,  /* init_exited */
    INIT_DONE = 131,    /* init_done */
    INIT_STATUS = 132,  /* init_status */
    INIT_SAW = 133,     /* init_saw: a maximum was seen just now; EXITED says it again */
    INIT_WANTED = 134,  /* init_wanted: somebody connected to the port; said again for LIST */
};

enum init_flags {                   /* of init_header */
                  INIT_BODY_FD = 1, /* request: the body is in the last descriptor */
                  INIT_AGAIN =
                      2, /* event: said before, repeated for LIST or a START of a known key */
};

struct init_header {
    uint16_t op, flags;
    uint32_t tag; /* chosen by the shim, echoed in the answer; 0 in events */
    uint64_t body_len;
};

/* A process: the platform's id of it, and which of its phases (DBX_REC_COMPILE or 0). */
struct init_key {
    uint8_t id[16];
    uint32_t phase;
};

/* Writes a block of common/proto/files.h below root, as uid:gid; folders on the way are made. No
 * symbolic link is followed anywhere below root; what stands where a file is to be is replaced.
 * Mode 0 means 0644, for a folder 0755. What is to be gone is removed; a folder only when it is
 * empty. */
struct init_files {
    uint32_t uid, gid;
    uint32_t root_len; /* absolute path, without NUL, follows; then the block */
    uint32_t reserved;
};

/* Followed by the folder's absolute path, then names that are not looked at anywhere below it, each
 * with a NUL. A second one replaces the first. */
struct init_watch {
    uint32_t uid, gid;
    uint32_t root_len, ignored_len;
    uint32_t all;    /* 1: what stands there already is told too */
    uint32_t fences; /* 1: FENCE and THERE are told; the answer's value is 1 from who knows them */
};
#define INIT_MAX_IGNORED 512
#define INIT_MAX_PATH 1024
#define INIT_MAX_CHANGE (1u << 20) /* bytes of a file that is told */

/* A layer of the node's store over a folder of the user's, who may write there: what he writes goes
 * to the sandbox's own disk. Followed by the folder's absolute path, which is made when it is not
 * there, then the layer's name; without a name it is only asked what stands there. DONE says
 * ENOTEMPTY when that is something of the user's own; else value is 1 when a layer was there (now
 * this one is, anew unless it is the same), 0 when nothing was. */
struct init_layer {
    uint32_t uid, gid;
    uint32_t target_len, name_len;
};
#define INIT_LAYERS_DIR "/.layers" /* where the store is bound */
#define INIT_OVER_DIR                                                                              \
    "/.over" /* what is written over layers; a file system of its own, on disk                     \
              */
#define INIT_MAX_LAYER_NAME 64
#define INIT_MAX_LAYERS 8 /* at a time */

enum init_change_kind {
    INIT_CHANGE_FILE = 1, /* and its content */
    INIT_CHANGE_FOLDER = 2,
    INIT_CHANGE_GONE = 3, /* and what was below it */
    INIT_CHANGE_TOO_LARGE = 4,
    INIT_CHANGE_LOST = 5,  /* not everything is watched, or was heard of */
    INIT_CHANGE_REST = 6,  /* all that was noted is told */
    INIT_CHANGE_FENCE = 7, /* one FILES was done; what was told before happened before it */
    INIT_CHANGE_THERE = 8, /* it stands there, and cannot be read */
};
/* of init_change: FILES left it alone meanwhile, for this was not told yet */
enum init_change_flags { INIT_CHANGE_SKIPPED = 1 };

/* On the pipe; the path follows, then of a FILE its content. */
struct init_change {
    uint16_t kind, flags;
    uint32_t path_len;
    uint64_t size;
};

/* Which descriptors come, in this order; what does not come is /dev/null. A pipe for output is not
 * given to the program: init carries what it writes to it, and closes it after the last byte, which
 * may be after EXITED. */
enum init_start_fds {
    INIT_FD_STDIN = 1,
    INIT_FD_STDOUT = 2,
    INIT_FD_STDERR = 4,
    /* not descriptors: when the process ends, its group is killed */
    INIT_END_GROUP = 8,
    /* it is not started when the FILES that came last could not be written */
    INIT_AFTER_FILES = 16,
    /* what is parked may become this process: argv begins with what was parked, in its cwd */
    INIT_MAY_PARKED = 32,
    /* of RENEW: what argv names is started once, as uid 0, and forks what is parked from now on */
    INIT_FORK = 64,
};

/* RENEW is for sandboxes that several programs use one after the other, each with a uid of its own
 * (from INIT_FIRST_UID up, none twice). Nothing may run. Init kills what has the last one's uid
 * until it is alone (but for the server), removes what is its from cwd, HOME, /tmp, /var/tmp and
 * /dev/shm, makes cwd anew for the next, and looks whether anything else stayed: System V IPC,
 * message queues, used TCP, room of the disk. What cannot be undone is an error (ENOTRECOVERABLE).
 *
 * With INIT_FORK there is a server: the interpreter that argv starts, with the environment given,
 * as uid 0 with SETUID and SETGID. It has fd 3, a SEQPACKET socket, writes one byte when it waits,
 * and then forks for each init_fork with four descriptors: what is to be the child's fds 3, 0, 1,
 * 2. The child takes that identity and goes on as a parked program does; it is the server who
 * reports it, by init_forked. A server never runs a line that is not the image's. */
#define INIT_FIRST_UID 20000
struct init_fork {
    uint32_t uid, gid;
};
enum init_forked_what { INIT_FORKED = 1, INIT_FORK_ENDED = 2 };
struct init_forked {
    uint32_t what;
    int32_t value; /* pid; wait status */
    uint64_t utime_us, stime_us;
};

/* A parked program has fd 3, a stream socket. It writes one byte when it waits; then it reads
 * "SIZE ARGS STDIN PLAIN" (how many bytes follow; how many arguments there are beyond those it was
 * parked with; 1 when its fd 0 is to stay, 0 when it is to become /dev/null; 1 when the file that
 * the last of those names is known to be no archive), those arguments, and all of the environment,
 * each with a NUL at its end. Nothing but the end: it is not wanted. A START without
 * INIT_MAY_PARKED, or whose words do not fit, ends what is parked, and starts its program anew. */

struct init_rlimit {
    uint32_t resource; /* RLIMIT_* */
    uint32_t reserved;
    uint64_t soft, hard; /* UINT64_MAX: unlimited */
};

/* Followed by n_rlimits init_rlimit, then NUL-terminated strings: cwd, argc arguments, envc
 * variables. argv[0] is looked up in the PATH of these variables when it has no slash. The process
 * leads a session of its own. */
struct init_start {
    struct init_key key;
    uint32_t uid, gid; /* uid 0 is refused */
    uint32_t fds;      /* INIT_FD_* */
    uint16_t argc, envc, n_rlimits, umask;
};

struct init_winsize {
    uint16_t cols, rows;
};

struct init_resize {
    struct init_key key;
    struct init_winsize size;
};

struct init_listen {
    uint16_t port, reserved;
};

/* A connection to the port: id is init's, and means nothing but this connection. */
struct init_wanted {
    uint32_t id;
};

/* With the stream, a Unix socket, as its descriptor; without one when there is none for it: the
 * connection is closed. */
struct init_stream {
    uint32_t id;
};

/* Of a process with a terminal SIGKILL to its group is SIGKILL to its session. */
enum init_scope { INIT_TO_PROCESS = 0, INIT_TO_GROUP = 1, INIT_TO_ALL = 2 };

struct init_signal {
    struct init_key key;
    uint32_t signo, scope;
};

enum init_features {
    INIT_CAN_STATFS =
        1, /* statfs of / tells the size of the writable layer: DISK_FULL can be said */
    INIT_CAN_COUNT = 2, /* sysinfo counts tasks: PROCESS_MAX can be said */
    INIT_CAN_SETUID = 4,
};

struct init_ready {
    uint32_t magic, version, features, pid;
};

enum init_stage { /* at what a start failed */
                  INIT_STAGE_NONE,
                  INIT_STAGE_REQUEST, /* what was asked for */
                  INIT_STAGE_FDS,     /* fewer descriptors arrived than were sent */
                  INIT_STAGE_FORK,
                  INIT_STAGE_SETUP, /* session, limits, descriptors, identity */
                  INIT_STAGE_CWD,
                  INIT_STAGE_EXEC,  /* error is ENOENT when there is no such program */
                  INIT_STAGE_FILES, /* INIT_AFTER_FILES: they were not written */
};

struct init_started {
    struct init_key key;
    uint32_t pid;   /* inside; 0 when it failed */
    int32_t error;  /* 0, or a positive errno */
    uint32_t stage; /* init_stage */
};

enum init_seen {                           /* while it ran or when it ended */
                 INIT_SAW_DISK_FULL = 1,   /* the writable layer had no room */
                 INIT_SAW_PROCESS_MAX = 2, /* as many tasks as its RLIMIT_NPROC allows */
                 INIT_LEFT_OTHERS = 4,     /* other processes were alive when it ended */
                 INIT_SAW_AT_ONCE = INIT_SAW_DISK_FULL | INIT_SAW_PROCESS_MAX,
};

/* Said at once, for a program at its limits may take the sandbox with it. */
struct init_saw {
    struct init_key key;
    uint32_t seen; /* INIT_SAW_DISK_FULL, INIT_SAW_PROCESS_MAX, or both */
};

struct init_exited {
    struct init_key key;
    int32_t wait_status;
    uint32_t seen;               /* init_seen */
    uint32_t tasks_max;          /* most tasks at a sample, init not counted */
    uint64_t utime_us, stime_us; /* of it and its reaped children, by the sandbox's clock: a hint,
                                    bill by the cgroup */
    uint64_t wall_us;
    uint64_t disk_free_min; /* bytes, at a sample */
};

struct init_done {
    uint32_t op;       /* what this answers */
    int32_t error;     /* 0, or a positive errno */
    uint64_t value;    /* FILES: files written; KILL_ALL: 0; SIGNAL: 0 */
    uint32_t text_len; /* follows: where it went wrong, at most 255 bytes */
    uint32_t reserved;
};

struct init_status {
    uint64_t disk_size, disk_free; /* bytes of / */
    uint64_t uptime_ms;
    uint32_t tasks;   /* in the sandbox, init not counted */
    uint32_t running; /* processes of START that have not ended */
};

_Static_assert(sizeof(struct init_header) == 16 && sizeof(struct init_key) == 20, "layout");
_Static_assert(sizeof(struct init_start) == 40 && sizeof(struct init_exited) == 64, "layout");
_Static_assert(sizeof(struct init_started) == 32 && sizeof(struct init_done) == 24, "layout");
_Static_assert(sizeof(struct init_saw) == 24 && sizeof(struct init_resize) == 24, "layout");
_Static_assert(sizeof(struct init_forked) == 24 && sizeof(struct init_fork) == 8, "layout");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the structs are the wire");
