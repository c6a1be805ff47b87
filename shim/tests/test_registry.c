/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox's connections to a cache that echoes: bytes both ways, half and whole closes, bounds.
 */
#include "shim/registry.h"

#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/io/loop.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEADLINE_MS 60000
#define BIG (1u << 20)

static char path[] = "/tmp/devbox-registry-XXXXXX";
static struct dbx_loop *loop;
static struct dbx_watch *heard;
static struct dbx_log_ctx log_ctx;
static uint8_t sent[BIG], got[BIG];

static int listen_at(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(addr.sun_path, path, sizeof(path));
    (void)unlink(path);
    CHECK_EQ(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    CHECK_EQ(listen(fd, 8), 0);
    return fd;
}

static void on_readable(void *user, int events, int error)
{
    (void)user;
    (void)events;
    (void)error;
    dbx_loop_stop(loop, 0);
}
static void on_deadline(void *user)
{
    (void)user;
    dbx_loop_stop(loop, 1);
}

/* Runs the loop until fd has something to read, or its end. Returns what was read. */
static ssize_t read_some(int fd, void *data, size_t size)
{
    heard = dbx_watch_new(loop, fd, DBX_READ, on_readable, NULL);
    CHECK_EQ(dbx_loop_run(loop), 0);
    heard = dbx_watch_free(heard);
    return recv(fd, data, size, MSG_DONTWAIT);
}

static void test_both_ways(void)
{
    int listener = listen_at(), end = -1;
    struct shim_registry *rg = shim_registry_new(loop, path, &log_ctx);
    CHECK_EQ(shim_registry_connect(rg, &end), 0);
    int cache = accept(listener, NULL, NULL);
    size_t in = 0, out = 0;
    while (out < BIG) {
        ssize_t n = in < BIG ? send(end, sent + in, BIG - in, MSG_DONTWAIT) : 0;
        in += n > 0 ? (size_t)n : 0;
        n = read_some(cache, got + out, BIG - out);
        CHECK(n > 0);
        out += n > 0 ? (size_t)n : BIG;
    }
    CHECK_EQ(memcmp(sent, got, BIG), 0);
    CHECK_EQ(shutdown(end, SHUT_WR), 0); /* what was asked may still be answered */
    CHECK_EQ(read_some(cache, got, 1), 0);
    CHECK_EQ(send(cache, "answer", 6, 0), 6);
    CHECK_EQ(read_some(end, got, 16), 6);
    dbx_close(cache);
    CHECK_EQ(read_some(end, got, 16), 0);
    dbx_close(end);
    rg = shim_registry_free(rg);
    dbx_close(listener);
}

static void test_bounds(void)
{
    int listener = listen_at(), end[3] = {-1, -1, -1};
    struct shim_registry *rg = shim_registry_new(loop, path, &log_ctx);
    const struct shim_registry_limits two = {.connections = 2, .total = 3, .bytes = 1000};
    shim_registry_set_limits(rg, &two);
    CHECK_EQ(shim_registry_connect(rg, &end[0]), 0);
    CHECK_EQ(shim_registry_connect(rg, &end[1]), 0);
    CHECK_EQ(shim_registry_connect(rg, &end[2]), -EMFILE);
    int cache = accept(listener, NULL, NULL);
    dbx_close(cache);
    CHECK_EQ(read_some(end[0], got, 1), 0);
    dbx_close(end[0]);
    CHECK_EQ(shim_registry_connect(rg, &end[0]), 0);
    CHECK_EQ(send(end[0], sent, 2000, 0), 2000); /* too much: nobody gets more */
    CHECK_EQ(read_some(end[0], got, 1), 0);
    CHECK_EQ(shim_registry_connect(rg, &end[2]), -EDQUOT);
    rg = shim_registry_free(rg);
    CHECK_EQ(read_some(end[1], got, 1), 0); /* all are closed */
    dbx_close(end[0]);
    dbx_close(end[1]);
    dbx_close(listener);
}

static void test_idle_and_away(void)
{
    int listener = listen_at(), end = -1;
    struct shim_registry *rg = shim_registry_new(loop, path, &log_ctx);
    const struct shim_registry_limits soon = {.idle_ms = 20};
    shim_registry_set_limits(rg, &soon);
    CHECK_EQ(shim_registry_connect(rg, &end), 0);
    CHECK_EQ(read_some(end, got, 1), 0);
    dbx_close(end);
    dbx_close(listener);
    CHECK_EQ(shim_registry_connect(rg, &end), -ECONNREFUSED);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(shim_registry_connect(rg, &end), -ENOENT);
    rg = shim_registry_free(rg);
}

int main(void)
{
    int fd = mkstemp(path);
    struct dbx_timer *deadline;
    CHECK(fd >= 0);
    dbx_close(fd);
    for (size_t i = 0; i < BIG; i++)
        sent[i] = (uint8_t)(i * 31 + i / 251);
    loop = dbx_loop_new();
    deadline = dbx_timer_new(loop, on_deadline, NULL);
    dbx_timer_start(deadline, DEADLINE_MS, 0);
    dbx_log_ctx_init(&log_ctx, NULL, "instance", "test");
    test_both_ways();
    test_bounds();
    test_idle_and_away();
    deadline = dbx_timer_free(deadline);
    dbx_loop_free(loop);
    return check_result();
}
