/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the daemons of one machine running: starts them, gives each its listening socket, starts
 * again what dies, tells who lives in STATE/status.json, and ends all of them in order. */
#pragma once

#include "common/base/err.h"
#include "common/base/log.h"

struct dbx_loop;
struct dbx_http_client;
struct supervisor;

#define SUP_MAX_ARGS 48
#define SUP_MAX_SERVICES 24
#define SUP_MAX_SEEN 16
#define SUP_RUN_DIR_MAX 64

enum sup_kind {
    SUP_DAEMON, /* started again whenever it ends */
    SUP_JOB,    /* runs once; its failure is logged and tried again later */
};

struct sup_service {
    char name[32];     /* as status tells it: several may share one */
    char instance[32]; /* its log file */
    enum sup_kind kind;
    char *argv[SUP_MAX_ARGS]; /* owned, NULL-terminated */
    size_t argc;
    uint32_t uid;                   /* of its own user; 0: it is started as we are */
    char root[SUP_RUN_DIR_MAX + 8]; /* where its view is made */
    uint32_t gids[2];               /* further groups of it; 0: none */
    struct {
        char *path; /* owned */
        bool own;
    } seen[SUP_MAX_SEEN]; /* of our files; others it cannot see (view.h) */
    size_t n_seen;
    int listen_fd; /* passed as descriptor 3; -1 when it has none */
    char url[128]; /* http://host:port, or "" */
    int stop_signal;
    uint32_t stop_ms; /* grace before SIGKILL */
    int stage;        /* ended from the highest stage to the lowest */

    /* run-time state */
    struct supervisor *sup;
    int pid;        /* 0 when it does not run */
    int probed_pid; /* whose answer is awaited, or 0 */
    int64_t started_us;
    uint64_t started_ms;
    uint32_t restarts, failures; /* failures: in a row, each soon after its start */
    bool ready, stopping;
    struct dbx_timer *timer; /* next start, or the kill after the grace */
    struct dbx_log_ctx log;
};

struct sup_opts {
    const char *state_dir, *cache_dir, *bin_dir, *source_dir;
    const char *bind, *runsc, *node_id;
    const char *ide_dir; /* the built IDE, or "" */
    const char *tls_cert, *tls_key;
    const char *output_log; /* "": files in the state folder, or Kafka started here */
    const char *kafka_libs; /* the jars of Apache Kafka, ""; it is started when they are given */
    uint64_t port, gateways;
    bool images;       /* build the images that are missing */
    uint32_t uid_base; /* the daemons' users: this number and those after it */
    struct sup_ring *ring;
};

/* bin_dir: where devbox-confine is; borrowed. */
struct supervisor *sup_new(struct dbx_loop *loop, const char *state_dir, const char *bin_dir);
struct sup_service *sup_add(struct supervisor *s, const char *name, const char *instance,
                            enum sup_kind kind, int stage);
void sup_arg(struct sup_service *sv, const char *fmt, ...)
    DBX_PRINTF(2, 3); /* appends one argument */
/* The service runs as a user of its own, in a view of its own (devbox-confine), which is made below
 * run_dir. */
void sup_user(struct sup_service *sv, uint32_t uid, const char *run_dir);
void sup_see(struct sup_service *sv, bool own, const char *fmt, ...) DBX_PRINTF(3, 4);
/* Opens the listening socket of a service and notes its url. port 0: any. */
int sup_listen(struct sup_service *sv, const char *host, uint16_t port, bool tls,
               struct dbx_err *err) DBX_MUST_USE;
void sup_start(struct supervisor *s);
/* Ends all, stage by stage; the loop stops when the last one is gone. */
void sup_stop(struct supervisor *s);
void sup_close(struct supervisor *s);              /* before the loop is freed */
struct supervisor *sup_free(struct supervisor *s); /* after it was */

/* leftover.c: waits for daemons of a supervisor that was killed (they were told to end with it),
 * and kills those that do not. Before anything is started. */
void sup_end_leftovers(const char *state_dir);

/* services.c: what one machine runs, and with which options. */
int sup_define(struct supervisor *s, const struct sup_opts *o, struct dbx_err *err) DBX_MUST_USE;
/* Where the sockets of one state folder are: a Unix socket's path is short, the folder's may be
 * long. */
int sup_run_dir(const char *state_dir, char out[static SUP_RUN_DIR_MAX],
                struct dbx_err *err) DBX_MUST_USE;
/* Makes STATE/keys/{cluster,layers,admin}.key at first start. */
int sup_make_keys(const char *state_dir, struct dbx_err *err) DBX_MUST_USE;

/* ring.c: the keyring for daemons that do not see the state folder. */
#define SUP_RING_FILE "cluster.key"
#define SUP_RING_USERS 4
struct sup_ring *sup_ring_new(struct dbx_loop *loop, const char *state_dir);
/* *ret_dir (borrowed) holds SUP_RING_FILE, readable to that user, from now on as it is in the state
 * folder. */
int sup_ring_share(struct sup_ring *ring, const char *run_dir, uint32_t uid, const char **ret_dir,
                   struct dbx_err *err) DBX_MUST_USE;
struct sup_ring *sup_ring_free(struct sup_ring *ring); /* before the loop */
