/* SPDX-License-Identifier: Apache-2.0 */
/* From the keeper's rings to records in the output log. One shim_ship a node, one shim_ship_proc a
 * process (it owns the sequence numbers), one shim_ship_phase for each phase of it (it owns byte
 * offsets, hashes and the limit). Design: the head of ship.c. */
#pragma once

#include "common/ext/crypto.h"
#include "common/proto/record.h"

struct dbx_loop;
struct dbx_olog;
struct keeper_durable;
struct shim_ship;
struct shim_ship_proc;
struct shim_ship_phase;

#define SHIM_SHIP_MAX_DATA (64u << 10)     /* of a record */
#define SHIM_SHIP_MAX_IN_FLIGHT (1u << 20) /* of a process: given to the log, not acknowledged */
#define SHIM_SHIP_QUIET_MS 4               /* a stream silent for so long is flushed at once */
#define SHIM_SHIP_MAX_WORDS (256u << 10)   /* records of our own that wait for room, a process */

/* Where the bytes of a stream come from: the keeper's ring, as keeper_client.h has it. */
struct shim_source_ops {
    const uint8_t *(*peek)(void *stream, size_t *ret_len);
    void (*advance)(void *stream, size_t n);
    void (*release)(void *stream,
                    uint64_t upto); /* never after shim_ship_phase_done's free_source */
    void (*resume)(void *stream);
    bool (*at_eof)(void *stream);
    bool (*is_full)(void *stream); /* the program waits until room is released */
};

/* The log; tests give their own. As dbx_olog_append. */
struct shim_ship_opts {
    struct dbx_loop *loop;
    int (*append)(struct dbx_olog *log, const struct dbx_id *key, const void *head, size_t head_len,
                  const void *data, size_t len,
                  void (*fn)(int64_t offset, const struct dbx_err *err, void *user), void *user);
    struct dbx_olog *log;
    uint64_t (*now_ms)(void);
};
struct shim_ship *shim_ship_new(const struct shim_ship_opts *opts);
struct shim_ship *shim_ship_free(struct shim_ship *ship); /* after the log was closed */
void shim_ship_on_room(void *ship); /* for dbx_olog_on_room: goes on with who waits */

struct shim_ship_proc *shim_ship_proc_new(struct shim_ship *ship, const struct dbx_id *sandbox,
                                          const struct dbx_id *process);
/* No callback from now on; memory goes with the last acknowledgement. Its phases are done before.
 */
struct shim_ship_proc *shim_ship_proc_free(struct shim_ship_proc *sp);
/* The number of the next record, when nothing is given to the log meanwhile; and, for a process of
 * an earlier shim, what it had come to. */
void shim_ship_say(struct shim_ship_proc *sp, uint8_t type, uint8_t flags, uint64_t offset,
                   const char *text, size_t len); /* words of an earlier shim */
uint64_t shim_ship_seq(const struct shim_ship_proc *sp);
void shim_ship_go_on(struct shim_ship_proc *sp, uint64_t seq);
/* The last record. fn is called once, when the log has it (err NULL) or could not take it. */
typedef void shim_ship_ended(const struct dbx_err *err, void *user);
void shim_ship_end(struct shim_ship_proc *sp, const void *json, size_t len, shim_ship_ended *fn,
                   void *user);

struct shim_ship_handlers {
    void (*on_over)(void *user);            /* more than the limit came: the rest is dropped */
    void (*on_held)(bool held, void *user); /* the log began, ceased, to hold the streams back */
    /* Both streams have ended, and the log was given every byte. Once. */
    void (*on_eof)(void *user);
    /* Everything was acknowledged, after on_eof or _stop: source may go. Once, the last call. */
    void (*on_released)(void *source, void *user);
};
struct shim_ship_phase_opts {
    uint8_t flags; /* DBX_REC_COMPILE or 0 */
    bool pty;      /* stream 0 is a terminal's, stream 1 is empty */
    uint64_t max_bytes;
    const struct shim_source_ops *ops; /* NULL: no streams, only words */
    void *stream[2];                   /* stdout, stderr */
    void *source;                      /* what on_released gets */
    struct keeper_durable *durable;    /* what outlives us, as long as source does; or NULL */
    const struct shim_ship_handlers *h;
    void *user;
};
struct shim_ship_phase *shim_ship_phase_new(struct shim_ship_proc *sp,
                                            const struct shim_ship_phase_opts *opts);
/* For what an earlier shim began: goes on where `durable` says that it was. Records that the log
 * has not acknowledged are given to it again, as they were, before anything else. at: where each
 * stream stands (what peek gives first), head: how far it has come. -EBADMSG: durable cannot be. */
int shim_ship_phase_adopt(struct shim_ship_proc *sp, const struct shim_ship_phase_opts *opts,
                          const uint64_t at[static 2], const uint64_t head[static 2],
                          struct shim_ship_phase **ret, struct dbx_err *err) DBX_MUST_USE;
/* {"status":"running","phase":...}: the first record of a phase. */
void shim_ship_status(struct shim_ship_phase *ph);
/* There may be something to peek at. True: call again while there is; false: it waits, and calls
 * ops->resume when it goes on. */
bool shim_ship_feed(struct shim_ship_phase *ph, int stream);
/* The program has ended: what is there goes out without waiting for more. */
void shim_ship_hurry(struct shim_ship_phase *ph);
/* Text of the platform's own in a stream (0, 1); of a terminal's in that. */
void shim_ship_words(struct shim_ship_phase *ph, int stream, const char *text);
/* Nothing more is taken from the source; no callback but on_released, never before it returned.
 * Whether or not the streams ended. */
void shim_ship_phase_stop(struct shim_ship_phase *ph);

uint64_t shim_ship_bytes(const struct shim_ship_phase *ph, int stream);
void shim_ship_sha256(const struct shim_ship_phase *ph, int stream,
                      uint8_t out[static DBX_SHA256_LEN]);
bool shim_ship_is_held(const struct shim_ship_phase *ph);
