/* SPDX-License-Identifier: Apache-2.0 */
/* Files. Paths here are ours; paths from outside go through dbx_fs_open_beneath. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"
#include <sys/stat.h>

int dbx_fs_read(const char *path, size_t max, struct dbx_buf *ret,
                struct dbx_err *err) DBX_MUST_USE; /* inits ret */
/* tmp + fsync + rename + fsync of the folder. */
int dbx_fs_write_atomic(const char *path, const void *data, size_t len, mode_t mode,
                        struct dbx_err *err) DBX_MUST_USE;
int dbx_fs_mkdirs(const char *path, mode_t mode,
                  struct dbx_err *err) DBX_MUST_USE; /* like mkdir -p */
/* Deletes a tree without recursion on the stack and without following symbolic links; a missing one
 * is fine. */
int dbx_fs_remove_tree(const char *path, struct dbx_err *err) DBX_MUST_USE;
/* openat2 with RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS|RESOLVE_NO_MAGICLINKS, O_CLOEXEC added. Returns
 * fd or -errno. */
int dbx_fs_open_beneath(int dirfd, const char *path, int flags, mode_t mode);
