/* SPDX-License-Identifier: Apache-2.0 */
/* The shipper killed at any instruction. Rings, log and durable state stand in shared memory; a
 * child ships until a timer's signal ends it, the next one adopts; at the end the log, with the
 * numbers that were seen before dropped, holds every byte once. */
#include "shim/ship.h"
#include "shim/ship_durable.h"

#include "common/base/rand.h"
#include "common/io/loop.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define RING 8192u
#define TOTAL 3000000u
#define MAX_ENTRIES 65536u
#define KILLS 400

struct ring {
    _Atomic uint64_t head, tail;
    uint64_t next; /* the child's */
    uint8_t data[RING];
};

struct entry {
    uint64_t seq, offset;
    int64_t ts_us;
    uint32_t len;
    uint8_t type;
    uint32_t sum;
};

static struct world {
    struct ring rings[2];
    struct keeper_durable durable;
    _Atomic uint64_t n;
    _Atomic bool began;
    bool done;
    uint8_t sha[2][DBX_SHA256_LEN];
    struct entry entries[MAX_ENTRIES];
} * w;

static struct dbx_loop *loop;
static struct {
    void (*fn)(int64_t offset, const struct dbx_err *err, void *user);
    void *user;
} acks[1024];
static size_t n_acks;
static int eofs, released;
static unsigned dice = 1;

static unsigned roll(unsigned sides)
{
    dice = dice * 1103515245u + 12345u;
    return (dice >> 16) % sides;
}

static uint8_t byte_at(int stream, uint64_t n)
{
    return (uint8_t)(n * 2654435761u >> 13 ^ (unsigned)stream);
}

/* ---- the keeper's part ---- */

static void produce(int i)
{
    struct ring *r = &w->rings[i];
    uint64_t head = r->head, room = RING - (head - r->tail);
    uint64_t n = roll(3000);
    n = n < room ? n : room;
    n = n < TOTAL - head ? n : TOTAL - head;
    for (uint64_t k = head; k < head + n; k++)
        r->data[k % RING] = byte_at(i, k);
    atomic_store(&r->head, head + n);
}

static const uint8_t *peek(void *p, size_t *ret)
{
    struct ring *r = p;
    uint64_t n = r->head - r->next, at = r->next % RING;
    *ret = (size_t)(n < RING - at ? n : RING - at);
    return *ret ? r->data + at : NULL;
}
static void advance(void *p, size_t n)
{
    ((struct ring *)p)->next += n;
}
static void release(void *p, uint64_t upto)
{
    struct ring *r = p;
    CHECK(upto <= r->next && upto >= r->tail);
    atomic_store(&r->tail, upto);
}
static void resume(void *p)
{
    (void)p;
}
static bool at_eof(void *p)
{
    struct ring *r = p;
    return r->head == TOTAL && r->next == TOTAL;
}
static bool is_full(void *p)
{
    const struct ring *r = p;
    return r->head - r->tail == RING;
}
static const struct shim_source_ops ops = {peek, advance, release, resume, at_eof, is_full};

/* ---- the log ---- */

static uint32_t sum_of(const uint8_t *p, size_t n)
{
    return dbx_crc32c(0, p, n);
}

static int append(struct dbx_olog *log, const struct dbx_id *key, const void *head, size_t head_len,
                  const void *data, size_t len,
                  void (*fn)(int64_t offset, const struct dbx_err *err, void *user), void *user)
{
    uint8_t value[DBX_REC_HEADER + RING];
    struct dbx_record rec;
    (void)log;
    (void)key;
    if (roll(5) == 0 || n_acks == DBX_ARRAY_LEN(acks) || head_len + len > sizeof(value))
        return -EAGAIN;
    memcpy(value, head, head_len);
    memcpy(value + head_len, data, len);
    CHECK_EQ(dbx_record_decode(value, head_len + len, &rec), 0);
    w->entries[w->n] = (struct entry){rec.seq, rec.offset,        rec.ts_us,
                                      rec.len, (uint8_t)rec.type, sum_of(rec.data, rec.len)};
    CHECK(w->n + 1 < MAX_ENTRIES);
    w->n++;
    acks[n_acks].fn = fn;
    acks[n_acks++].user = user;
    return 0;
}

static void ack_some(size_t n)
{
    for (; n > 0 && n_acks > 0; n--) {
        __typeof__(acks[0]) first = acks[0];
        memmove(acks, acks + 1, --n_acks * sizeof(acks[0]));
        first.fn(0, NULL, first.user);
    }
}

/* ---- one life of the shipper ---- */

static void on_eof(void *user)
{
    (void)user;
    eofs++;
}
static void on_released(void *source, void *user)
{
    (void)source;
    (void)user;
    released++;
}
static const struct shim_ship_handlers handlers = {.on_eof = on_eof, .on_released = on_released};

static uint64_t always_later(void)
{
    static uint64_t t;
    return t += 100;
}

static void stop_loop(void *user)
{
    (void)user;
    dbx_loop_stop(loop, 0);
}

static void turn(void)
{
    dbx_loop_defer(loop, stop_loop, NULL);
    dbx_loop_run(loop);
}

static struct shim_ship *ship;
static struct shim_ship_proc *sp;

/* began: the first phase's status was ordered (what an execution's record tells). */
static struct shim_ship_phase *open_phase(bool began)
{
    struct dbx_id sandbox = {{1}}, process = {{2}};
    struct dbx_err err = {0};
    loop = dbx_loop_new();
    struct shim_ship_opts so = {.loop = loop, .append = append, .now_ms = always_later};
    ship = shim_ship_new(&so);
    sp = shim_ship_proc_new(ship, &sandbox, &process);
    struct shim_ship_phase_opts po = {.max_bytes = 1u << 30,
                                      .ops = &ops,
                                      .stream = {&w->rings[0], &w->rings[1]},
                                      .durable = &w->durable,
                                      .h = &handlers};
    struct shim_ship_phase *ph = NULL;
    uint64_t at[2] = {w->rings[0].tail, w->rings[1].tail},
             head[2] = {w->rings[0].head, w->rings[1].head};
    for (int i = 0; i < 2; i++)
        w->rings[i].next = at[i];
    if (!began) {
        memset(&w->durable, 0, sizeof(w->durable));
        ph = shim_ship_phase_new(sp, &po);
        shim_ship_status(ph);
    } else if (shim_ship_phase_adopt(sp, &po, at, head, &ph, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        _exit(3);
    }
    return ph;
}

static void close_phase(struct shim_ship_phase *ph)
{
    shim_ship_phase_stop(ph);
    shim_ship_proc_free(sp);
    turn();
    CHECK_EQ(released, 1);
    shim_ship_free(ship);
}

static void live(void)
{
    struct shim_ship_phase *ph = open_phase(w->began);
    w->began = true;
    while (eofs == 0 || n_acks > 0) {
        turn();
        for (int i = 0; i < 2; i++) {
            produce(i);
            (void)shim_ship_feed(ph, i);
        }
        ack_some(roll(8));
        if (roll(4) == 0)
            shim_ship_on_room(ship);
    }
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(shim_ship_bytes(ph, i), TOTAL);
        shim_ship_sha256(ph, i, w->sha[i]);
    }
    close_phase(ph);
    w->done = true;
}

static int life(bool mortal)
{
    int status;
    dbx_random(&dice, sizeof(dice));
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct itimerval it = {.it_value.tv_usec = 100 + (suseconds_t)roll(2000)};
        if (mortal)
            setitimer(ITIMER_REAL, &it, NULL);
        live();
        fflush(NULL);
        _exit(check_failures ? 1 : 0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    return status;
}

static void check_log(void)
{
    uint64_t next = 0, at[2] = {0, 0};
    struct entry *seen = calloc(MAX_ENTRIES, sizeof(*seen));
    for (uint64_t k = 0; k < w->n; k++) {
        const struct entry *e = &w->entries[k];
        if (e->seq < next) { /* a repeat: the same words */
            CHECK(memcmp(e, &seen[e->seq], sizeof(*e)) == 0);
            continue;
        }
        CHECK_EQ(e->seq, next);
        seen[next++] = *e;
        if (e->type == DBX_REC_STATUS)
            continue;
        int i = e->type == DBX_REC_STDERR;
        uint8_t want[RING];
        CHECK_EQ(e->offset, at[i]);
        for (uint32_t n = 0; n < e->len; n++)
            want[n] = byte_at(i, at[i] + n);
        CHECK_EQ(e->sum, sum_of(want, e->len));
        at[i] += e->len;
    }
    CHECK_EQ(seen[0].type, DBX_REC_STATUS);
    CHECK_EQ(at[0], TOTAL);
    CHECK_EQ(at[1], TOTAL);
    free(seen);
}

static void test_killed(void)
{
    int killed = 0;
    for (int i = 0; i < KILLS && !w->done; i++) {
        int status = life(true);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
            killed++;
        else
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    if (!w->done)
        CHECK_EQ(life(false), 0);
    CHECK(w->done);
    printf("killed %d times, %" PRIu64 " records\n", killed, (uint64_t)w->n);
    CHECK(killed >= 10);
    check_log();
    for (int i = 0; i < 2; i++) {
        uint8_t *all = malloc(TOTAL), sha[DBX_SHA256_LEN];
        for (uint64_t n = 0; n < TOTAL; n++)
            all[n] = byte_at(i, n);
        dbx_sha256(all, TOTAL, sha);
        CHECK(memcmp(sha, w->sha[i], sizeof(sha)) == 0);
        free(all);
    }
}

/* Given to the log and not yet counted; given again by the next shim, acknowledged, and that one
 * dies too: the third must not use its number. */
static void test_number_of_the_last(void)
{
    struct dbx_record rec = {.type = DBX_REC_STDOUT, .seq = 7, .len = 60};
    struct shim_durable_state st;
    struct dbx_err err = {0};
    memset(w->rings, 0, sizeof(w->rings));
    memset(&w->durable, 0, sizeof(w->durable));
    w->rings[0].head = 60;
    shim_durable_init(&w->durable, 7);
    CHECK(shim_durable_intend(&w->durable, &rec) != NULL);
    struct shim_ship_phase *ph = open_phase(true);
    while (w->n == 0) {
        shim_ship_on_room(ship);
        turn();
    }
    ack_some(1);
    CHECK_EQ(w->entries[0].seq, 7);
    CHECK_EQ(w->rings[0].tail, 60);
    uint64_t at[2] = {60, 0}, head[2] = {60, 0};
    CHECK_EQ(shim_durable_load(&w->durable, at, head, &st, &err), 0);
    CHECK_EQ(st.n, 0);
    CHECK_EQ(st.next_seq, 8);
    /* Words have no intent, and a number all the same. */
    shim_ship_words(ph, 1, "no such file\n");
    CHECK_EQ(shim_durable_load(&w->durable, at, head, &st, &err), 0);
    CHECK_EQ(st.next_seq, 9);
    close_phase(ph);
    dbx_loop_free(loop);
    released = 0;
    memset(w, 0, sizeof(*w));
}

/* What cannot be is refused with words. */
static void test_refused(void)
{
    struct keeper_durable *d = calloc(1, sizeof(*d));
    struct shim_durable_state st;
    struct dbx_err err = {0};
    uint64_t at[2] = {0, 0}, head[2] = {100, 100};
    CHECK_EQ(shim_durable_load(d, at, head, &st, &err), -EBADMSG); /* never used */
    shim_durable_init(d, 5);
    CHECK_EQ(shim_durable_load(d, at, head, &st, &err), 0);
    CHECK_EQ(st.next_seq, 5);
    struct dbx_record rec = {.type = DBX_REC_STDOUT, .seq = 5, .len = 60};
    struct keeper_intent *it = shim_durable_intend(d, &rec);
    CHECK_EQ(shim_durable_load(d, at, head, &st, &err), 0);
    CHECK_EQ(st.next_seq, 6);
    CHECK_EQ(st.given[0], 60);
    it->offset = 3;
    CHECK_EQ(shim_durable_load(d, at, head, &st, &err), -EBADMSG);
    it->offset = 0;
    it->len = 101;
    CHECK_EQ(shim_durable_load(d, at, head, &st, &err), -EBADMSG);
    it->len = 60;
    it->type = DBX_REC_END;
    CHECK_EQ(shim_durable_load(d, at, head, &st, &err), -EBADMSG);
    it->type = DBX_REC_STDOUT;
    d->hash_at[0] = 2;
    CHECK_EQ(shim_durable_load(d, at, head, &st, &err), -EBADMSG);
    d->hash_at[0] = 0;
    d->hash[0][0].bytes = 61;
    CHECK_EQ(shim_durable_load(d, at, head, &st, &err), -EBADMSG);
    d->hash[0][0].bytes = 0;
    at[0] = 1;
    CHECK_EQ(shim_durable_load(d, at, head, &st, &err), -EBADMSG);
    at[0] = 0;
    d->version = 2;
    CHECK_EQ(shim_durable_load(d, at, head, &st, &err), -EBADMSG);
    free(d);
}

int main(void)
{
    w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(w != MAP_FAILED);
    test_refused();
    test_number_of_the_last();
    test_killed();
    return check_result();
}
