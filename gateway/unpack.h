/* SPDX-License-Identifier: Apache-2.0 */
/* Has an archive read by devbox-unpack, a process of its own without privileges (unpack/confine.c).
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

struct dbx_loop;

/* block: of files (common/proto/files.h), to be checked as foreign; who keeps it takes it out of
 * the buffer. One of block and err is NULL. */
typedef void gw_unpack_fn(struct dbx_buf *block, const struct dbx_err *err, void *arg);
/* Starts devbox-unpack, which makes a process of each archive and ends when its socket, the
 * caller's, is closed. To be called before the gateway gives up starting programs. */
int gw_unpacker_start(int *ret_sock, struct dbx_err *err) DBX_MUST_USE;
/* Calls back exactly once, later, unless it fails. The archive is copied. */
int gw_unpack(struct dbx_loop *loop, int sock, const void *archive, size_t len, gw_unpack_fn *fn,
              void *arg, struct dbx_err *err) DBX_MUST_USE;
