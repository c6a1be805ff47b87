/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors: closed once, passed over Unix sockets, always close-on-exec. */
#pragma once

#include "common/base/err.h"
#include <sys/types.h>

void dbx_close(int fd);   /* < 0: nothing. Preserves errno, never retries, aborts on EBADF. */
void dbx_closep(int *fd); /* for DBX_CLEANUP */
int dbx_write_all(int fd, const void *data,
                  size_t len) DBX_MUST_USE; /* -errno; waits by poll on EAGAIN */
int dbx_read_all(int fd, void *data,
                 size_t len) DBX_MUST_USE; /* -errno; -ENODATA when it ends early */
int dbx_set_nonblock(int fd, bool on);

#define DBX_MAX_PASS_FDS 8
/* One message with up to DBX_MAX_PASS_FDS descriptors over a SEQPACKET/DGRAM/STREAM socket.
 * MSG_NOSIGNAL|DONTWAIT. Returns 0 or -errno (-EAGAIN when the socket is full). The descriptors
 * stay the caller's. */
int dbx_send_fds(int sock, const void *data, size_t len, const int *fds, size_t nfds) DBX_MUST_USE;
/* *ret_len 0 is end of file. Received descriptors are close-on-exec and the caller's; *ret_nfds
 * says how many came. -EMSGSIZE when data or control was truncated (descriptors are closed then).
 * MSG_DONTWAIT. */
int dbx_recv_fds(int sock, void *data, size_t size, size_t *ret_len, int *fds, size_t max_fds,
                 size_t *ret_nfds) DBX_MUST_USE;
