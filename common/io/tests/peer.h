/* SPDX-License-Identifier: Apache-2.0 */
/* The other side of a test: a thread with a blocking socket that speaks raw HTTP and WebSocket,
 * while the loop under test runs on the main thread. Every wait has a deadline. */
#pragma once

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "tests/unit/check.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PEER_MS 60000

static inline int peer_connect(uint16_t port)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    CHECK_EQ(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

static inline void peer_send(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* the server may close early; what it says is checked */
        p += n;
        len -= (size_t)n;
    }
}

static inline void peer_say(int fd, const char *s)
{
    peer_send(fd, s, strlen(s));
}

/* One read with a deadline; 0 at the end, -1 when nothing came. */
static inline ssize_t peer_read(int fd, void *buf, size_t len)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    if (poll(&p, 1, PEER_MS) <= 0)
        return -1;
    ssize_t n = recv(fd, buf, len, 0);
    return n < 0 ? 0 : n;
}

static inline bool peer_read_exact(int fd, void *buf, size_t len)
{
    for (size_t got = 0; got < len;) {
        ssize_t n = peer_read(fd, (char *)buf + got, len - got);
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

static inline bool peer_closed(int fd)
{
    char rest[4096];
    ssize_t n;

    while ((n = peer_read(fd, rest, sizeof(rest))) > 0)
        ;
    return n == 0;
}

struct answer {
    int status;
    bool close;
    char head[8192];
    struct dbx_buf body;
    bool complete;
};

static inline const char *answer_header(const struct answer *a, const char *name)
{
    static _Thread_local char value[512];
    const char *p = strcasestr(a->head, name);

    if (!p)
        return "";
    p += strlen(name) + 2;
    size_t n = strcspn(p, "\r");
    snprintf(value, sizeof(value), "%.*s", (int)n, p);
    return value;
}

static inline size_t peer_number(const char *s)
{
    uint64_t v = 0;

    (void)!dbx_parse_u64(s, strspn(s, "0123456789"), 0, 1 << 30, &v);
    return (size_t)v;
}

static inline void read_chunks(int fd, struct answer *a)
{
    for (;;) {
        char line[64], crlf[2], *block;
        size_t n = 0;
        while (n < sizeof(line) - 1 && peer_read_exact(fd, line + n, 1) && line[n] != '\n')
            n++;
        line[n] = '\0';
        size_t size = 0;
        for (const char *p = line; isxdigit((unsigned char)*p); p++)
            size = size * 16 + (size_t)(*p <= '9' ? *p - '0' : (*p | 0x20) - 'a' + 10);
        if (!n || size > 1 << 24)
            return;
        block = malloc(size + 1);
        bool ok = peer_read_exact(fd, block, size) && peer_read_exact(fd, crlf, 2);
        if (ok)
            dbx_buf_append(&a->body, block, size);
        free(block);
        if (!ok)
            return;
        if (!size) {
            a->complete = true;
            return;
        }
    }
}

static _Thread_local struct answer peer_last;

/* Reads one answer; the request's method matters for HEAD. */
static inline struct answer *peer_answer(int fd, bool head_only)
{
    struct answer *a = &peer_last;
    size_t n = 0;

    dbx_buf_done(&a->body);
    memset(a, 0, sizeof(*a));
    dbx_buf_init(&a->body, 1 << 26);
    while (n < sizeof(a->head) - 1 && !strstr(a->head, "\r\n\r\n")) {
        if (!peer_read_exact(fd, a->head + n, 1))
            return a;
        a->head[++n] = '\0';
    }
    if (strncmp(a->head, "HTTP/1.1 ", 9) == 0)
        a->status = (int)peer_number(a->head + 9);
    a->close = strcasestr(a->head, "connection: close") != NULL;
    const char *length = answer_header(a, "Content-Length");
    if (strcasestr(a->head, "transfer-encoding: chunked")) {
        read_chunks(fd, a);
    } else if (*length && !head_only) {
        size_t size = peer_number(length);
        uint8_t *block = malloc(size + 1);
        a->complete = peer_read_exact(fd, block, size);
        if (a->complete)
            dbx_buf_append(&a->body, block, size);
        free(block);
    }
    return a;
}

static inline void answer_done(void)
{
    dbx_buf_done(&peer_last.body);
}

static inline struct answer *peer_ask(int fd, const char *request)
{
    peer_say(fd, request);
    return peer_answer(fd, strncmp(request, "HEAD", 4) == 0);
}

/* --- WebSocket frames --- */

static inline void peer_frame(int fd, uint8_t first, const void *data, size_t len)
{
    uint8_t head[14] = {first}, mask[4] = {1, 2, 3, 4}, *copy = malloc(len + 1);
    size_t n = 2;

    if (len < 126) {
        head[1] = (uint8_t)(0x80 | len);
    } else if (len < 65536) {
        head[1] = 0x80 | 126;
        head[2] = (uint8_t)(len >> 8);
        head[3] = (uint8_t)len;
        n = 4;
    } else {
        head[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++)
            head[2 + i] = (uint8_t)((uint64_t)len >> (56 - 8 * i));
        n = 10;
    }
    memcpy(head + n, mask, 4);
    for (size_t i = 0; i < len; i++)
        copy[i] = ((const uint8_t *)data)[i] ^ mask[i & 3];
    peer_send(fd, head, n + 4);
    peer_send(fd, copy, len);
    free(copy);
}

/* Reads one frame; returns its first byte or -1; *ret must be freed. */
static inline int peer_read_frame(int fd, uint8_t **ret, size_t *ret_len)
{
    uint8_t head[10];
    uint64_t len;

    *ret = NULL;
    *ret_len = 0;
    if (!peer_read_exact(fd, head, 2))
        return -1;
    len = head[1] & 0x7f;
    size_t more = len == 126 ? 2 : len == 127 ? 8 : 0;
    if (more) {
        if (!peer_read_exact(fd, head + 2, more))
            return -1;
        len = 0;
        for (size_t i = 0; i < more; i++)
            len = len << 8 | head[2 + i];
    }
    *ret = malloc(len + 1);
    *ret_len = len;
    (*ret)[len] = 0;
    return peer_read_exact(fd, *ret, len) ? head[0] : -1;
}

#define WS_ASK(path, extra)                                                                        \
    "GET " path " HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"            \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" extra "\r\n"

/* The close code the server sends, or -1. */
static inline int peer_close_code(int fd)
{
    uint8_t *data;
    size_t len;
    int first, code = -1;

    do {
        first = peer_read_frame(fd, &data, &len);
        if (first == 0x88 && len >= 2)
            code = data[0] << 8 | data[1];
        free(data);
    } while (first >= 0 && first != 0x88);
    return code;
}
