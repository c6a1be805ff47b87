/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop (libuv) behind a small face. Rules: docs/event-loop.md. One thread; callbacks
 * never block; a source is freed by who made it; freeing one inside its own callback is allowed
 * (memory goes in libuv's close phase). */
#pragma once

#include "common/base/err.h"

struct uv_loop_s;
struct dbx_loop;
struct dbx_timer;
struct dbx_watch;

typedef void dbx_loop_fn(void *user);

struct dbx_loop *dbx_loop_new(void); /* aborts when the kernel refuses */
struct dbx_loop *
dbx_loop_free(struct dbx_loop *loop); /* closes what its guests left, runs close callbacks */
struct uv_loop_s *dbx_loop_uv(struct dbx_loop *loop);
int dbx_loop_run(struct dbx_loop *loop); /* until dbx_loop_stop; returns the code given there */
void dbx_loop_stop(struct dbx_loop *loop, int code);
/* Runs fn once in this or the next iteration, after the current callback has returned. */
void dbx_loop_defer(struct dbx_loop *loop, dbx_loop_fn *fn, void *user);
/* Takes back what dbx_loop_defer was given with the same fn and user; for the end of user's life.
 */
void dbx_loop_undefer(struct dbx_loop *loop, dbx_loop_fn *fn, void *user);
/* The only call that other threads may make: runs fn on the loop's thread. */
void dbx_loop_post(struct dbx_loop *loop, dbx_loop_fn *fn, void *user);
/* For what takes long and touches nothing of the loop's: runs fn on a thread of libuv's pool (four,
 * getaddrinfo uses them too), then done on the loop's thread, always. dbx_loop_free waits for what
 * runs and calls its done. */
void dbx_loop_work(struct dbx_loop *loop, dbx_loop_fn *fn, dbx_loop_fn *done, void *user);
/* Calls fn on SIGTERM and SIGINT (once each); SIGPIPE is ignored from then on. */
void dbx_loop_on_terminate(struct dbx_loop *loop, dbx_loop_fn *fn, void *user);
typedef void dbx_signal_fn(void *user, int signo);
void dbx_loop_on_signal(struct dbx_loop *loop, int signo, dbx_signal_fn *fn, void *user);

/* One-shot unless repeat_ms > 0. start on a running one re-arms it. Milliseconds, monotonic. */
struct dbx_timer *dbx_timer_new(struct dbx_loop *loop, dbx_loop_fn *fn, void *user);
void dbx_timer_start(struct dbx_timer *t, uint64_t after_ms, uint64_t repeat_ms);
void dbx_timer_stop(struct dbx_timer *t);
struct dbx_timer *dbx_timer_free(struct dbx_timer *t); /* NULL-tolerant; returns NULL */

enum { DBX_READ = 1, DBX_WRITE = 2 };
/* error: -errno or 0. With an error the watch has been stopped (docs/event-loop.md, 11). */
typedef void dbx_watch_fn(void *user, int events, int error);
/* Level-triggered. The descriptor stays the caller's and must outlive the watch. */
struct dbx_watch *dbx_watch_new(struct dbx_loop *loop, int fd, int events, dbx_watch_fn *fn,
                                void *user);
void dbx_watch_set(struct dbx_watch *w, int events); /* 0 pauses */
struct dbx_watch *dbx_watch_free(struct dbx_watch *w);
