/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/init/relay.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/types.h>

static bool later(void)
{
    return errno == EAGAIN || errno == EINTR;
}

static int fill(struct relay *r, uint64_t *moved)
{
    ssize_t n = recv(r->from, r->data, sizeof(r->data), MSG_DONTWAIT);
    if (n < 0)
        return later() ? 0 : errno;
    r->ended = n == 0;
    r->at = 0;
    r->len = (uint32_t)n;
    *moved += (uint64_t)n;
    return 0;
}

static int drain(struct relay *r, uint64_t *moved)
{
    ssize_t n = send(r->to, r->data + r->at, r->len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
        return later() ? 0 : errno;
    r->at += (uint32_t)n;
    r->len -= (uint32_t)n;
    *moved += (uint64_t)n;
    return 0;
}

int relay_move(struct relay *r, uint64_t *ret_moved)
{
    int error = 0;
    *ret_moved = 0;
    if (relay_reads(r))
        error = fill(r, ret_moved);
    if (!error && relay_writes(r))
        error = drain(r, ret_moved);
    if (!error && r->ended && r->len == 0 && !r->told) {
        (void)shutdown(r->to, SHUT_WR); /* it may have gone already */
        r->told = true;
    }
    return error;
}
