/* SPDX-License-Identifier: Apache-2.0 */
/* What a program is given to read: bytes wait here until its pipe takes them, then the end. */
#pragma once

#include "common/base/err.h"

struct dbx_loop;
struct shim_stdin;

#define SHIM_STDIN_MAX_WAITING (1u << 20) /* by input; what the request brought may be more */

/* fd: the write end, non-blocking, the caller's until on_closed was called or it freed this.
 * on_closed: the end was reached and everything written, or the program reads no more; the caller
 * closes fd. Never called before a call here has returned. */
struct shim_stdin *shim_stdin_new(struct dbx_loop *loop, int fd, const void *first, size_t len,
                                  bool open, void (*on_closed)(void *user), void *user);
struct shim_stdin *shim_stdin_free(struct shim_stdin *in);
/* For the next shim: what waits, and how far it was given to the pipe. A piece counts as given
 * before it is written: a shim that is killed between the two has most likely written it, for a
 * signal ends a process when its call returns. So no byte is given twice. */
struct shim_stdin_keep {
    void (*save)(uint64_t at, const void *data, size_t len, void *user);
    void (*mark)(uint64_t given, void *user);
};
/* at: the position of the first byte that waits. Saves at once. */
void shim_stdin_keep(struct shim_stdin *in, const struct shim_stdin_keep *keep, uint64_t at,
                     void *user);
/* LIMIT (-ENOBUFS) when too much waits, CONFLICT (-EPIPE) when it is closed. */
int shim_stdin_write(struct shim_stdin *in, const void *data, size_t len,
                     struct dbx_err *err) DBX_MUST_USE;
int shim_stdin_eof(struct shim_stdin *in, struct dbx_err *err) DBX_MUST_USE;
