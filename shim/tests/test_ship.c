/* SPDX-License-Identifier: Apache-2.0 */
/* The shipper over rings and a log that the test holds in its hands. */
#include "shim/ship.h"

#include "common/io/loop.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <stdlib.h>

#define RING (256u << 10)
#define MAX_RECORDS 4096

struct ring {
    uint8_t data[4u << 20];
    uint64_t head, next, tail, size;
    bool eof;
    int resumed;
};

struct entry {
    struct dbx_record rec;
    uint8_t *value; /* owned */
    void (*fn)(int64_t offset, const struct dbx_err *err, void *user);
    void *user;
    bool acked;
};

static struct ring rings[2];
static struct entry entries[MAX_RECORDS];
static size_t n_entries, room;
static uint64_t clock_ms = 1000;
static int overs, eofs, releases, ends, held_now;
static struct dbx_loop *loop;

static const uint8_t *ring_peek(void *p, size_t *ret)
{
    struct ring *r = p;
    *ret = (size_t)(r->head - r->next);
    return *ret ? r->data + r->next : NULL;
}
static void ring_advance(void *p, size_t n)
{
    ((struct ring *)p)->next += n;
}
static void ring_release(void *p, uint64_t upto)
{
    struct ring *r = p;
    CHECK(upto <= r->next && upto >= r->tail);
    r->tail = upto;
}
static void ring_resume(void *p)
{
    ((struct ring *)p)->resumed++;
}
static bool ring_at_eof(void *p)
{
    struct ring *r = p;
    return r->eof && r->next == r->head;
}
static bool ring_is_full(void *p)
{
    const struct ring *r = p;
    return r->head - r->tail >= r->size;
}
static const struct shim_source_ops ops = {ring_peek,   ring_advance, ring_release,
                                           ring_resume, ring_at_eof,  ring_is_full};

static int append(struct dbx_olog *log, const struct dbx_id *key, const void *head, size_t head_len,
                  const void *data, size_t len,
                  void (*fn)(int64_t offset, const struct dbx_err *err, void *user), void *user)
{
    (void)log;
    CHECK_EQ(key->b[0], 0x5a);
    if (room == 0 || n_entries == MAX_RECORDS)
        return -EAGAIN;
    room--;
    struct entry *e = &entries[n_entries];
    e->value = malloc(head_len + len);
    memcpy(e->value, head, head_len);
    if (len)
        memcpy(e->value + head_len, data, len);
    CHECK_EQ(dbx_record_decode(e->value, head_len + len, &e->rec), 0);
    CHECK_EQ(e->rec.seq, n_entries);
    e->fn = fn;
    e->user = user;
    e->acked = false;
    n_entries++;
    return 0;
}

static uint64_t now_ms(void)
{
    return clock_ms;
}

static void on_over(void *user)
{
    (void)user;
    overs++;
}
static void on_held(bool held, void *user)
{
    (void)user;
    held_now = held;
}
static void on_eof(void *user)
{
    (void)user;
    eofs++;
}
static void on_released(void *source, void *user)
{
    (void)user;
    CHECK(source == rings);
    releases++;
}
static const struct shim_ship_handlers handlers = {on_over, on_held, on_eof, on_released};

static void on_end(const struct dbx_err *err, void *user)
{
    *(bool *)user = err != NULL;
    ends++;
}

/* ---- helpers ---- */

static void stop_loop(void *user)
{
    (void)user;
    dbx_loop_stop(loop, 0);
}

/* Lets what was deferred happen. */
static void turn(void)
{
    dbx_loop_defer(loop, stop_loop, NULL);
    dbx_loop_run(loop);
    dbx_loop_defer(loop, stop_loop, NULL);
    dbx_loop_run(loop);
}

static void put(int i, const void *data, size_t n)
{
    memcpy(rings[i].data + rings[i].head, data, n);
    rings[i].head += n;
}

static void put_many(int i, size_t n)
{
    memset(rings[i].data + rings[i].head, 'x', n);
    rings[i].head += n;
}

static void ack_all(const struct dbx_err *err)
{
    for (size_t k = 0; k < n_entries; k++)
        if (!entries[k].acked) {
            entries[k].acked = true;
            entries[k].fn((int64_t)k, err, entries[k].user);
        }
}

static void reset(size_t log_room)
{
    for (size_t k = 0; k < n_entries; k++)
        free(entries[k].value);
    n_entries = 0;
    for (int i = 0; i < 2; i++)
        rings[i].head = rings[i].next = rings[i].tail = 0, rings[i].eof = false,
        rings[i].resumed = 0, rings[i].size = sizeof(rings[i].data);
    room = log_room;
    overs = eofs = releases = ends = held_now = 0;
    clock_ms += 1000;
}

static struct shim_ship_proc *new_proc(struct shim_ship *ship)
{
    struct dbx_id sandbox = {{0x5a}}, process = {{0x77}};
    return shim_ship_proc_new(ship, &sandbox, &process);
}

static struct shim_ship_phase *new_phase(struct shim_ship_proc *sp, uint8_t flags, uint64_t max)
{
    struct shim_ship_phase_opts o = {.flags = flags,
                                     .max_bytes = max,
                                     .ops = &ops,
                                     .stream = {&rings[0], &rings[1]},
                                     .source = rings,
                                     .h = &handlers};
    return shim_ship_phase_new(sp, &o);
}

static void end_all(struct shim_ship_proc *sp, struct shim_ship_phase *ph)
{
    if (ph)
        shim_ship_phase_stop(ph);
    shim_ship_proc_free(sp);
    ack_all(NULL);
    turn();
    CHECK_EQ(releases, ph ? 1 : releases);
}

/* ---- tests ---- */

static void test_order_and_offsets(struct shim_ship *ship)
{
    reset(100);
    struct shim_ship_proc *sp = new_proc(ship);
    struct shim_ship_phase *ph = new_phase(sp, DBX_REC_COMPILE, 1000);
    bool failed = true;
    shim_ship_status(ph);
    put(0, "early", 5);
    CHECK(!shim_ship_feed(ph, 0)); /* the status goes first */
    turn();
    CHECK_EQ(n_entries, 1);
    CHECK_EQ(entries[0].rec.type, DBX_REC_STATUS);
    CHECK_EQ(rings[0].resumed, 1);
    CHECK(shim_ship_feed(ph, 0));
    put(1, "ab", 2);
    CHECK(shim_ship_feed(ph, 1));
    CHECK_EQ(entries[1].rec.type, DBX_REC_STDOUT);
    CHECK_EQ(entries[1].rec.flags, DBX_REC_COMPILE);
    CHECK_EQ(entries[2].rec.type, DBX_REC_STDERR);
    CHECK_EQ(rings[0].tail, 0); /* room only when the log has it */
    ack_all(NULL);
    CHECK_EQ(rings[0].tail, 5);
    clock_ms += 10;
    put(0, "late", 4);
    CHECK(shim_ship_feed(ph, 0));
    CHECK_EQ(entries[3].rec.offset, 5);
    rings[0].eof = rings[1].eof = true;
    CHECK(!shim_ship_feed(ph, 0));
    CHECK_EQ(eofs, 0);
    CHECK(!shim_ship_feed(ph, 1));
    CHECK_EQ(eofs, 1);
    uint8_t want[DBX_SHA256_LEN], got[DBX_SHA256_LEN];
    dbx_sha256("earlylate", 9, want);
    shim_ship_sha256(ph, 0, got);
    CHECK(memcmp(want, got, sizeof(want)) == 0);
    CHECK_EQ(shim_ship_bytes(ph, 0), 9);
    shim_ship_phase_stop(ph);
    turn();
    CHECK_EQ(releases, 0); /* "late" is in flight */
    ack_all(NULL);
    turn();
    CHECK_EQ(releases, 1);

    struct shim_ship_phase *run = new_phase(sp, 0, 1000); /* offsets begin anew, seq goes on */
    rings[0].eof = false;
    rings[0].head = rings[0].next = rings[0].tail = 0;
    put(0, "r", 1);
    CHECK(shim_ship_feed(run, 0));
    CHECK_EQ(entries[4].rec.offset, 0);
    CHECK_EQ(entries[4].rec.flags, 0);
    shim_ship_end(sp, "{}", 2, on_end, &failed);
    turn();
    CHECK_EQ(entries[5].rec.type, DBX_REC_END);
    CHECK_EQ(ends, 0);
    ack_all(NULL);
    CHECK_EQ(ends, 1);
    CHECK(!failed);
    releases = 0;
    end_all(sp, run);
}

static void test_coalesce(struct shim_ship *ship)
{
    reset(1000);
    struct shim_ship_proc *sp = new_proc(ship);
    struct shim_ship_phase *ph = new_phase(sp, 0, 1u << 30);
    put(0, "a", 1);
    CHECK(shim_ship_feed(ph, 0)); /* quiet: at once */
    for (int k = 0; k < 1000; k++) {
        put(0, "b", 1);
        CHECK(!shim_ship_feed(ph, 0)); /* busy: it waits */
    }
    CHECK_EQ(n_entries, 1);
    clock_ms += SHIM_SHIP_QUIET_MS;
    CHECK(shim_ship_feed(ph, 0));
    CHECK_EQ(n_entries, 2);
    CHECK_EQ(entries[1].rec.len, 1000);
    put_many(0, SHIM_SHIP_MAX_DATA + 10); /* a full record does not wait */
    CHECK(shim_ship_feed(ph, 0));
    CHECK_EQ(entries[2].rec.len, SHIM_SHIP_MAX_DATA);
    CHECK(!shim_ship_feed(ph, 0));
    shim_ship_hurry(ph);
    CHECK(rings[0].resumed > 0);
    CHECK(shim_ship_feed(ph, 0));
    CHECK_EQ(entries[3].rec.len, 10);
    end_all(sp, ph);
}

static void test_limit(struct shim_ship *ship)
{
    reset(1000);
    struct shim_ship_proc *sp = new_proc(ship);
    struct shim_ship_phase *ph = new_phase(sp, 0, 100);
    put_many(0, 60);
    CHECK(shim_ship_feed(ph, 0));
    put_many(1, 60);
    CHECK(shim_ship_feed(ph, 1));
    CHECK_EQ(entries[1].rec.len, 40); /* both streams together, exactly */
    CHECK_EQ(overs, 0);
    CHECK(shim_ship_feed(ph, 1));
    CHECK_EQ(overs, 1);
    put_many(0, 5000);
    CHECK(shim_ship_feed(ph, 0));
    CHECK_EQ(overs, 1);
    CHECK_EQ(n_entries, 2);
    CHECK_EQ(shim_ship_bytes(ph, 0) + shim_ship_bytes(ph, 1), 100);
    ack_all(NULL);
    CHECK_EQ(rings[0].tail, 5060); /* what was dropped gives room too */
    CHECK_EQ(rings[1].tail, 60);
    rings[0].eof = rings[1].eof = true;
    shim_ship_feed(ph, 0);
    shim_ship_feed(ph, 1);
    CHECK_EQ(eofs, 1);
    end_all(sp, ph);

    reset(1000); /* exactly the limit is no offence */
    sp = new_proc(ship);
    ph = new_phase(sp, 0, 100);
    put_many(0, 100);
    CHECK(shim_ship_feed(ph, 0));
    rings[0].eof = rings[1].eof = true;
    shim_ship_feed(ph, 0);
    shim_ship_feed(ph, 1);
    CHECK_EQ(overs, 0);
    end_all(sp, ph);
}

static void test_full_log(struct shim_ship *ship)
{
    reset(1);
    struct shim_ship_proc *sp = new_proc(ship);
    struct shim_ship_phase *ph = new_phase(sp, 0, 1u << 30);
    bool failed = true;
    put_many(0, 10);
    CHECK(shim_ship_feed(ph, 0));
    clock_ms += 10;
    put_many(0, 20);
    CHECK(!shim_ship_feed(ph, 0));
    CHECK(held_now && shim_ship_is_held(ph));
    CHECK_EQ(rings[0].next, 10);
    shim_ship_end(sp, "{}", 2, on_end, &failed);
    turn();
    CHECK_EQ(n_entries, 1);
    shim_ship_on_room(ship); /* a false alarm */
    CHECK_EQ(n_entries, 1);
    room = 10;
    shim_ship_on_room(ship);
    CHECK_EQ(n_entries, 2); /* our own waiting records first */
    CHECK(rings[0].resumed > 0);
    CHECK(shim_ship_feed(ph, 0));
    CHECK_EQ(held_now, 0);
    struct dbx_err err = {0};
    dbx_err_set(&err, -EIO, DBX_INTERNAL, "disk");
    ack_all(&err);
    CHECK_EQ(ends, 1);
    CHECK(failed);
    end_all(sp, ph);
}

/* All that it wrote is on its way, and it can write no more. */
static void test_full_ring(struct shim_ship *ship)
{
    reset(1000);
    struct shim_ship_proc *sp = new_proc(ship);
    struct shim_ship_phase *ph = new_phase(sp, 0, 1u << 30);
    rings[0].size = 4 * SHIM_SHIP_MAX_DATA;
    put_many(0, 3 * SHIM_SHIP_MAX_DATA);
    while (rings[0].next < rings[0].head)
        CHECK(shim_ship_feed(ph, 0));
    CHECK(!held_now);
    put_many(0, SHIM_SHIP_MAX_DATA);
    CHECK(shim_ship_feed(ph, 0) && held_now);
    entries[0].acked = true;
    entries[0].fn(0, NULL, entries[0].user);
    CHECK(!held_now);
    end_all(sp, ph);
}

static void test_in_flight(struct shim_ship *ship)
{
    reset(1000);
    struct shim_ship_proc *sp = new_proc(ship);
    struct shim_ship_phase *ph = new_phase(sp, 0, 1u << 30);
    put_many(0, 2 * SHIM_SHIP_MAX_IN_FLIGHT);
    while (shim_ship_feed(ph, 0))
        ;
    CHECK_EQ(rings[0].next, SHIM_SHIP_MAX_IN_FLIGHT);
    CHECK(held_now);
    CHECK_EQ(rings[0].resumed, 0);
    entries[0].acked = true;
    entries[0].fn(0, NULL, entries[0].user);
    CHECK_EQ(rings[0].resumed, 1);
    CHECK(shim_ship_feed(ph, 0));
    CHECK(!shim_ship_feed(ph, 0));
    end_all(sp, ph);
}

static void test_words(struct shim_ship *ship)
{
    reset(1000);
    struct shim_ship_proc *sp = new_proc(ship);
    struct shim_ship_phase_opts o = {.max_bytes = 6, .source = rings, .h = &handlers};
    struct shim_ship_phase *ph = shim_ship_phase_new(sp, &o);
    shim_ship_words(ph, 1, "no such thing\n");
    CHECK_EQ(shim_ship_bytes(ph, 1), 6);
    turn();
    CHECK_EQ(n_entries, 1);
    CHECK_EQ(entries[0].rec.type, DBX_REC_STDERR);
    CHECK_EQ(entries[0].rec.len, 6);
    end_all(sp, ph);
}

int main(void)
{
    loop = dbx_loop_new();
    struct shim_ship_opts o = {.loop = loop, .append = append, .now_ms = now_ms};
    struct shim_ship *ship = shim_ship_new(&o);
    test_order_and_offsets(ship);
    test_coalesce(ship);
    test_limit(ship);
    test_full_log(ship);
    test_full_ring(ship);
    test_in_flight(ship);
    test_words(ship);
    reset(0);
    shim_ship_free(ship);
    dbx_loop_free(loop);
    return check_result();
}
