/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of init: main.c has the loop and the socket, process.c starts and reaps, pump.c carries
 * output to the host, files.c writes files, streams.c has the port. One thread, one struct init; no
 * allocation but for a START whose body came in a file. */
#pragma once

#include "shim/init/decode.h"
#include "shim/init/relay.h"

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

enum proc_state { PROC_FREE, PROC_RUNNING, PROC_EXITED, PROC_FAILED };

struct proc {
    enum proc_state state;
    struct init_key key;
    pid_t pid;
    uint32_t tag;            /* of the START */
    bool say_start, say_end; /* STARTED, EXITED have yet to be sent */
    bool say_saw;            /* so has INIT_SAW */
    bool again;              /* and are repetitions */
    bool end_group;
    int error;
    enum init_stage stage;
    uint64_t nproc; /* its RLIMIT_NPROC, 0 when there is none */
    uint64_t start_us;
    struct init_exited end;
};

/* One stream of one process, until its last writer has closed: it may outlive the process. */
struct pump {
    bool open;
    bool full;    /* waits for room at the host's end, else for bytes */
    bool heard;   /* the host's end is in the epoll set */
    bool deaf;    /* the program's is not: it spoke before it was aimed */
    int from, to; /* owned; to -1: nobody has claimed what it is for */
};
#define INIT_MAX_PUMPS (2 * INIT_MAX_PROCESSES)

/* A program that was started ahead and waits to become that of a START. pid 0: none. */
struct parked {
    pid_t pid;
    pid_t dying; /* killed, and not yet reaped: it is nobody's process */
    bool ready;
    bool forked; /* by the server: it is its child, and RENEW is what is answered */
    uint16_t argc;
    uint32_t tag;        /* of the PARK, which is answered when it is ready */
    int sock, in;        /* owned: our ends of its fds 3 and 0 */
    struct pump *out[2]; /* of its fds 1 and 2; NULL: none */
    bool plain;          /* its program was written last, and is no archive */
    size_t n_rlimits;    /* that it was started with; 0: not known */
    struct init_rlimit rlimits[INIT_MAX_RLIMITS];
};

/* The file that what is parked will run. */
struct program {
    char root[INIT_MAX_PATH + 1], name[256];
};

/* The interpreter that forks what is parked. pid 0: none. */
struct server {
    pid_t pid;
    bool ready;
    int sock;    /* owned; 0: none */
    pid_t child; /* its last, until it says that it ended */
};

enum renew_step { RENEW_NOT, RENEW_ALONE, RENEW_CLEAN, RENEW_PARKED };
struct renew {
    enum renew_step step;
    uint32_t tag;
    uint64_t until_us;
    uint32_t uid, gid; /* of who may come next */
    uint16_t argc;
    bool fork;
    char work[INIT_MAX_PATH], home[INIT_MAX_PATH];
};

/* What stood when nobody had run yet. */
struct pristine {
    bool known;
    uint32_t uid; /* of who runs, or ran last; 0: nobody yet */
    uint64_t free, opens;
};

/* A terminal, until its leader has ended and its output is carried out. */
enum tty_fd { TTY_MASTER, TTY_IN, TTY_OUT, TTY_FDS };
struct tty_buffer {
    uint16_t at, len;
    uint8_t data[4096];
};
struct tty {
    bool open;
    bool ending; /* its leader has ended */
    bool idle;   /* nobody has the slave open */
    struct init_key key;
    pid_t leader;
    int fd[TTY_FDS]; /* owned; -1: closed */
    uint32_t wanted[TTY_FDS];
    struct tty_buffer in, out; /* to the program, to the host */
};

/* A connection to the port. */
enum stream_state { STREAM_FREE, STREAM_WAITS, STREAM_OPEN };
enum stream_fd { STREAM_CLIENT, STREAM_HOST, STREAM_FDS };
struct stream {
    enum stream_state state;
    bool say; /* WANTED has yet to be sent */
    uint32_t id;
    int fd[STREAM_FDS]; /* owned; -1: none */
    uint32_t wanted[STREAM_FDS];
    struct relay up, down; /* to the host, to who connected */
};

/* In events, behind the pumps'. */
#define INIT_TTY_EVENTS (2 * INIT_MAX_PUMPS)
enum {
    ON_SOCKET = INIT_TTY_EVENTS + TTY_FDS * INIT_MAX_TTYS,
    ON_SIGNAL,
    ON_TICK,
    ON_PARKED,
    ON_SERVER,
    ON_WATCH,
    ON_WATCH_TICK,
    ON_WATCH_PIPE,
    ON_LISTENER,
    ON_STREAMS
};

#define QUEUE_MAX                                                                                  \
    64 /* answers that do not fit into the socket; nothing is read while there are any */
struct answer {
    uint32_t len;
    uint8_t data[INIT_MAX_REPLY];
};

/* A layer that lies over a folder. */
struct layered {
    char target[256], name[INIT_MAX_LAYER_NAME + 1];
};

struct init {
    int sock, epoll, timer, signals;
    bool pid1; /* alone in a PID namespace: everybody else is ours to count and to kill */
    bool quit;
    uint32_t features;
    bool closely; /* somebody runs who is to be sampled often */
    bool look;    /* children may have ended, or there is killing to be done */
    int tick_ms;  /* of the timer; -1: it stands still */
    bool writing; /* the socket is waited for to take something, else to give */
    uint64_t boot_us;
    struct proc procs[INIT_MAX_PROCESSES];
    struct pump pumps[INIT_MAX_PUMPS];
    struct tty ttys[INIT_MAX_TTYS];
    int listener; /* owned; 0: there is none */
    uint16_t port;
    uint32_t last_stream;
    struct layered layers[INIT_MAX_LAYERS];
    int home, apart, root; /* owned, see layer.c; home 0: there is but one namespace */
    uint32_t last_layer;
    struct stream streams[INIT_MAX_STREAMS];
    struct answer queue[QUEUE_MAX];
    size_t queued;
    struct parked parked;
    int left[2]; /* owned: of what was parked, to be closed when there is time; 0: none */
    struct program program;
    struct server server;
    struct renew renew;
    struct pristine pristine;
    bool begun;      /* a program of somebody's was started, at some time */
    bool spare;      /* init has what it needs before that only */
    int files_error; /* of the last FILES */
    bool say_ready, listing, killing, killed, wrote;
    int kill_result;
    uint32_t list_tag, kill_tag, wrote_tag;
    uint64_t wrote_count;
    uint64_t kill_until_us;
    uint8_t request[INIT_MAX_MESSAGE];
    char *argv[INIT_MAX_ARGS + 1], *env[INIT_MAX_ARGS + 1];
};

uint64_t init_now_us(void);
void init_drop_spare(struct init *in); /* the capabilities for what is before the first program */
/* Programs expect no O_NONBLOCK, which a descriptor shared with the host comes with; the shim sets
 * nothing else that F_SETFL changes. */
void init_block(const int *fds, size_t n_fds);
void init_answer(struct init *in, uint16_t op, uint16_t flags, uint32_t tag, const void *body,
                 size_t len);
void init_done(struct init *in, const struct init_header *h, int error, uint64_t value,
               const char *text);

/* process.c. Of fds, init_start may keep some and leave others in their place: the caller closes
 * what stands there afterwards. */
void init_start(struct init *in, const struct init_header *h, const uint8_t *body, size_t len,
                int *fds, size_t n_fds);
int init_signal(struct init *in, const struct init_signal *sig); /* 0 or errno */
void init_ack(struct init *in, const struct init_key *key);
/* Reaps whatever ended. Returns whether any child is left. */
bool init_reap(struct init *in);
void init_kill(struct init *in, int signo); /* to all but init */
size_t init_running(const struct init *in);
/* Looks at disk and tasks for the sake of those that run. */
void init_sample(struct init *in);
void init_status(const struct init *in, struct init_status *ret);
uint32_t init_probe(bool pid1);
/* A child of ours, or of the server, has ended. */
void init_gone(struct init *in, pid_t pid, int status, const struct rusage *ru);
/* Tasks in the sandbox but init and the server. */
size_t init_others(const struct init *in);

/* What both kinds of a start do in the child. */
struct launch {
    const struct init_start_request *req;
    const int *fds;
    bool tty;
    int control;    /* becomes fd 3; -1: none */
    bool uncounted; /* by RLIMIT_NPROC: see limit_of in process.c */
    bool server;    /* keeps uid 0 */
    int error;
    enum init_stage stage;
};
/* Makes the next program's start shorter; while nobody waits for one. */
void init_warm_up(void);
pid_t init_spawn(struct launch *l); /* -1: errno. When l->error is set, it has ended already. */
struct rlimit init_limit(const struct launch *l, const struct init_rlimit *limit);

/* park.c */
void init_park(struct init *in, const struct init_header *h, const uint8_t *body, size_t len);
void init_on_parked(struct init *in); /* its socket has something to say */
/* Gives it this request and takes its place in p. False: there is none, or it does not suit; then
 * init_unpark is to be called. fds as in init_start. */
bool init_claim_parked(struct init *in, struct proc *p, const struct init_start_request *req,
                       int *fds);
void init_unpark(struct init *in);    /* ends it; it is reaped when it has gone */
void init_park_tidy(struct init *in); /* nobody waits: closes what is left of it */
/* A FILES has done that. */
void init_park_wrote(struct init *in, const char *root, const struct init_file *f);
void init_park_program(struct init *in, const struct init_start_request *req);
bool init_parked_ended(struct init *in, pid_t pid); /* it was reaped: was it this one? */
int init_park_forked(struct init *in);              /* asks the server for one; 0 or errno */

/* server.c */
int init_server_start(struct init *in, const struct init_start_request *req); /* 0 or errno */
void init_on_server(struct init *in);
void init_server_ended(struct init *in); /* it was reaped */

/* renew.c. Both answer when they are through. */
void init_renew(struct init *in, const struct init_header *h, const uint8_t *body, size_t len);
void init_renew_turn(struct init *in);
/* Kills what has the uid of who runs, by a process of that uid: init's own real uid is the
 * server's. */
void init_kill_runner(const struct init *in);

/* identity.c: who has this home in the image has these numbers now. 0 or errno; in an image where
 * nobody has, nothing is done. */
int init_name_user(const char *home, uint32_t uid, uint32_t gid);

/* wipe.c: 0 or errno. Folders of root that were another user's belong to uid 0, and whoever may
 * make files in them (and remove his own). */
int init_wipe_share(const char *root);
/* What is uid's below root goes; the caller has its effective uid. */
int init_wipe_tree(const char *root, uid_t uid);

/* pump.c. The host's pipe *fd is taken, and a pipe's end for the program (of this user) left in its
 * place. *ret: the pump, in the epoll set, or NULL when *fd is no pipe and stays as it is. Returns
 * 0 or errno; a pump that is there then is the caller's to close. */
int init_pump_open(struct init *in, int *fd, uid_t uid, gid_t gid, struct pump **ret);
/* Carries from one to the other, both taken. Returns 0 or errno, and closes both then. */
int init_pump_join(struct init *in, int from, int to);
/* The same in two steps. NULL: errno, and from is the caller's. To is taken; 0 or errno. */
struct pump *init_pump_ahead(struct init *in, int from);
int init_pump_aim(struct init *in, struct pump *p, int to);
void init_pump_close(struct pump *p);
/* which: data.u32 of the event; it is below 2 * INIT_MAX_PUMPS. */
void init_pump_turn(struct init *in, uint32_t which, uint32_t events);

/* tty.c. Of fds, the pipes are taken, and the slave is left in the place of each. Returns 0 or
 * errno; then _began or _failed follows. */
int init_tty_open(struct init *in, const struct init_start *f, const struct init_winsize *size,
                  int *fds, struct tty **ret);
void init_tty_began(struct init *in, struct tty *t, pid_t leader);
void init_tty_failed(struct init *in, struct tty *t);
void init_tty_turn(struct init *in, uint32_t id); /* id: of the event, less INIT_TTY_EVENTS */
bool init_has_tty(struct init *in, const struct init_key *key);
void init_tty_leader_ended(struct init *in, const struct init_key *key);
int init_tty_resize(struct init *in, const struct init_resize *r); /* 0 or errno */
void init_signal_session(pid_t session, int signo);                /* SIGHUP comes with SIGCONT */

/* streams.c */
int init_listen(struct init *in, uint16_t port); /* 0 or errno */
void init_on_listener(struct init *in);
void init_stream_turn(struct init *in, uint32_t id); /* id: of the event, less ON_STREAMS */
void init_stream(struct init *in, const struct init_stream *what,
                 int *fd); /* NULL: refused; else it may be kept, and is -1 then */
void init_streams_say(struct init *in);
void init_streams_say_again(struct init *in);

/* files.c */
struct init_folder_entry { /* of getdents64 */
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};
/* Calls fn for what stands in a folder ("." and ".." too), with no memory but the stack. */
void init_each_entry(const char *folder, void (*fn)(const struct init_folder_entry *e, void *user),
                     void *user);
/* Returns 0 or errno; text says where. */
int init_write_files(struct init *in, const uint8_t *body, size_t len, uint64_t *ret_count,
                     char *text, size_t text_size);

int init_open_folder(int at, const char *name); /* no link is followed */
int init_make_folder(int at, const char *name, mode_t mode);

/* layer.c. Returns 0 or errno. */
void init_layers_begin(struct init *in); /* at start, with all capabilities */
int init_layer(struct init *in, const uint8_t *body, size_t len, uint64_t *ret_value);

/* watch.c. Returns 0 or errno; the pipe is taken out of fds. */
void init_watch_boot(void); /* once, before all else of it; again at its end */
int init_watch_begin(struct init *in, const uint8_t *body, size_t len, int *fds, size_t n_fds);
void init_watch_turn(struct init *in, uint32_t what);
bool init_watch_is(const char *root); /* it is watched */
/* Around writes of the shim's, with the user's identity: what a program has changed and is not told
 * yet is left alone (holds), and our own writes are not told. A program that leaves a content as
 * the shim knows it has changed nothing. */
size_t init_watch_before(struct init *in, const char *root);
bool init_watch_holds(size_t before, const char *path);
void init_watch_wrote(struct init *in, size_t before, const struct init_file *f, bool done);
void init_watch_after(struct init *in, size_t before);
