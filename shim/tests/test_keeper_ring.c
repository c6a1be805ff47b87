/* SPDX-License-Identifier: Apache-2.0 */
/* The ring alone: what the keeper's half puts in, the shim's half takes out, also from two
 * processes at a time. */
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "shim/keeper_client_int.h"
#include "shim/keeper_pump.h"
#include "shim/tests/keeper_test.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#define RING 4096u

struct pair {
    int memfd, bells_fd, wake;
    struct shim_keeper sk;
    struct shim_kept *kept;
    struct shim_stream *s;
    struct keeper_shared *shared; /* the keeper's mapping */
    struct keeper_feed feed;
};

static void pair_open(struct pair *t)
{
    struct keeper_shared head = {
        .magic = KEEPER_SHARED_MAGIC, .version = KEEPER_VERSION, .ring_size = RING};
    struct keeper_msg m = {.slot = 70, .value = RING};
    *t = (struct pair){0};
    t->memfd = memfd_create("ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK_EQ(ftruncate(t->memfd, (off_t)keeper_map_size(RING)), 0);
    CHECK_EQ(pwrite(t->memfd, &head, 16, 0), 16);
    CHECK(keeper_map(t->memfd, RING, &t->shared, NULL) < 0); /* not sealed yet */
    CHECK_EQ(fcntl(t->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    CHECK(keeper_map(t->memfd, RING * 2, &t->shared, NULL) < 0);
    CHECK_EQ(keeper_map(t->memfd, RING, &t->shared, NULL), 0);
    dbx_list_init(&t->sk.ready);
    CHECK_EQ(keeper_bells_new(&t->bells_fd, &t->sk.bells, NULL), 0);
    t->wake = t->sk.wake_keeper = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK_EQ(shim_kept__adopt(&t->sk, &m, t->memfd, -1, &t->kept, NULL), 0);
    t->s = shim_kept_stream(t->kept, 1);
    t->feed = (struct keeper_feed){
        .ring = keeper_ring_data(t->shared, RING, 1), .size = RING, .shared = &t->shared->ring[1]};
}

static void pair_close(struct pair *t)
{
    shim_kept_free(t->kept);
    keeper_unmap(t->shared, RING);
    keeper_bells_unmap(t->sk.bells);
    dbx_close(t->memfd);
    dbx_close(t->bells_fd);
    dbx_close(t->wake);
}

/* Puts up to n bytes of the pattern in. */
static size_t put(struct pair *t, size_t n)
{
    uint8_t *at;
    size_t room = keeper_feed_room(&t->feed, &at);
    if (room == 0)
        return 0;
    if (n > room)
        n = room;
    memcpy(at, pattern + t->feed.head % PATTERN_PERIOD, n);
    keeper_feed_filled(&t->feed, n);
    return n;
}

static bool take(struct pair *t, size_t *ret)
{
    const uint8_t *p = shim_stream_peek(t->s, ret);
    bool right = pattern_is(p, *ret, shim_stream_next(t->s));
    shim_stream_consume(t->s, *ret);
    return right;
}

static void test_wrap_and_full(void)
{
    struct pair t;
    uint8_t *at;
    size_t n;
    pair_open(&t);
    CHECK(!shim_stream_peek(t.s, &n) && n == 0);
    CHECK_EQ(put(&t, 3000), 3000);
    CHECK(take(&t, &n) && n == 3000);
    CHECK_EQ(put(&t, 3000), 1096); /* to the end */
    CHECK_EQ(put(&t, 4000), 3000); /* from the beginning to the tail */
    CHECK_EQ(keeper_feed_room(&t.feed, &at), 0);
    CHECK_EQ(atomic_load(&t.feed.shared->stalled), 1);
    CHECK(shim_stream_peek(t.s, &n) && n == 1096);
    shim_stream_advance(t.s, 1096);
    CHECK_EQ(keeper_feed_room(&t.feed, &at), 0); /* looked at is not let go */
    CHECK_EQ(atomic_load(&t.sk.bells->room.bits[1]), 0);
    shim_stream_release(t.s, 3000 + 1000);
    CHECK_EQ(atomic_load(&t.sk.bells->room.bits[1]), 0); /* less than a quarter */
    shim_stream_release(t.s, 3000 + 1096);
    CHECK_EQ(atomic_load(&t.sk.bells->room.bits[1]), 1ull << (70 - 64));
    CHECK(take(&t, &n) && n == 3000);
    CHECK_EQ(put(&t, 1), 1);
    CHECK_EQ(atomic_load(&t.feed.shared->stalled), 0);
    keeper_feed_ended(&t.feed, KEEPER_EOF);
    CHECK(!shim_stream_at_eof(t.s));
    CHECK(take(&t, &n) && n == 1);
    CHECK(shim_stream_at_eof(t.s) && !shim_stream_failed(t.s));
    pair_close(&t);
}

static void test_mad_positions(void)
{
    struct pair t;
    uint8_t *at;
    size_t n;
    pair_open(&t);
    CHECK_EQ(put(&t, 10), 10);
    atomic_store(&t.feed.shared->tail, 11); /* the shim has taken what is not there */
    CHECK_EQ(keeper_feed_room(&t.feed, &at), 0);
    CHECK(t.feed.ended && atomic_load(&t.feed.shared->state) == KEEPER_FAILED);
    atomic_store(&t.feed.shared->tail, 0);
    atomic_store(&t.feed.shared->head, RING + 1); /* the keeper has put in what cannot be */
    CHECK(!shim_stream_peek(t.s, &n) && n == 0);
    CHECK(shim_stream_failed(t.s));
    pair_close(&t);
}

#define TOTAL (32u << 20)
#define DEADLINE_MS 30000 /* of a wait for the other process */

/* The keeper's half in another process, sleeping by the doorbell when the ring is full. */
static void produce(struct pair *t)
{
    struct keeper_bell *bell = &t->sk.bells->room;
    while (t->feed.head < TOTAL) {
        size_t n = TOTAL - t->feed.head < 777 ? (size_t)(TOTAL - t->feed.head) : 777;
        if (put(t, n))
            continue;
        struct pollfd p = {.fd = t->wake, .events = POLLIN};
        uint64_t count;
        atomic_exchange(&bell->bits[1], 0);
        uint8_t *at;
        if (keeper_feed_room(&t->feed, &at) || !keeper_arm(bell))
            continue;
        if (poll(&p, 1, DEADLINE_MS) != 1)
            _exit(9);
        (void)!read(t->wake, &count, sizeof(count));
    }
    keeper_feed_ended(&t->feed, KEEPER_EOF);
    _exit(0);
}

static void test_two_processes(void)
{
    struct pair t;
    size_t n;
    bool right = true;
    pair_open(&t);
    pid_t pid = fork();
    if (pid == 0)
        produce(&t);
    uint64_t until = dbx_now_ms() + 2 * DEADLINE_MS;
    while (right && !shim_stream_at_eof(t.s)) {
        right = take(&t, &n);
        if (n > 0)
            until = dbx_now_ms() + 2 * DEADLINE_MS;
        else if (dbx_now_ms() > until)
            break;
    }
    CHECK(right);
    CHECK_EQ(shim_stream_next(t.s), TOTAL);
    CHECK_EQ(wait_exit(pid), 0);
    pair_close(&t);
}

int main(void)
{
    pattern_init();
    test_wrap_and_full();
    test_mad_positions();
    test_two_processes();
    return check_result();
}
