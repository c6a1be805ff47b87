/* SPDX-License-Identifier: Apache-2.0 */
/* The other ends of bench_stream.py, which compiles it statically: `tick` and `blast` run in a
 * sandbox and outside of it, `relay` and `fanout` are what the raw sides are made of, `sink` is
 * many viewers at once; `spawn` is for bench_sandbox.py. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TAIL 512 /* the marker stands in the last message, which is not larger */
#define CHUNK (256u << 10)

static void die(const char *what)
{
    fprintf(stderr, "stream_peer: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t number(const char *s)
{
    uint64_t n = 0;
    for (; *s >= '0' && *s <= '9'; s++)
        n = n * 10 + (uint64_t)(*s - '0');
    return n;
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The processor's counter, which is the same inside a sandbox and outside. */
static uint64_t counter(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t v;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(v));
    return v;
#else
#error "no counter known for this processor"
#endif
}

static void write_all(int fd, const char *data, size_t len)
{
    for (ssize_t n; len > 0; data += n, len -= (size_t)n)
        if ((n = write(fd, data, len)) < 0)
            die("write");
}

static void wait_for_line(void)
{
    char c;
    while (read(0, &c, 1) == 1 && c != '\n')
        ;
}

/* Lines "wall-clock-ns counter", one write() each, at intervals. */
static void tick(uint64_t count, uint64_t interval_us)
{
    const struct timespec pause = {.tv_nsec = (long)interval_us * 1000};
    char line[64];
    wait_for_line();
    for (uint64_t i = 0; i < count; i++) {
        nanosleep(&pause, NULL);
        uint64_t c = counter();
        uint64_t t = now_ns(CLOCK_REALTIME);
        int n = snprintf(line, sizeof(line), "%llu %llu\n", (unsigned long long)t,
                         (unsigned long long)c);
        write_all(1, line, (size_t)n);
    }
}

static char *make_block(size_t size)
{
    char *block = malloc(size);
    if (!block)
        die("memory");
    for (size_t i = 0; i < size; i++)
        block[i] = i % 64 == 63 ? '\n' : (char)('!' + 1 + i % 57); /* '"' .. 'Z' */
    for (size_t i = 0; i < size; i++)
        if (block[i] == '"' || block[i] == '\\')
            block[i] = 'x';
    return block;
}

static void blast(uint64_t blocks, size_t size)
{
    char *block = make_block(size);
    wait_for_line();
    for (uint64_t i = 0; i < blocks; i++)
        write_all(1, block, size);
    free(block);
}

/* A listener on loopback; its port is told on stderr, as the first line. */
static int serve(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, len) < 0 || listen(fd, 4096) < 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) < 0)
        die("listen");
    fprintf(stderr, "%u\n", ntohs(at.sin_port));
    return fd;
}

static int take(int listener)
{
    int one = 1, fd = accept(listener, NULL, NULL);
    if (fd < 0)
        die("accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

/* stdin to one connection. */
static void relay(void)
{
    char *buf = malloc(CHUNK);
    int fd = take(serve());
    for (ssize_t n; (n = read(0, buf, CHUNK)) > 0;)
        write_all(fd, buf, (size_t)n);
    free(buf);
}

/* A send() loop over n connections; at a line on stdin; the marker stands at the end. */
static void fanout(size_t n, uint64_t blocks, size_t size, const char *marker)
{
    int *fd = calloc(n, sizeof(*fd)), listener = serve();
    char *block = make_block(size);
    for (size_t i = 0; i < n; i++)
        fd[i] = take(listener);
    wait_for_line();
    for (uint64_t k = 0; k < blocks; k++) {
        if (k == blocks - 1)
            memcpy(block + size - strlen(marker), marker, strlen(marker));
        for (size_t i = 0; i < n; i++)
            write_all(fd[i], block, size);
    }
    wait_for_line(); /* until they have read it */
    free(block);
    free(fd);
}

struct viewer {
    int fd;
    bool done;
    char tail[TAIL];
};

static int join(uint16_t port, const char *request)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char head[4];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
        die("connect");
    if (!*request)
        return fd;
    write_all(fd, request, strlen(request));
    memset(head, 0, sizeof(head));
    for (size_t n = 0; memcmp(head, "\r\n\r\n", 4) != 0; n++) {
        memmove(head, head + 1, 3);
        if (n > 4096 || read(fd, head + 3, 1) != 1)
            die("the upgrade was refused");
    }
    return fd;
}

/* Reads once. True when it has just seen the marker. */
static bool take_in(struct viewer *v, char *buf, const char *marker, uint64_t *bytes)
{
    memcpy(buf, v->tail, TAIL);
    ssize_t n = recv(v->fd, buf + TAIL, CHUNK, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0)
        die("a viewer was closed");
    *bytes += (uint64_t)n;
    memcpy(v->tail, buf + n, TAIL);
    bool seen = !v->done && memmem(v->tail, TAIL, marker, strlen(marker));
    v->done |= seen;
    return seen;
}

/* n viewers over the ports; "ready", then "done NS BYTES" (monotonic time of the last one to see
 * the marker). */
static void sink(size_t n, const char *ports, const char *request, const char *marker)
{
    struct viewer *v = calloc(n, sizeof(*v));
    char *buf = malloc(TAIL + CHUNK);
    const char *at = ports;
    int ep = epoll_create1(0);
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        v[i].fd = join((uint16_t)number(at), request);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &v[i]};
        if (epoll_ctl(ep, EPOLL_CTL_ADD, v[i].fd, &ev) < 0)
            die("epoll_ctl");
        at = strchr(at, ',') ? strchr(at, ',') + 1 : ports;
    }
    printf("ready\n");
    fflush(stdout);
    for (size_t left = n; left > 0;) {
        struct epoll_event ev[256];
        int got = epoll_wait(ep, ev, 256, -1);
        for (int i = 0; i < got; i++)
            left -= take_in(ev[i].data.ptr, buf, marker, &bytes);
    }
    printf("done %llu %llu\n", (unsigned long long)now_ns(CLOCK_MONOTONIC),
           (unsigned long long)bytes);
    free(buf);
    free(v);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Starts a program n times, one after the other, with as little around it as can be; prints the
 * median of the microseconds from the call to its first byte. */
static void spawn(size_t n, char **argv)
{
    uint64_t *took = calloc(n, sizeof(*took));
    for (size_t i = 0; i < n; i++) {
        char buf[4096];
        int pipes[2], status;
        if (pipe(pipes) < 0)
            die("pipe");
        uint64_t begin = now_ns(CLOCK_MONOTONIC);
        pid_t pid = vfork();
        if (pid == 0) {
            dup2(pipes[1], 1);
            close(pipes[0]);
            close(pipes[1]);
            execv(argv[0], argv);
            _exit(127);
        }
        close(pipes[1]);
        if (pid < 0 || read(pipes[0], buf, sizeof(buf)) <= 0)
            die("a program that was started");
        took[i] = (now_ns(CLOCK_MONOTONIC) - begin) / 1000;
        while (read(pipes[0], buf, sizeof(buf)) > 0)
            ;
        close(pipes[0]);
        waitpid(pid, &status, 0);
    }
    qsort(took, n, sizeof(*took), compare);
    printf("%llu\n", (unsigned long long)took[n / 2]);
    free(took);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "tick") == 0 && argc == 4)
        tick(number(argv[2]), number(argv[3]));
    else if (strcmp(mode, "blast") == 0 && argc == 4)
        blast(number(argv[2]), number(argv[3]));
    else if (strcmp(mode, "relay") == 0)
        relay();
    else if (strcmp(mode, "fanout") == 0 && argc == 6)
        fanout(number(argv[2]), number(argv[3]), number(argv[4]), argv[5]);
    else if (strcmp(mode, "sink") == 0 && argc == 6)
        sink(number(argv[2]), argv[3], argv[4], argv[5]);
    else if (strcmp(mode, "spawn") == 0 && argc > 3)
        spawn(number(argv[2]), argv + 3);
    else
        die("unknown mode");
    return 0;
}
