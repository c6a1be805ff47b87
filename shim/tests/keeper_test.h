/* SPDX-License-Identifier: Apache-2.0 */
/* For tests around the keeper: a stream whose byte at every offset is known, and writers of it. */
#pragma once

#include "tests/unit/check.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATTERN_PERIOD 251
#define PATTERN_CHUNK 65536
static uint8_t pattern[PATTERN_CHUNK + PATTERN_PERIOD];

static inline void pattern_init(void)
{
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)(i % PATTERN_PERIOD * 7 + 3);
}

static inline bool pattern_is(const uint8_t *data, size_t len, uint64_t offset)
{
    for (size_t done = 0; done < len;) {
        size_t n = len - done < PATTERN_CHUNK ? len - done : PATTERN_CHUNK;
        if (memcmp(data + done, pattern + (offset + done) % PATTERN_PERIOD, n) != 0)
            return false;
        done += n;
    }
    return true;
}

/* Writes `total` bytes of the pattern in pieces of `piece`, in a child; returns its pid. */
static inline pid_t pattern_writer(int fd, uint64_t total, size_t piece)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    for (uint64_t at = 0; at < total;) {
        size_t n = total - at < piece ? (size_t)(total - at) : piece;
        ssize_t w = write(fd, pattern + at % PATTERN_PERIOD, n);
        if (w < 0 && errno != EINTR)
            _exit(1);
        at += w > 0 ? (uint64_t)w : 0;
    }
    _exit(0);
}

static inline int wait_exit(pid_t pid)
{
    int st;
    while (waitpid(pid, &st, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}
