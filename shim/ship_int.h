/* SPDX-License-Identifier: Apache-2.0 */
/* What ship.c (bytes: when a record is cut, the life of processes and phases) and ship_append.c
 * (records: to the log, and what comes back from it) share. */
#pragma once

#include "common/base/list.h"
#include "shim/ship.h"
#include "shim/ship_durable.h"

struct dbx_metric;
struct dbx_timer;

#define PROC_MAGIC 0x50495348u
#define PHASE_MAGIC 0x46495348u

struct shim_ship {
    struct shim_ship_opts opts;
    struct dbx_list waiting; /* processes with something that the log had no room for */
    bool full;
    struct dbx_metric *bytes, *records, *stalls;
};

/* A record of our own, waiting in its process's queue. */
struct own {
    struct dbx_list link;
    struct shim_ship_phase *ph; /* held: it has the intent; or NULL */
    struct keeper_intent *it;
    uint8_t type, flags;
    uint64_t offset;
    uint32_t len;
    uint8_t data[];
};

/* A record that an earlier shim gave to the log, to be given again. */
struct replay {
    struct dbx_list link;
    struct shim_ship_phase *ph; /* held */
    struct keeper_intent *it;
};

struct flight {
    struct shim_ship_proc *sp;
    struct shim_ship_phase *ph; /* held; NULL: one of our own */
    struct keeper_intent *it;   /* or NULL */
    int stream;                 /* -1: not from a ring */
    uint32_t len;
    uint64_t upto;
    bool end;
};

struct shim_ship_proc {
    uint32_t magic;
    struct shim_ship *ship;
    struct dbx_list link;   /* in ship->waiting */
    struct dbx_list replay; /* struct replay, by seq: go before all else */
    struct dbx_list own;    /* struct own */
    struct dbx_list phases; /* live ones */
    struct dbx_id sandbox, process;
    uint64_t seq;
    size_t own_bytes, n_own, in_flight;
    unsigned refs; /* the owner, phases, records in flight */
    bool closed, ending;
    struct dbx_err failed; /* the first record that the log lost */
    shim_ship_ended *on_ended;
    void *user;
};

struct stream {
    struct dbx_sha256_ctx *sha;
    uint64_t bytes, in_ring; /* shipped; taken from the ring (words are not from the ring) */
    uint64_t hashed;         /* by an earlier shim */
    uint64_t last_ms;        /* when its last record went out */
    unsigned flying;         /* records that are not acknowledged */
    bool eof, waits_log, waits_time;
};

struct shim_ship_phase {
    uint32_t magic;
    struct shim_ship_proc *sp;
    struct dbx_list link; /* in sp->phases */
    struct shim_ship_phase_opts opts;
    unsigned intents; /* in use */
    struct stream st[2];
    struct dbx_timer *timer;
    uint64_t total;
    unsigned refs; /* the owner until stopped, records in flight */
    bool over, held, eof_told, stopped, hurry;
};

/* ship_append.c */
void shim_ship__proc_unref(struct shim_ship_proc *sp);
void shim_ship__phase_unref(struct shim_ship_phase *ph);
/* The log holds the streams back, or no more: told once each. */
void shim_ship__hold(struct shim_ship_phase *ph, bool held);
/* The log takes no more of a stream, or its ring is full of what the log has not acknowledged. */
bool shim_ship__is_blocked(const struct shim_ship_phase *ph);
/* No more may be given to the log until something is acknowledged. */
bool shim_ship__is_capped(const struct shim_ship_proc *sp, const struct shim_ship_phase *ph);
/* The next record. fl.it: where its intent stands already, else one is made if ph outlives us.
 * -EAGAIN: the log has no room. */
int shim_ship__append(struct shim_ship_proc *sp, struct flight fl, const struct dbx_record *rec);
void shim_ship__wait_for_room(struct shim_ship_proc *sp); /* behind the others who do */
/* What waits in the process's queue goes to the log, from the loop. */
void shim_ship__flush_soon(struct shim_ship_proc *sp);
/* Queued, and flushed from the loop: the caller is never called back before it returned. */
struct own *shim_ship__push_own(struct shim_ship_proc *sp, uint8_t type, uint8_t flags,
                                uint64_t offset, const void *data, size_t len);
void shim_ship__own_free(struct shim_ship_proc *sp, struct own *own);
void shim_ship__replay_free(struct replay *rp);
const char *shim_ship__status_text(uint8_t flags); /* of a phase's first record */
