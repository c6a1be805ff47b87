/* SPDX-License-Identifier: Apache-2.0 */
/* The shim's end of the keeper (keeper_protocol.h): the connection, what the keeper holds, and the
 * streams it fills. */
#pragma once

#include "common/base/err.h"
#include "common/proto/id.h"
#include "shim/keeper_protocol.h"

struct dbx_loop;
struct shim_keeper;
struct shim_kept;   /* a process whose output the keeper reads */
struct shim_stream; /* one of its two streams; belongs to it */

struct shim_keeper_handlers {
    /* What a keeper that was there before us holds: called between connecting and on_up. control is
     * the callee's; so is state (the second descriptor of shim_keeper_add_sandbox, or -1); so is p
     * (shim_kept_free or shim_kept_remove). */
    void (*on_sandbox)(const struct dbx_id *sandbox, int control, int state, void *user);
    void (*on_process)(struct shim_kept *p, void *user);
    /* The inventory is complete; requests are welcome from now on. */
    void (*on_up)(void *user);
    /* The keeper is gone (it died, or another shim took our place), and with it the read ends of
     * all pipes: the shim's sandboxes cannot go on. Every shim_kept is dead: what its rings hold
     * can still be read; free it. Connecting again (with back-off) goes on by itself. */
    void (*on_down)(const struct dbx_err *err, void *user);
};

/* Connects to the Unix socket path, for ever, with a back-off of 10 ms .. 1 s. Never calls back
 * before it returned. */
struct shim_keeper *shim_keeper_new(struct dbx_loop *loop, const char *path,
                                    const struct shim_keeper_handlers *h, void *user);
struct shim_keeper *shim_keeper_free(
    struct shim_keeper *sk); /* after all its shim_kept were freed; calls nobody back */
bool shim_keeper_is_up(const struct shim_keeper *sk);

/* The outcome of a request, exactly once if it was accepted, never before the call returned; err
 * NULL: done. May be NULL. */
typedef void shim_keeper_done_fn(const struct dbx_err *err, void *user);
/* All return 0, -ENOTCONN (down) or -ENOBUFS (too much queued). Requests are carried out in order:
 * there is no need to wait for the answer of one before the next, nor before START is sent to init.
 * Descriptors are copied. */
int shim_keeper_add_sandbox(struct shim_keeper *sk, const struct dbx_id *sandbox, int control,
                            int state, shim_keeper_done_fn *fn, void *user);
/* The keeper lets go of the control socket. Its shim_kept stay, and are read to their ends, until
 * each is removed: a sandbox that has died may have left bytes in its pipes. */
int shim_keeper_remove_sandbox(struct shim_keeper *sk, const struct dbx_id *sandbox);

struct shim_kept_opts {
    struct dbx_id sandbox, process;
    uint32_t phase;
    uint32_t ring_size;      /* 0: default; a power of two */
    bool stdin_open;         /* make a pipe for stdin; else the program gets /dev/null */
    shim_keeper_done_fn *fn; /* the keeper's answer; or NULL */
    void *user;
};
/* Makes pipes and rings and hands them to the keeper. ret_fds: the program's ends (stdin -1 without
 * stdin_open), for shim_init_start; the caller closes them at once after that, else the streams
 * never end. Blocks only for memory. */
int shim_kept_new(struct shim_keeper *sk, const struct shim_kept_opts *opts, struct shim_kept **ret,
                  int ret_fds[static 3], struct dbx_err *err) DBX_MUST_USE;
/* Tells the keeper to let go of the pipes and the rings, and frees. */
struct shim_kept *shim_kept_remove(struct shim_kept *p);
/* Frees what is in this process only: the keeper goes on holding it (for the next shim). */
struct shim_kept *shim_kept_free(struct shim_kept *p);

const struct dbx_id *shim_kept_process(const struct shim_kept *p);
const struct dbx_id *shim_kept_sandbox(const struct shim_kept *p);
uint32_t shim_kept_phase(const struct shim_kept *p);
struct keeper_durable *
shim_kept_durable(struct shim_kept *p); /* in shared memory: survives this process */
int shim_kept_stdin(const struct shim_kept
                        *p); /* our copy of the write end, non-blocking; borrowed; -1 when closed */
void shim_kept_close_stdin(
    struct shim_kept *p); /* ours and the keeper's: the program reads the end */

/* There are bytes to peek at, or the end was reached. Return true to be called again while there
 * are (after other streams had their turn), false to be held back until shim_stream_resume. May
 * free p. Without a handler nothing is called. */
typedef bool shim_stream_fn(struct shim_kept *p, struct shim_stream *s, void *user);
/* Begins (both streams at once): what is there already is told from the next iteration of the loop
 * on. */
void shim_kept_watch(struct shim_kept *p, shim_stream_fn *fn, void *user);

struct shim_stream *shim_kept_stream(struct shim_kept *p, int stream); /* 0 stdout, 1 stderr */
int shim_stream_index(const struct shim_stream *s);
/* Two positions: `next` up to which this shim has looked (in memory, begins at tail), and `tail`
 * before which the room is free again (shared). Look with peek, move next with advance, free the
 * room with release once the log has it. */
const uint8_t *
shim_stream_peek(struct shim_stream *s,
                 size_t *ret_len); /* from next on, contiguous; NULL and 0: nothing */
void shim_stream_advance(struct shim_stream *s, size_t n);      /* at most what peek gave */
void shim_stream_release(struct shim_stream *s, uint64_t upto); /* upto <= next */
void shim_stream_consume(struct shim_stream *s, size_t n);      /* advance and release */
void shim_stream_resume(struct shim_stream *s);
uint64_t shim_stream_next(const struct shim_stream *s); /* stream offset of what peek gives */
uint64_t shim_stream_head(struct shim_stream *s);       /* how far the keeper has come */
uint64_t shim_stream_tail(const struct shim_stream *s);
bool shim_stream_is_full(const struct shim_stream *s); /* nothing is read until room is freed */
bool shim_stream_at_eof(
    const struct shim_stream *s); /* ended, and next has reached the last byte */
bool shim_stream_failed(const struct shim_stream
                            *s); /* the keeper could not read on (after the bytes that are there) */
