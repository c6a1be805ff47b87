/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/io/loop.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

struct state {
    struct dbx_loop *loop;
    struct dbx_timer *timer, *guard;
    struct dbx_watch *watch;
    int count, order[8], n;
    int fds[2];
    int error;
};

static void on_guard(void *user)
{
    struct state *st = user;

    CHECK(!"deadline passed");
    dbx_loop_stop(st->loop, -1);
}

static void begin(struct state *st)
{
    *st = (struct state){.loop = dbx_loop_new(), .fds = {-1, -1}};
    st->guard = dbx_timer_new(st->loop, on_guard, st);
    dbx_timer_start(st->guard, 60000, 0);
}

static void end(struct state *st)
{
    dbx_timer_free(st->guard);
    dbx_loop_free(st->loop);
    dbx_close(st->fds[0]);
    dbx_close(st->fds[1]);
}

static void on_tick(void *user)
{
    struct state *st = user;

    if (++st->count == 3) {
        st->timer = dbx_timer_free(st->timer); /* inside its own callback */
        dbx_loop_stop(st->loop, 7);
    }
}

static void test_timer(void)
{
    struct state st;
    begin(&st);
    st.timer = dbx_timer_new(st.loop, on_tick, &st);
    uint64_t t0 = dbx_now_ms();
    dbx_timer_start(st.timer, 20, 5);
    CHECK_EQ(dbx_loop_run(st.loop), 7);
    CHECK_EQ(st.count, 3);
    CHECK(dbx_now_ms() - t0 >= 29);
    CHECK(dbx_timer_free(NULL) == NULL);
    end(&st);
}

static void second(void *user)
{
    struct state *st = user;
    st->order[st->n++] = 2;
    dbx_loop_stop(st->loop, 0);
}

static void first(void *user)
{
    struct state *st = user;
    st->order[st->n++] = 1;
    dbx_loop_defer(st->loop, second, st);
    st->order[st->n++] = 11;
}

static void test_defer(void)
{
    struct state st;
    begin(&st);
    dbx_loop_defer(st.loop, first, &st);
    CHECK_EQ(st.n, 0);
    dbx_loop_run(st.loop);
    CHECK_EQ(st.n, 3);
    CHECK_EQ(st.order[0], 1);
    CHECK_EQ(st.order[1], 11);
    CHECK_EQ(st.order[2], 2);
    dbx_loop_defer(st.loop, first, &st); /* dropped by the free */
    end(&st);
    CHECK_EQ(st.n, 3);
}

static void on_posted(void *user)
{
    struct state *st = user;
    if (++st->count == 1000)
        dbx_loop_stop(st->loop, 0);
}

static void *poster(void *arg)
{
    struct state *st = arg;
    for (int i = 0; i < 500; i++)
        dbx_loop_post(st->loop, on_posted, st);
    return NULL;
}

static void test_post(void)
{
    struct state st;
    pthread_t a, b;
    begin(&st);
    CHECK_EQ(pthread_create(&a, NULL, poster, &st), 0);
    CHECK_EQ(pthread_create(&b, NULL, poster, &st), 0);
    dbx_loop_run(st.loop);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    CHECK_EQ(st.count, 1000);
    end(&st);
}

static void on_readable(void *user, int events, int error)
{
    struct state *st = user;
    char c;

    CHECK_EQ(error, 0);
    CHECK_EQ(events, DBX_READ);
    CHECK_EQ(read(st->fds[0], &c, 1), 1);
    if (++st->count == 2) {
        st->watch = dbx_watch_free(st->watch);
        dbx_loop_stop(st->loop, 0);
    }
}

static void test_watch(void)
{
    struct state st;
    begin(&st);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, st.fds), 0);
    st.watch = dbx_watch_new(st.loop, st.fds[0], 0, on_readable, &st);
    CHECK_EQ(write(st.fds[1], "ab", 2), 2);
    dbx_watch_set(st.watch, DBX_READ);
    dbx_loop_run(st.loop);
    CHECK_EQ(st.count, 2);
    end(&st);
}

static void on_error(void *user, int events, int error)
{
    struct state *st = user;
    (void)events;
    st->error = error;
    st->watch = dbx_watch_free(st->watch);
    dbx_loop_stop(st->loop, 0);
}

static void test_watch_error(void)
{
    struct state st;
    begin(&st);
    CHECK_EQ(pipe(st.fds), 0);
    dbx_close(st.fds[0]);
    st.fds[0] = -1;
    st.watch = dbx_watch_new(st.loop, st.fds[1], DBX_READ, on_error, &st);
    dbx_loop_run(st.loop);
    CHECK_EQ(st.error, -EPIPE);
    end(&st);
}

static void on_term(void *user)
{
    struct state *st = user;
    st->count++;
    dbx_loop_stop(st->loop, 0);
}

static void test_signal(void)
{
    struct state st;
    begin(&st);
    dbx_loop_on_terminate(st.loop, on_term, &st);
    kill(getpid(), SIGTERM);
    dbx_loop_run(st.loop);
    CHECK_EQ(st.count, 1);
    kill(getpid(), SIGINT);
    dbx_loop_run(st.loop);
    CHECK_EQ(st.count, 2);
    end(&st);
}

/* What an owner forgot is closed by the loop: nothing leaks, nothing dangles. */
static void test_forgotten(void)
{
    struct state st;
    begin(&st);
    dbx_timer_start(dbx_timer_new(st.loop, on_tick, &st), 1000, 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, st.fds), 0);
    dbx_watch_new(st.loop, st.fds[0], DBX_READ, on_readable, &st);
    end(&st);
}

int main(void)
{
    test_timer();
    test_defer();
    test_post();
    test_watch();
    test_watch_error();
    test_signal();
    test_forgotten();
    return check_result();
}
