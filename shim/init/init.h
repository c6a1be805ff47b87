/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of init: main.c has the loop and the socket, process.c starts and reaps, pump.c carries
 * output to the host, files.c writes files. One thread, one struct init; no allocation but for a
 * START whose body came in a file. */
#pragma once

#include "shim/init/decode.h"

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
    int from, to; /* owned */
};
#define INIT_MAX_PUMPS (2 * INIT_MAX_PROCESSES)

#define QUEUE_MAX                                                                                  \
    64 /* answers that do not fit into the socket; nothing is read while there are any */
struct answer {
    uint32_t len;
    uint8_t data[INIT_MAX_REPLY];
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
    struct answer queue[QUEUE_MAX];
    size_t queued;
    bool say_ready, listing, killing, killed;
    int kill_result;
    uint32_t list_tag, kill_tag;
    uint64_t kill_until_us;
    uint8_t request[INIT_MAX_MESSAGE];
    char *argv[INIT_MAX_ARGS + 1], *env[INIT_MAX_ARGS + 1];
};

uint64_t init_now_us(void);
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

/* pump.c. The host's pipe *fd is taken, and a pipe's end for the program (of this user) left in its
 * place. *ret: the pump, in the epoll set, or NULL when *fd is no pipe and stays as it is. Returns
 * 0 or errno; a pump that is there then is the caller's to close. */
int init_pump_open(struct init *in, int *fd, uid_t uid, gid_t gid, struct pump **ret);
void init_pump_close(struct pump *p);
/* which: data.u32 of the event; it is below 2 * INIT_MAX_PUMPS. */
void init_pump_turn(struct init *in, uint32_t which, uint32_t events);

/* files.c. Returns 0 or errno; text says where. */
int init_write_files(const uint8_t *body, size_t len, uint64_t *ret_count, char *text,
                     size_t text_size);
