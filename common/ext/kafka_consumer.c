/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Consuming by explicit assignment, no groups. What was fetched for a partition before it was
 * dropped or moved may still be queued in the library: each assignment remembers the offset it
 * wants next, and what does not fit it is not delivered.
 *
 * librdkafka 2.0.2 stops fetching when more than its queued.* limits wait for us, and looks again
 * only when something else wakes the broker's thread, or after a second. A fetch of another
 * partition that returns does wake it. on_starved says when it is time for that: the queue is
 * empty, and had been so long without being empty that a limit may have been reached.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fd.h"
#include "common/base/map.h"
#include "common/ext/kafka_int.h"
#include "common/io/loop.h"

#define BUDGET 256
#define STARVED_MESSAGES 10000u /* half of what the library stops at */
#define STARVED_BYTES (8u << 20)

struct spot {
    uint32_t topic;
    int32_t partition;
};

struct assignment {
    struct spot spot;
    int64_t next; /* lowest offset that is still wanted; DBX_KAFKA_END: any */
};

struct dbx_kafka_consumer {
    struct dbx_loop *loop;
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    int wake;
    struct dbx_watch *watch;
    struct dbx_timer *tick;
    char **topics;
    size_t ntopics;
    struct dbx_map *assigned; /* spot -> assignment */
    struct dbx_kafka_handlers h;
    void *user;
    bool drain_queued, in_drain, freed;
    size_t messages, bytes; /* since the queue was empty */
};

static void drain(void *user);

static void on_wake(void *user, int events, int error)
{
    struct dbx_kafka_consumer *c = user;
    (void)events, (void)error;
    dbx_kafka__drain_fd(c->wake);
    drain(c);
}

static int client_new(struct dbx_kafka_consumer *c, const struct dbx_kafka_opts *opts,
                      uint32_t wait_ms, struct dbx_err *err)
{
    static const char *const settings[][2] = {
        {"group.id", "devbox-unused"},           {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},   {"auto.offset.reset", "error"},
        {"enable.partition.eof", "true"},        {"fetch.error.backoff.ms", "50"},
        {"queued.max.messages.kbytes", "16384"}, {"queued.min.messages", "20000"},
        {"fetch.message.max.bytes", "1048576"},  {"fetch.max.bytes", "8388608"},
    };
    char wait[16];
    rd_kafka_conf_t *conf = NULL;
    int r = dbx_kafka__conf(opts, &conf, err);
    if (r < 0)
        return r;
    snprintf(wait, sizeof(wait), "%u", wait_ms);
    r = dbx_kafka__set(conf, "fetch.wait.max.ms", wait, err);
    for (size_t i = 0; i < DBX_ARRAY_LEN(settings) && r == 0; i++)
        r = dbx_kafka__set(conf, settings[i][0], settings[i][1], err);
    if (r < 0) {
        rd_kafka_conf_destroy(conf);
        return r;
    }
    if ((r = dbx_kafka__new(RD_KAFKA_CONSUMER, conf, &c->rk, err)) < 0)
        return r;
    rd_kafka_poll_set_consumer(c->rk);
    c->queue = rd_kafka_queue_get_consumer(c->rk);
    c->wake = dbx_kafka__wake_fd(c->queue, err);
    if (c->wake < 0)
        return c->wake;
    for (size_t i = 0; i < c->ntopics;
         i++) { /* a topic not known at the first assignment costs it up to a second */
        const struct rd_kafka_metadata *md;
        rd_kafka_topic_t *t = rd_kafka_topic_new(c->rk, c->topics[i], NULL);
        if (rd_kafka_metadata(c->rk, 0, t, &md, 1000) == RD_KAFKA_RESP_ERR_NO_ERROR)
            rd_kafka_metadata_destroy(md);
        rd_kafka_topic_destroy(t);
    }
    return 0;
}

struct dbx_kafka_consumer *dbx_kafka_consumer_new(const struct dbx_kafka_opts *opts,
                                                  const char *const *topics, size_t ntopics,
                                                  uint32_t wait_ms,
                                                  const struct dbx_kafka_handlers *h, void *user,
                                                  struct dbx_err *err)
{
    struct dbx_kafka_consumer *c = DBX_NEW(struct dbx_kafka_consumer);
    c->loop = opts->loop;
    c->wake = -1;
    c->h = *h;
    c->user = user;
    c->topics = dbx_calloc(ntopics, sizeof(*c->topics));
    c->ntopics = ntopics;
    for (size_t i = 0; i < ntopics; i++)
        c->topics[i] = dbx_strdup(topics[i]);
    c->assigned = dbx_map_new();
    if (client_new(c, opts, wait_ms, err) < 0)
        return dbx_kafka_consumer_free(c);
    c->watch = dbx_watch_new(opts->loop, c->wake, DBX_READ, on_wake, c);
    c->tick = dbx_timer_new(opts->loop, drain, c); /* librdkafka wants to be polled now and then */
    dbx_timer_start(c->tick, 2000, 2000);
    return c;
}

static void free_now(struct dbx_kafka_consumer *c)
{
    struct dbx_map_iter it = {0};
    dbx_loop_undefer(c->loop, drain, c);
    dbx_timer_free(c->tick);
    dbx_watch_free(c->watch);
    if (c->queue)
        rd_kafka_queue_destroy(c->queue);
    if (c->rk)
        rd_kafka_destroy_flags(c->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    dbx_close(c->wake);
    while (dbx_map_next(c->assigned, &it))
        free(it.value);
    dbx_map_free(c->assigned);
    for (size_t i = 0; i < c->ntopics; i++)
        free(c->topics[i]);
    free(c->topics);
    free(c);
}

struct dbx_kafka_consumer *dbx_kafka_consumer_free(struct dbx_kafka_consumer *c)
{
    if (c && c->in_drain)
        c->freed = true;
    else if (c)
        free_now(c);
    return NULL;
}

static struct assignment *find(struct dbx_kafka_consumer *c, size_t topic, int partition)
{
    struct spot s = {(uint32_t)topic, partition};
    return dbx_map_get(c->assigned, &s, sizeof(s));
}

static int change(struct dbx_kafka_consumer *c, size_t topic, int partition, int64_t offset,
                  bool add, struct dbx_err *err)
{
    rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(l, c->topics[topic], partition)->offset =
        offset == DBX_KAFKA_END ? RD_KAFKA_OFFSET_END : offset;
    rd_kafka_error_t *e =
        add ? rd_kafka_incremental_assign(c->rk, l) : rd_kafka_incremental_unassign(c->rk, l);
    rd_kafka_topic_partition_list_destroy(l);
    if (!e)
        return 0;
    int r = dbx_kafka__err(err, rd_kafka_error_code(e), "assign a Kafka partition");
    rd_kafka_error_destroy(e);
    return r;
}

int dbx_kafka_assign(struct dbx_kafka_consumer *c, size_t topic, int partition, int64_t offset,
                     struct dbx_err *err)
{
    dbx_assert(topic < c->ntopics);
    dbx_kafka_drop(c, topic, partition);
    int r = change(c, topic, partition, offset, true, err);
    if (r < 0)
        return r;
    struct assignment *a = DBX_NEW(struct assignment);
    a->spot = (struct spot){(uint32_t)topic, partition};
    a->next = offset;
    dbx_map_put(c->assigned, &a->spot, sizeof(a->spot), a);
    return 0;
}

void dbx_kafka_drop(struct dbx_kafka_consumer *c, size_t topic, int partition)
{
    struct spot s = {(uint32_t)topic, partition};
    struct assignment *a = dbx_map_del(c->assigned, &s, sizeof(s));
    if (a)
        (void)change(c, topic, partition, 0, false, NULL);
    free(a);
}

static size_t topic_index(const struct dbx_kafka_consumer *c, const rd_kafka_message_t *m)
{
    const char *name = m->rkt ? rd_kafka_topic_name(m->rkt) : "";
    size_t i = 0;
    while (i < c->ntopics && strcmp(c->topics[i], name) != 0)
        i++;
    return i;
}

static void on_message(struct dbx_kafka_consumer *c, const rd_kafka_message_t *m)
{
    size_t topic = topic_index(c, m);
    struct assignment *a = topic < c->ntopics ? find(c, topic, m->partition) : NULL;
    if (!a)
        return;
    switch (m->err) {
    case RD_KAFKA_RESP_ERR_NO_ERROR: {
        if (a->next != DBX_KAFKA_END && m->offset < a->next)
            return;
        a->next = m->offset + 1;
        c->messages++;
        c->bytes += m->len;
        struct dbx_kafka_message msg = {topic,      m->partition, m->offset, m->key,
                                        m->payload, m->key_len,   m->len};
        c->h.on_message(&msg, c->user);
        return;
    }
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        if ((a->next == DBX_KAFKA_END || m->offset >= a->next) && c->h.on_eof)
            c->h.on_eof(topic, m->partition, m->offset, c->user);
        return;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
        dbx_kafka_drop(c, topic, m->partition);
        c->h.on_out_of_range(topic, m->partition, c->user);
        return;
    default: /* the library goes on by itself: a broker that is away, a leader that moved */
        return;
    }
}

static void drain(void *user)
{
    struct dbx_kafka_consumer *c = user;
    int budget = BUDGET;
    c->drain_queued = false;
    c->in_drain = true;
    for (rd_kafka_message_t *m; !c->freed && budget > 0 && (m = rd_kafka_consumer_poll(c->rk, 0));
         budget--) {
        on_message(c, m);
        rd_kafka_message_destroy(m);
    }
    if (budget > 0) {
        bool starved = c->messages > STARVED_MESSAGES || c->bytes > STARVED_BYTES;
        c->messages = c->bytes = 0;
        if (starved && !c->freed && c->h.on_starved)
            c->h.on_starved(c->user);
    }
    c->in_drain = false;
    if (c->freed) {
        free_now(c);
    } else if (budget == 0 && !c->drain_queued) {
        c->drain_queued = true;
        dbx_loop_defer(c->loop, drain, c);
    }
}
