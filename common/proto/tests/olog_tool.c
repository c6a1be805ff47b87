/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests/system/test_output_log.py does to a log from outside, one process each:
 *
 *   olog_tool URL write KEY FROM COUNT SIZE   appends the numbers FROM .. FROM + COUNT - 1
 *   olog_tool URL read KEY OFFSET COUNT       follows KEY until the number COUNT - 1 was seen
 *   olog_tool URL hold KEY AT COUNT           the same from 0, held back at AT until stdin says a
 * line olog_tool URL crowd READERS KEYS COUNT    many readers of few keys, from the start olog_tool
 * URL latency ROUNDS              live delivery, and a new reader's first entry olog_tool URL
 * bounds KEY                  oldest and next
 *
 *   olog_tool URL dump ID                     what stands there of a sandbox's id, in hexadecimal
 *
 * One line of words and numbers an event on stdout; exit code 0 when everything was seen.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/ext/kafka.h"
#include "common/io/loop.h"
#include "common/proto/output_log.h"

#define TOLD_EVERY 5000
#define MAX_READERS 1000
#define MAX_ROUNDS 20000

static struct dbx_loop *loop;
static struct dbx_olog *olog;

static void fail(const char *what, const struct dbx_err *err)
{
    printf("error %s: %s\n", what, err ? err->msg : "");
    fflush(stdout);
    exit(1);
}

static void open_log(const char *url, bool writer)
{
    struct dbx_err err = {0};
    struct dbx_olog_opts o = {.loop = loop, .url = url, .writer = writer, .retain_ms = 3600000};
    if (dbx_olog_open(&o, &olog, &err) < 0)
        fail("open", &err);
}

static uint64_t number(const char *text, uint64_t max)
{
    uint64_t n;
    if (dbx_parse_u64(text, strlen(text), 0, max, &n) < 0)
        fail(text, NULL);
    return n;
}

static struct dbx_id key_of(uint64_t n)
{
    struct dbx_id id = {{0}};
    memcpy(id.b, &n, sizeof(n));
    return id;
}

/* The most it ever was. getrusage(2) would count who started this program as well. */
static long rss_kb(void)
{
    static const char name[] = "VmHWM:";
    char line[128];
    uint64_t kb = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof(line), f)) {
        const char *number = line + sizeof(name) - 1;
        if (!dbx_starts_with(line, name))
            continue;
        number += strspn(number, " \t");
        if (dbx_parse_u64(number, strspn(number, "0123456789"), 0, INT64_MAX, &kb) < 0)
            fail("read its own size", NULL);
    }
    if (f)
        fclose(f);
    return (long)kb;
}

/* --- write --- */

struct writer {
    struct dbx_id key;
    uint64_t next, end, acked, stalls, stalled_since, longest_ms;
    size_t size;
    int64_t last_offset;
};
static struct writer w;
static char filler[DBX_LOG_MAX_VALUE];

static void on_acked(int64_t offset, const struct dbx_err *err, void *user)
{
    (void)user;
    if (err)
        fail("append", err);
    if (offset >= 0 && offset <= w.last_offset)
        printf("offset %" PRId64 " after %" PRId64 "\n", offset, w.last_offset);
    w.last_offset = offset;
    if (++w.acked % TOLD_EVERY == 0)
        printf("acked %" PRIu64 "\n", w.acked);
    if (w.next == w.end && w.acked == w.end)
        dbx_loop_stop(loop, 0);
}

static void fill(void *user)
{
    (void)user;
    if (w.stalled_since && dbx_now_ms() - w.stalled_since > w.longest_ms)
        w.longest_ms = dbx_now_ms() - w.stalled_since;
    for (int turn = 0; w.next < w.end; w.next++) {
        int r =
            dbx_olog_append(olog, &w.key, &w.next, sizeof(w.next), filler, w.size, on_acked, NULL);
        if (r == -EAGAIN) {
            if (!w.stalled_since)
                printf("full %" PRIu64 "\n", w.next);
            w.stalls += !w.stalled_since;
            w.stalled_since = w.stalled_since ? w.stalled_since : dbx_now_ms();
            return; /* on_room calls again */
        }
        if (r < 0)
            fail("append", &(struct dbx_err){.msg = "refused"});
        w.stalled_since = 0;
        if (++turn == 64) { /* let the loop have its turn */
            w.next++;
            dbx_loop_defer(loop, fill, NULL);
            return;
        }
    }
}

static int cmd_write(const char *url, char **a)
{
    open_log(url, true);
    w = (struct writer){.key = key_of(number(a[0], UINT64_MAX)),
                        .next = number(a[1], UINT32_MAX),
                        .size = (size_t)number(a[3], DBX_LOG_MAX_VALUE - 8),
                        .last_offset = -1};
    w.acked = w.next;
    w.end = w.next + number(a[2], UINT32_MAX);
    dbx_olog_on_room(olog, fill, NULL);
    fill(NULL);
    int r = dbx_loop_run(loop);
    printf("wrote %" PRIu64 " stalls %" PRIu64 " longest_ms %" PRIu64 " rss_kb %ld last %" PRId64
           "\n",
           w.acked, w.stalls, w.longest_ms, rss_kb(), w.last_offset);
    return r;
}

/* --- read --- */

struct sink {
    struct dbx_olog_reader *reader;
    uint64_t expect, end, repeats, holes;
    uint64_t hold_at; /* 0: never */
    bool skip;        /* after a truncation: the next number is taken as it is */
    bool quiet, done;
};
static size_t open_sinks;

static bool on_entry(const struct dbx_olog_entry *e, void *user)
{
    struct sink *s = user;
    uint64_t n = UINT64_MAX;
    if (s->hold_at && s->expect == s->hold_at) {
        printf("held %" PRIu64 "\n", s->expect);
        return false;
    }
    if (e->len >= sizeof(n))
        memcpy(&n, e->value, sizeof(n));
    if (s->skip && n > s->expect)
        s->expect = n;
    s->skip = false;
    if (n > s->expect) {
        printf("hole %" PRIu64 " to %" PRIu64 "\n", s->expect, n);
        s->holes++;
    } else if (n < s->expect) {
        s->repeats++;
        return true;
    }
    s->expect = n + 1;
    if (!s->quiet && s->expect % TOLD_EVERY == 0)
        printf("at %" PRIu64 "\n", s->expect);
    if (s->expect >= s->end && !s->done) {
        s->done = true;
        if (--open_sinks == 0)
            dbx_loop_stop(loop, 0);
    }
    return true;
}

static void on_truncated(int64_t wanted, int64_t oldest, void *user)
{
    struct sink *s = user;
    s->skip = true;
    printf("truncated %" PRId64 " %" PRId64 "\n", wanted, oldest);
}

static void on_live(int64_t next, void *user)
{
    struct sink *s = user;
    if (!s->quiet)
        printf("live %" PRId64 "\n", next);
}

static void on_error(const struct dbx_err *err, void *user)
{
    (void)user;
    fail("reader", err);
}

static const struct dbx_olog_reader_handlers handlers = {on_entry, on_truncated, on_live, on_error};

static int cmd_read(const char *url, char **a)
{
    open_log(url, false);
    struct dbx_id key = key_of(number(a[0], UINT64_MAX));
    struct sink s = {.end = number(a[2], UINT32_MAX)};
    open_sinks = 1;
    printf("reading\n");
    s.reader =
        dbx_olog_follow(olog, &key, (int64_t)number(a[1], (uint64_t)INT64_MAX), &handlers, &s);
    int r = dbx_loop_run(loop);
    dbx_olog_reader_free(s.reader);
    printf("read %" PRIu64 " repeats %" PRIu64 " holes %" PRIu64 " rss_kb %ld\n", s.expect,
           s.repeats, s.holes, rss_kb());
    return r == 0 && s.holes == 0 ? 0 : 1;
}

static bool on_dumped(const struct dbx_olog_entry *e, void *user)
{
    char *hex = dbx_malloc(2 * e->len + 1);
    (void)user;
    dbx_hex_encode(e->value, e->len, hex);
    printf("entry %s\n", hex);
    free(hex);
    return true;
}

static void on_dump_end(int64_t next, void *user)
{
    (void)next, (void)user;
    dbx_loop_stop(loop, 0);
}

static int cmd_dump(const char *url, char **a)
{
    static const struct dbx_olog_reader_handlers dump = {
        .on_entry = on_dumped, .on_live = on_dump_end, .on_error = on_error};
    struct dbx_id key;
    if (dbx_id_parse(a[0], &key) < 0)
        fail("not an id", NULL);
    open_log(url, false);
    struct dbx_olog_reader *r = dbx_olog_follow(olog, &key, 0, &dump, NULL);
    int code = dbx_loop_run(loop);
    dbx_olog_reader_free(r);
    return code;
}

static void on_stdin(void *user, int events, int error)
{
    struct sink *s = user;
    char c;
    (void)events, (void)error;
    if (read(STDIN_FILENO, &c, 1) <= 0)
        fail("nobody lets go", NULL);
    if (c != '\n')
        return;
    s->hold_at = 0;
    dbx_olog_resume(s->reader);
}

static int cmd_hold(const char *url, char **a)
{
    struct dbx_id key = key_of(number(a[0], UINT64_MAX));
    struct sink s = {.hold_at = number(a[1], UINT32_MAX), .end = number(a[2], UINT32_MAX)};
    open_log(url, false);
    open_sinks = 1;
    struct dbx_watch *line = dbx_watch_new(loop, STDIN_FILENO, DBX_READ, on_stdin, &s);
    s.reader = dbx_olog_follow(olog, &key, 0, &handlers, &s);
    int r = dbx_loop_run(loop);
    dbx_olog_reader_free(s.reader);
    dbx_watch_free(line);
    printf("read %" PRIu64 " repeats %" PRIu64 " holes %" PRIu64 "\n", s.expect, s.repeats,
           s.holes);
    return r == 0 && s.holes == 0 ? 0 : 1;
}

static int cmd_crowd(const char *url, char **a)
{
    static struct sink s[MAX_READERS];
    uint64_t readers = number(a[0], MAX_READERS), keys = number(a[1], MAX_READERS), holes = 0;
    uint64_t begin = 0;
    open_log(url, false);
    begin = dbx_now_ms();
    open_sinks = readers;
    for (uint64_t i = 0; i < readers; i++) {
        struct dbx_id key = key_of(i % keys);
        s[i] = (struct sink){.end = number(a[2], UINT32_MAX), .quiet = true};
        s[i].reader = dbx_olog_follow(olog, &key, 0, &handlers, &s[i]);
    }
    int r = dbx_loop_run(loop);
    for (uint64_t i = 0; i < readers; i++) {
        holes += s[i].holes;
        dbx_olog_reader_free(s[i].reader);
    }
    printf("crowd %" PRIu64 " ms %" PRIu64 " holes %" PRIu64 " rss_kb %ld\n", readers,
           dbx_now_ms() - begin, holes, rss_kb());
    return r == 0 && holes == 0 ? 0 : 1;
}

static int cmd_bounds(const char *url, char **a)
{
    struct dbx_id key = key_of(number(a[0], UINT64_MAX));
    struct dbx_err err = {0};
    int64_t oldest, next;
    open_log(url, false);
    if (dbx_olog_bounds(olog, dbx_olog_partition(&key), &oldest, &next, &err) < 0)
        fail("bounds", &err);
    printf("oldest %" PRId64 " next %" PRId64 " partition %u\n", oldest, next,
           dbx_olog_partition(&key));
    return 0;
}

/* --- latency --- */

static struct {
    struct dbx_id key;
    struct dbx_olog_reader *reader;
    struct dbx_timer *pause;
    uint64_t rounds, done, start_us, us[MAX_ROUNDS];
    bool fresh; /* a new reader each round; otherwise one that is live */
    int64_t last;
} lat;

static int by_size(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return x < y ? -1 : x > y;
}

static bool on_timed(const struct dbx_olog_entry *e, void *user);
static const struct dbx_olog_reader_handlers timed = {on_timed, on_truncated, NULL, on_error};

static uint64_t now_us(void)
{
    return (uint64_t)dbx_wall_us();
}

static void on_pause(void *user)
{
    (void)user;
    lat.start_us = now_us();
    if (lat.fresh) {
        struct dbx_id key = key_of(lat.done % 40);
        lat.reader = dbx_olog_follow(olog, &key, 0, &timed, NULL);
    } else {
        (void)dbx_olog_append(olog, &lat.key, &lat.start_us, sizeof(lat.start_us), filler, 100,
                              NULL, NULL);
    }
}

static bool on_timed(const struct dbx_olog_entry *e, void *user)
{
    (void)e, (void)user;
    if (!lat.start_us)
        return true;
    lat.us[lat.done++] = now_us() - lat.start_us;
    lat.start_us = 0;
    if (lat.fresh)
        lat.reader = dbx_olog_reader_free(lat.reader);
    if (lat.done == lat.rounds)
        dbx_loop_stop(loop, 0);
    else
        dbx_timer_start(lat.pause, 1 + lat.done % 7, 0);
    return true;
}

static void latencies(const char *name, uint64_t rounds)
{
    lat.rounds = rounds;
    lat.done = lat.start_us = 0;
    dbx_timer_start(lat.pause, 1000, 0); /* everybody is warm and live by then */
    dbx_loop_run(loop);
    qsort(lat.us, rounds, sizeof(lat.us[0]), by_size);
    printf("%s p50_us %" PRIu64 " p99_us %" PRIu64 " max_us %" PRIu64 "\n", name,
           lat.us[rounds / 2], lat.us[rounds * 99 / 100], lat.us[rounds - 1]);
}

/* The same first entry by the bare consumer, without the kick, while it waits for another
 * partition. */
static struct {
    struct dbx_kafka_consumer *c;
    int partition, busy; /* busy: the one that is followed all the time */
} bare;

static void bare_next(void *user)
{
    (void)user;
    bare.partition = (bare.busy + 1 + (int)lat.done) % DBX_LOG_PARTITIONS;
    lat.start_us = now_us();
    if (dbx_kafka_assign(bare.c, 0, bare.partition, 0, NULL) < 0)
        fail("assign", NULL);
}

static void bare_heard(size_t topic, int partition)
{
    (void)topic;
    if (partition != bare.partition || !lat.start_us)
        return;
    lat.us[lat.done++] = now_us() - lat.start_us;
    lat.start_us = 0;
    dbx_kafka_drop(bare.c, 0, partition);
    if (lat.done == lat.rounds)
        dbx_loop_stop(loop, 0);
    else
        dbx_timer_start(lat.pause, 30, 0);
}

static void on_bare_message(const struct dbx_kafka_message *m, void *user)
{
    (void)user;
    bare_heard(m->topic, m->partition);
}

static void on_bare_eof(size_t topic, int partition, int64_t offset, void *user)
{
    (void)offset, (void)user;
    bare_heard(topic, partition);
}

static void unkicked(const char *url, uint64_t rounds)
{
    const char *q = strchr(url, '?');
    if (!dbx_starts_with(url, "kafka:") || !q || !dbx_starts_with(q, "?topic="))
        return;
    static const struct dbx_kafka_handlers h = {.on_message = on_bare_message,
                                                .on_eof = on_bare_eof};
    const char *topics[] = {q + 7};
    char *brokers = dbx_strndup(url + 6, (size_t)(q - url - 6));
    struct dbx_kafka_opts o = {.loop = loop, .brokers = brokers};
    bare.c = dbx_kafka_consumer_new(&o, topics, 1, 500, &h, NULL, NULL);
    bare.busy = (int)dbx_olog_partition(&lat.key);
    bare.partition = -1;
    if (!bare.c || dbx_kafka_assign(bare.c, 0, bare.busy, DBX_KAFKA_END, NULL) < 0)
        fail("consumer", NULL);
    dbx_timer_free(lat.pause);
    lat.pause = dbx_timer_new(loop, bare_next, NULL);
    latencies("first_without_kick", rounds);
    dbx_kafka_consumer_free(bare.c);
    free(brokers);
}

static int cmd_latency(const char *url, char **a)
{
    uint64_t rounds = number(a[0], MAX_ROUNDS);
    open_log(url, false);
    lat.pause = dbx_timer_new(loop, on_pause, NULL);
    lat.key = key_of(1000);
    for (uint64_t i = 0; i < 40; i++) { /* something to be found in 40 partitions or so */
        struct dbx_id key = key_of(i);
        (void)dbx_olog_append(olog, &key, &i, sizeof(i), filler, 100, NULL, NULL);
    }
    lat.reader = dbx_olog_follow(olog, &lat.key, 0, &timed, NULL);
    latencies("live", rounds);
    lat.fresh = true;
    struct dbx_olog_reader *stays = lat.reader; /* keeps a fetch waiting at the broker */
    latencies("first", rounds / 4);
    dbx_olog_reader_free(stays);
    unkicked(url, rounds / 40);
    dbx_timer_free(lat.pause);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int nargs;
        int (*fn)(const char *url, char **args);
    } commands[] = {{"write", 4, cmd_write}, {"read", 3, cmd_read},       {"hold", 3, cmd_hold},
                    {"crowd", 3, cmd_crowd}, {"latency", 1, cmd_latency}, {"bounds", 1, cmd_bounds},
                    {"dump", 1, cmd_dump}};
    setvbuf(stdout, NULL, _IOLBF, 0);
    loop = dbx_loop_new();
    for (size_t i = 0; argc > 2 && i < DBX_ARRAY_LEN(commands); i++) {
        if (strcmp(argv[2], commands[i].name) != 0 || argc != 3 + commands[i].nargs)
            continue;
        int r = commands[i].fn(argv[1], argv + 3);
        olog = dbx_olog_close(olog);
        loop = dbx_loop_free(loop);
        return r;
    }
    fprintf(stderr, "usage: olog_tool URL write|read|hold|crowd|latency|bounds|dump ...\n");
    return 2;
}
