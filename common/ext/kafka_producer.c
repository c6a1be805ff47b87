/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Producing. A message is lost in no case but the one where the cluster refuses it for good:
 * librdkafka keeps trying for as long as it takes (message.timeout.ms 0). Should its idempotent
 * producer give up as a whole (a "fatal" error; 2.0.2 can raise one after a persisted batch whose
 * answer was lost), the messages it held are taken back by purging, and given to a new producer in
 * the order they came in: some may then be in the log twice, which readers tell by the records' own
 * sequence numbers. So that a partition's messages are also reported in order, one that was
 * delivered while an earlier one of its partition was not is produced again behind that one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/list.h"
#include "common/ext/kafka_int.h"
#include "common/io/loop.h"

#define ROOM_MS 20    /* when nothing else told of room */
#define RESEND_MS 100 /* what was given back for a reason that may pass */
#define RENEW_MS 1000 /* between tries to make a new client */
#define BUDGET 512    /* delivery reports a turn */
#define CLOSE_MS 2000

struct job {
    struct dbx_list node; /* in flying or resend */
    uint64_t seq;         /* in the order of production */
    size_t topic;
    int partition;
    size_t key_len, len;
    dbx_kafka_delivered *fn;
    void *user;
    uint8_t bytes[]; /* key, value */
};

struct dbx_kafka_producer {
    struct dbx_kafka_opts opts;
    char *brokers, *properties, **topics;
    size_t ntopics;
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    rd_kafka_topic_t **handles;
    int wake;
    struct dbx_watch *watch;
    struct dbx_timer *timer;
    uint64_t timer_due; /* 0: not armed */
    void (*on_room)(void *user);
    void *user;
    uint64_t seq;
    struct dbx_list flying; /* jobs librdkafka holds */
    struct dbx_list resend; /* jobs it gave back; ascending by seq */
    bool refused;           /* somebody was told -EAGAIN */
    bool dying;             /* the library gave up; to be replaced when it holds no more jobs */
    bool drain_queued, closing;
    bool busy; /* in callbacks */
};

static void drain(void *user);

static int client_new(struct dbx_kafka_producer *p, struct dbx_err *err)
{
    static const char *const settings[][2] = {
        {"enable.idempotence", "true"},
        {"acks", "all"},
        {"linger.ms", "0"},
        {"queue.buffering.max.kbytes", "65536"},
        {"queue.buffering.max.messages", "100000"},
        {"message.timeout.ms", "0"},
        {"message.max.bytes", DBX_KAFKA__MAX_MESSAGE},
        {"retry.backoff.ms", "50"},
    };
    rd_kafka_conf_t *conf = NULL;
    int r = dbx_kafka__conf(&p->opts, &conf, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < DBX_ARRAY_LEN(settings) && r == 0; i++)
        r = dbx_kafka__set(conf, settings[i][0], settings[i][1], err);
    if (r < 0) {
        rd_kafka_conf_destroy(conf);
        return r;
    }
    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
    if ((r = dbx_kafka__new(RD_KAFKA_PRODUCER, conf, &p->rk, err)) < 0)
        return r;
    p->queue = rd_kafka_queue_get_main(p->rk);
    if ((p->wake = dbx_kafka__wake_fd(p->queue, err)) < 0)
        return p->wake;
    for (size_t i = 0; i < p->ntopics; i++) {
        const struct rd_kafka_metadata *md;
        p->handles[i] = rd_kafka_topic_new(p->rk, p->topics[i], NULL);
        /* A cold topic costs its first message a millisecond; harmless when it fails. */
        if (!p->dying &&
            rd_kafka_metadata(p->rk, 0, p->handles[i], &md, 1000) == RD_KAFKA_RESP_ERR_NO_ERROR)
            rd_kafka_metadata_destroy(md);
    }
    return 0;
}

static void client_free(struct dbx_kafka_producer *p)
{
    p->watch = dbx_watch_free(p->watch);
    for (size_t i = 0; i < p->ntopics; i++)
        if (p->handles[i]) {
            rd_kafka_topic_destroy(p->handles[i]);
            p->handles[i] = NULL;
        }
    if (p->queue)
        rd_kafka_queue_destroy(p->queue);
    if (p->rk)
        rd_kafka_destroy(p->rk);
    dbx_close(p->wake);
    p->wake = -1;
    p->rk = NULL;
    p->queue = NULL;
}

static void on_wake(void *user, int events, int error)
{
    struct dbx_kafka_producer *p = user;
    (void)events, (void)error;
    dbx_kafka__drain_fd(p->wake);
    drain(p);
}

/* Looks after what waits in at most ms from now. */
static void arm(struct dbx_kafka_producer *p, uint64_t ms)
{
    uint64_t due = dbx_now_ms() + ms;
    if (p->timer_due && p->timer_due <= due)
        return;
    p->timer_due = due;
    dbx_timer_start(p->timer, ms, 0);
}

static void on_timer(void *user);

struct dbx_kafka_producer *dbx_kafka_producer_new(const struct dbx_kafka_opts *opts,
                                                  const char *const *topics, size_t ntopics,
                                                  void (*on_room)(void *user), void *user,
                                                  struct dbx_err *err)
{
    struct dbx_kafka_producer *p = DBX_NEW(struct dbx_kafka_producer);
    p->brokers = dbx_strdup(opts->brokers);
    p->properties = opts->properties ? dbx_strdup(opts->properties) : NULL;
    p->opts = (struct dbx_kafka_opts){opts->loop, p->brokers, p->properties};
    p->topics = dbx_calloc(ntopics, sizeof(*p->topics));
    p->handles = dbx_calloc(ntopics, sizeof(*p->handles));
    p->ntopics = ntopics;
    for (size_t i = 0; i < ntopics; i++)
        p->topics[i] = dbx_strdup(topics[i]);
    p->on_room = on_room;
    p->user = user;
    p->wake = -1;
    dbx_list_init(&p->flying);
    dbx_list_init(&p->resend);
    p->timer = dbx_timer_new(opts->loop, on_timer, p);
    if (client_new(p, err) < 0)
        return dbx_kafka_producer_free(p);
    p->watch = dbx_watch_new(opts->loop, p->wake, DBX_READ, on_wake, p);
    return p;
}

static int hand_over(struct dbx_kafka_producer *p, struct job *j)
{
    int r = rd_kafka_produce(p->handles[j->topic], j->partition, 0, j->bytes + j->key_len, j->len,
                             j->bytes, j->key_len, j);
    if (r == 0)
        dbx_list_push(&p->flying, &j->node);
    else /* full, given up, or a partition that is not there while the cluster changes */
        r = rd_kafka_last_error() == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ? -EMSGSIZE : -EAGAIN;
    return r;
}

static void finish(struct job *j, int64_t offset, const struct dbx_err *err)
{
    if (j->fn)
        j->fn(offset, err, j->user);
    free(j);
}

int dbx_kafka_produce(struct dbx_kafka_producer *p, size_t topic, int partition, const void *key,
                      size_t key_len, const void *a, size_t alen, const void *b, size_t blen,
                      dbx_kafka_delivered *fn, void *user)
{
    int r = -EAGAIN;
    dbx_assert(topic < p->ntopics);
    if (p->closing)
        return -EAGAIN;
    if (!p->dying && dbx_list_empty(&p->resend)) {
        struct job *j = dbx_malloc(sizeof(*j) + key_len + alen + blen);
        *j = (struct job){.topic = topic,
                          .seq = p->seq,
                          .partition = partition,
                          .key_len = key_len,
                          .len = alen + blen,
                          .fn = fn,
                          .user = user};
        dbx_list_init(&j->node);
        memcpy(j->bytes, key, key_len);
        memcpy(j->bytes + key_len, a, alen);
        if (blen)
            memcpy(j->bytes + key_len + alen, b, blen);
        if ((r = hand_over(p, j)) == 0) {
            p->seq++;
            return 0;
        }
        free(j);
    }
    if (r == -EAGAIN) {
        p->refused = true;
        arm(p, ROOM_MS);
    }
    return r;
}

/* Refused for good, whoever asks again. */
static bool is_final(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
           code == RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE ||
           code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
           code == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED ||
           code == RD_KAFKA_RESP_ERR_INVALID_MSG;
}

/* Takes a job back, to its place in the line. */
static void take_back(struct dbx_kafka_producer *p, struct job *j)
{
    struct dbx_list *after = p->resend.prev;
    while (after != &p->resend && dbx_list_entry(after, struct job, node)->seq > j->seq)
        after = after->prev;
    dbx_list_push_front(after, &j->node);
}

/* An earlier one of the same partition is still to be produced. */
static bool overtook(const struct dbx_kafka_producer *p, const struct job *j)
{
    for (struct dbx_list *it = p->resend.next; it != &p->resend; it = it->next) {
        const struct job *e = dbx_list_entry(it, struct job, node);
        if (e->seq > j->seq)
            return false;
        if (e->topic == j->topic && e->partition == j->partition)
            return true;
    }
    return false;
}

static void on_report(struct dbx_kafka_producer *p, const rd_kafka_message_t *m)
{
    struct job *j = m->_private;
    struct dbx_err err = {0};
    dbx_list_remove(&j->node);
    if (!m->err && (p->closing || !overtook(p, j))) {
        finish(j, m->offset, NULL);
    } else if (is_final(m->err)) {
        dbx_kafka__err(&err, m->err, "append to Kafka");
        finish(j, -1, &err);
    } else {
        take_back(p, j);
        arm(p, p->dying ? 0 : RESEND_MS);
    }
}

static void resend(struct dbx_kafka_producer *p)
{
    for (struct job *j; (j = dbx_list_first(&p->resend, struct job, node));) {
        struct dbx_err err = {0};
        dbx_list_remove(&j->node);
        int r = hand_over(p, j);
        if (r == -EAGAIN) {
            dbx_list_push_front(&p->resend, &j->node);
            arm(p, RESEND_MS);
            return;
        }
        if (r < 0) {
            dbx_err_set(&err, r, DBX_LIMIT, "append to Kafka: the message is too large");
            finish(j, -1, &err);
        }
    }
}

/* The new client has the messages of the old one before anybody else may produce. */
static void replace_client(struct dbx_kafka_producer *p)
{
    struct dbx_err err = {0};
    client_free(p);
    if (client_new(p, &err) < 0) { /* its properties' file is gone for the moment, say */
        arm(p, RENEW_MS);
        return;
    }
    p->watch = dbx_watch_new(p->opts.loop, p->wake, DBX_READ, on_wake, p);
    p->dying = false;
}

static void on_timer(void *user)
{
    struct dbx_kafka_producer *p = user;
    p->timer_due = 0;
    p->busy = true;
    if (p->dying && dbx_list_empty(&p->flying))
        replace_client(p);
    if (!p->dying)
        resend(p);
    if (p->refused && !p->dying && dbx_list_empty(&p->resend)) {
        p->refused = false;
        p->on_room(p->user);
    }
    p->busy = false;
}

static void give_up(struct dbx_kafka_producer *p)
{
    char text[8];
    if (p->dying || p->closing || !rd_kafka_fatal_error(p->rk, text, sizeof(text)))
        return;
    p->dying = true;
    rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    arm(p, 0);
}

static void drain(void *user)
{
    struct dbx_kafka_producer *p = user;
    int budget = BUDGET;
    p->drain_queued = false;
    if (!p->rk)
        return;
    p->busy = true;
    for (rd_kafka_event_t *ev; budget > 0 && (ev = rd_kafka_queue_poll(p->queue, 0));
         rd_kafka_event_destroy(ev)) {
        const rd_kafka_message_t *m;
        while (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_DR &&
               (m = rd_kafka_event_message_next(ev))) {
            on_report(p, m);
            budget--;
        }
        if (rd_kafka_event_type(ev) == RD_KAFKA_EVENT_ERROR)
            give_up(p);
    }
    p->busy = false;
    if (p->closing)
        return;
    if (budget <= 0 && !p->drain_queued) {
        p->drain_queued = true;
        dbx_loop_defer(p->opts.loop, drain, p);
    }
    bool replaceable = p->dying && p->rk && dbx_list_empty(&p->flying);
    bool room = p->refused && !p->dying && budget < BUDGET && dbx_list_empty(&p->resend);
    if (replaceable || room)
        arm(p, 0);
}

/* What is in flight has CLOSE_MS to arrive, then it is given up. */
static void settle(struct dbx_kafka_producer *p)
{
    uint64_t deadline = dbx_now_ms() + CLOSE_MS;
    while (!dbx_list_empty(&p->flying) && dbx_now_ms() < deadline) {
        (void)rd_kafka_flush(p->rk, 10);
        drain(p);
    }
    rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    for (int i = 0; i < 20 && !dbx_list_empty(&p->flying); i++) {
        (void)rd_kafka_flush(p->rk, 10);
        drain(p);
    }
}

struct dbx_kafka_producer *dbx_kafka_producer_free(struct dbx_kafka_producer *p)
{
    if (!p)
        return NULL;
    dbx_assert(!p->busy);
    p->closing = true;
    dbx_loop_undefer(p->opts.loop, drain, p);
    p->timer = dbx_timer_free(p->timer);
    p->timer_due = 1; /* arm is a no-op from here on */
    if (p->rk)
        settle(p);
    client_free(p);
    for (struct job *j; (j = dbx_list_first(&p->flying, struct job, node));) {
        dbx_list_remove(&j->node);
        take_back(p, j);
    }
    for (struct job *j; (j = dbx_list_first(&p->resend, struct job, node));) {
        struct dbx_err err = {0};
        dbx_list_remove(&j->node);
        dbx_err_set(&err, -ECANCELED, DBX_UNAVAIL, "the Kafka client was closed");
        finish(j, -1, &err);
    }
    for (size_t i = 0; i < p->ntopics; i++)
        free(p->topics[i]);
    free(p->topics);
    free(p->handles);
    free(p->brokers);
    free(p->properties);
    free(p);
    return NULL;
}

rd_kafka_t *dbx_kafka__producer_client(struct dbx_kafka_producer *p)
{
    return p->rk;
}
