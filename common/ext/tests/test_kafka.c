/* SPDX-License-Identifier: Apache-2.0 */
/* Producer and consumer on librdkafka's mock cluster: what a real broker does not do on demand. The
 * real one is in tests/system/test_output_log.py. */
#include "common/ext/kafka.h"

#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/rand.h"
#include "common/ext/kafka_int.h"
#include "common/io/loop.h"
#include "tests/unit/check.h"

#define PARTITIONS 4
#define API_PRODUCE 0

static const char *const topics[] = {"numbers"};
static struct dbx_loop *loop;
static struct dbx_kafka_opts opts;
static rd_kafka_t *mock_owner;
static rd_kafka_mock_cluster_t *mock;

static void begin(void)
{
    char text[200];
    loop = dbx_loop_new();
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    (void)rd_kafka_conf_set(conf, "log_level", "0", text, sizeof(text));
    mock_owner = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
    CHECK(mock_owner != NULL);
    mock = rd_kafka_mock_cluster_new(mock_owner, 1);
    CHECK_EQ(rd_kafka_mock_topic_create(mock, topics[0], PARTITIONS, 1), 0);
    opts = (struct dbx_kafka_opts){.loop = loop, .brokers = rd_kafka_mock_cluster_bootstraps(mock)};
}

static void end(void)
{
    rd_kafka_mock_cluster_destroy(mock);
    rd_kafka_destroy(mock_owner);
    loop = dbx_loop_free(loop);
}

static void on_deadline(void *user)
{
    (void)user;
    dbx_loop_stop(loop, 99);
}

static void run(void)
{
    struct dbx_timer *t = dbx_timer_new(loop, on_deadline, NULL);
    dbx_timer_start(t, 60000, 0);
    CHECK_EQ(dbx_loop_run(loop), 0);
    dbx_timer_free(t);
}

/* --- producing numbers --- */

static struct {
    struct dbx_kafka_producer *p;
    unsigned next[PARTITIONS], acked[PARTITIONS], want; /* want: acks in all */
    unsigned total, failed, rooms;
    int code; /* of the last failure */
} w;

static void on_delivered(int64_t offset, const struct dbx_err *err, void *user)
{
    unsigned n = (unsigned)(uintptr_t)user / PARTITIONS,
             part = (unsigned)(uintptr_t)user % PARTITIONS;
    CHECK(err || offset >= 0);
    CHECK_EQ(n, w.acked[part]); /* in order, once */
    w.acked[part]++;
    if (err) {
        w.failed++;
        w.code = err->code;
    }
    if (++w.total == w.want)
        dbx_loop_stop(loop, 0);
}

static void on_room(void *user)
{
    (void)user;
    w.rooms++;
}

static void run_ms(uint64_t ms)
{
    struct dbx_timer *t = dbx_timer_new(loop, on_deadline, NULL);
    dbx_timer_start(t, ms, 0);
    dbx_loop_run(loop);
    dbx_timer_free(t);
}

static void produce_one(unsigned part)
{
    int code = -EAGAIN;
    unsigned n = w.next[part]++;
    void *user = (void *)(uintptr_t)(n * PARTITIONS + part);
    for (int i = 0; i < 1000 && code == -EAGAIN; i++) { /* while a client is being replaced */
        code = dbx_kafka_produce(w.p, 0, (int)part, "key", 3, &n, sizeof(n), "tail", 4,
                                 on_delivered, user);
        if (code == -EAGAIN)
            run_ms(5);
    }
    CHECK_EQ(code, 0);
}

static void produce(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        produce_one(i % PARTITIONS);
}

static void open_producer(void)
{
    struct dbx_err err = {0};
    memset(&w, 0, sizeof(w));
    w.p = dbx_kafka_producer_new(&opts, topics, 1, on_room, NULL, &err);
    CHECK(w.p != NULL);
}

static void wait_for(unsigned total)
{
    w.want = total;
    if (w.total < total)
        run();
}

/* --- reading them --- */

static struct {
    struct dbx_kafka_consumer *c;
    unsigned expect[PARTITIONS], repeats, holes, eofs, out_of_range;
    int64_t first_wanted, first_got; /* per assignment */
    unsigned got;
} r;

static void on_message(const struct dbx_kafka_message *m, void *user)
{
    unsigned n;
    (void)user;
    CHECK_EQ(m->len, sizeof(n) + 4);
    CHECK_EQ(m->key_len, 3);
    memcpy(&n, m->value, sizeof(n));
    r.holes += n > r.expect[m->partition];
    r.repeats += n < r.expect[m->partition];
    if (n == r.expect[m->partition])
        r.expect[m->partition]++;
    if (r.got++ == 0) {
        r.first_got = m->offset;
        if (r.first_wanted >= 0)
            dbx_loop_stop(loop, 0);
    }
}

static void on_eof(size_t topic, int partition, int64_t offset, void *user)
{
    (void)topic, (void)partition, (void)offset, (void)user;
    if (++r.eofs == PARTITIONS && r.first_wanted < 0)
        dbx_loop_stop(loop, 0);
}

static void on_out_of_range(size_t topic, int partition, void *user)
{
    (void)topic, (void)partition, (void)user;
    r.out_of_range++;
    dbx_loop_stop(loop, 0);
}

static const struct dbx_kafka_handlers handlers = {on_message, on_eof, on_out_of_range, NULL};

static void open_consumer(void)
{
    memset(&r, 0, sizeof(r));
    r.first_wanted = -1;
    r.c = dbx_kafka_consumer_new(&opts, topics, 1, 10, &handlers, NULL, NULL);
    CHECK(r.c != NULL);
}

static void read_all(void)
{
    open_consumer();
    for (int i = 0; i < PARTITIONS; i++)
        CHECK_EQ(dbx_kafka_assign(r.c, 0, i, 0, NULL), 0);
    run();
    CHECK_EQ(r.holes, 0);
    for (int i = 0; i < PARTITIONS; i++)
        CHECK_EQ(r.expect[i], w.next[i]);
    r.c = dbx_kafka_consumer_free(r.c);
}

/* --- tests --- */

/* The library gives up with messages under way and waiting: another client takes over, in order. */
static void test_fatal(void)
{
    char before[64] = ""; /* the name, with a number of its own, of the client that gave up */
    open_producer();
    for (int round = 0; round < 4; round++) {
        produce(400);
        rd_kafka_t *now = dbx_kafka__producer_client(w.p);
        CHECK(strcmp(rd_kafka_name(now), before) != 0);
        snprintf(before, sizeof(before), "%s", rd_kafka_name(now));
        if (round % 2) /* some are on their way, some answered */
            wait_for(w.total + 50);
        rd_kafka_test_fatal_error(now, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "test");
        wait_for(400 * (unsigned)(round + 1));
        CHECK_EQ(w.failed, 0);
    }
    for (int i = 0; i < PARTITIONS; i++)
        CHECK_EQ(w.acked[i], w.next[i]);
    dbx_kafka_producer_free(w.p);
    read_all();
}

static void test_refused(void)
{
    open_producer();
    rd_kafka_mock_push_request_errors(mock, API_PRODUCE, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    produce(1);
    wait_for(1);
    CHECK_EQ(w.failed, 1);
    CHECK_EQ(w.code, -EMSGSIZE);
    static char huge[5 << 20];
    CHECK_EQ(dbx_kafka_produce(w.p, 0, 0, "k", 1, huge, sizeof(huge), NULL, 0, NULL, NULL),
             -EMSGSIZE);
    dbx_kafka_producer_free(w.p);
}

/* An error that is neither passing, as the library sees it, nor final, as we do: produced again. */
static void test_given_back(void)
{
    open_producer();
    rd_kafka_mock_push_request_errors(mock, API_PRODUCE, 2, RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS,
                                      RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS);
    produce(100);
    wait_for(100);
    CHECK_EQ(w.failed, 0);
    dbx_kafka_producer_free(w.p);
}

static void test_close_in_flight(void)
{
    open_producer();
    rd_kafka_mock_broker_set_down(mock, 1);
    produce(100);
    dbx_kafka_producer_free(w.p);
    CHECK_EQ(w.total, 100);
    CHECK_EQ(w.failed, 100);
    CHECK_EQ(w.code, -ECANCELED);
}

static void test_full(void)
{
    static char data[60000];
    unsigned taken = 0;
    open_producer();
    rd_kafka_mock_broker_set_down(mock, 1);
    while (dbx_kafka_produce(w.p, 0, 0, "k", 1, data, sizeof(data), NULL, 0, NULL, NULL) == 0)
        taken++;
    CHECK(taken > 1000 && taken < 1200); /* 64 MiB */
    rd_kafka_mock_broker_set_up(mock, 1);
    while (w.rooms == 0 ||
           dbx_kafka_produce(w.p, 0, 0, "k", 1, data, 10, NULL, 0, NULL, NULL) < 0) {
        run_ms(10);
    }
    dbx_kafka_producer_free(w.p);
}

/* Moved about while messages are queued: the first to come is always the one that was asked for. */
static void test_moves(void)
{
    open_producer();
    produce(4000);
    wait_for(4000);
    dbx_kafka_producer_free(w.p);
    open_consumer();
    for (int i = 0; i < 300; i++) {
        uint32_t dice;
        dbx_random(&dice, sizeof(dice));
        int partition = (int)(dice % 2);
        r.first_wanted = dice / 2 % 900;
        r.got = 0;
        if (dice % 5 == 0)
            dbx_kafka_drop(r.c, 0, partition);
        CHECK_EQ(dbx_kafka_assign(r.c, 0, partition, r.first_wanted, NULL), 0);
        run();
        CHECK_EQ(r.first_got, r.first_wanted);
        dbx_kafka_drop(r.c, 0, partition);
    }
    CHECK_EQ(dbx_kafka_assign(r.c, 0, 3, 5000, NULL), 0);
    r.got = 0;
    run();
    CHECK_EQ(r.out_of_range, 1);
    dbx_kafka_consumer_free(r.c);
}

static void test_topics(void)
{
    struct dbx_err err = {0};
    struct dbx_kafka_topic topic = {.name = topics[0], .partitions = PARTITIONS};
    CHECK_EQ(dbx_kafka_ensure_topic(&opts, &topic, 5000, &err), 0);
    topic.partitions = 64;
    CHECK_EQ(dbx_kafka_ensure_topic(&opts, &topic, 5000, &err), -EINVAL);
    struct dbx_kafka_opts nobody = {.loop = loop, .brokers = "127.0.0.1:1"};
    CHECK_EQ(dbx_kafka_ensure_topic(&nobody, &topic, 100, &err), -ENOTCONN);
    CHECK(strstr(err.msg, "127.0.0.1:1") && strstr(err.msg, "refused"));
}

static void on_answer(void *user)
{
    (void)user;
    dbx_loop_stop(loop, 0);
}

static void test_offsets(void)
{
    int64_t oldest, next;
    open_producer();
    produce(40);
    wait_for(40);
    struct dbx_kafka_offsets *o =
        dbx_kafka_offsets_new(&opts, topics[0], PARTITIONS, 60000, on_answer, NULL, NULL);
    CHECK_EQ(dbx_kafka_offsets_get(o, 0, &oldest, &next), 0);
    CHECK_EQ(oldest, 0);
    CHECK_EQ(next, 10);
    produce(40);
    wait_for(80);
    uint64_t ticket = dbx_kafka_offsets_refresh(o);
    while (!dbx_kafka_offsets_heard(o, 0, ticket))
        run();
    CHECK_EQ(dbx_kafka_offsets_get(o, 0, &oldest, &next), 0);
    CHECK_EQ(next, 20);
    dbx_kafka_offsets_free(o);
    dbx_kafka_producer_free(w.p);
}

int main(void)
{
    void (*const tests[])(void) = {test_fatal, test_refused, test_given_back, test_close_in_flight,
                                   test_full,  test_moves,   test_topics,     test_offsets};
    for (size_t i = 0; i < DBX_ARRAY_LEN(tests); i++) {
        begin();
        tests[i]();
        end();
    }
    return check_result();
}
