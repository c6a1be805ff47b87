/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of init: main.c has the loop and the socket, process.c starts and reaps, files.c writes
 * files. One thread, one struct init; no allocation but for a START whose body came in a file. */
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
    bool again;              /* and are repetitions */
    bool end_group;
    int error;
    enum init_stage stage;
    uint64_t nproc; /* its RLIMIT_NPROC, 0 when there is none */
    uint64_t start_us;
    struct init_exited end;
};

#define QUEUE_MAX                                                                                  \
    64 /* answers that do not fit into the socket; nothing is read while there are any */
struct answer {
    uint32_t len;
    uint8_t data[INIT_MAX_REPLY];
};

struct init {
    int sock;
    bool pid1; /* alone in a PID namespace: everybody else is ours to count and to kill */
    bool quit;
    uint32_t features;
    bool closely; /* somebody runs who is to be sampled often */
    uint64_t boot_us, sampled_us;
    struct proc procs[INIT_MAX_PROCESSES];
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

/* process.c */
void init_start(struct init *in, const struct init_header *h, const uint8_t *body, size_t len,
                const int *fds, size_t n_fds);
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

/* files.c. Returns 0 or errno; text says where. */
int init_write_files(const uint8_t *body, size_t len, uint64_t *ret_count, char *text,
                     size_t text_size);
