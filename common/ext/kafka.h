/* SPDX-License-Identifier: Apache-2.0 */
/* Apache Kafka through librdkafka, whose own threads only wake our loop by an eventfd: every
 * callback here runs on the loop's thread. Settings for low latency and no loss: acks=all,
 * idempotence, linger 0, a send queue of 64 MiB. */
#pragma once

#include "common/base/err.h"

struct dbx_loop;
struct dbx_kafka_producer;
struct dbx_kafka_consumer;
struct dbx_kafka_offsets;

struct dbx_kafka_opts {
    struct dbx_loop *loop;
    const char *brokers; /* "host:port,host:port" */
    const char
        *properties; /* file of librdkafka properties, "name = value" a line (SASL, TLS); or NULL */
};

struct dbx_kafka_topic {
    const char *name;
    int partitions;
    int replication;       /* 0: the cluster's default */
    uint64_t retention_ms; /* 0: the cluster's default */
};
/* Blocking, for start-up: creates the topic unless it is there (then it stays as it is), waits at
 * most about wait_ms for the cluster, checks that it has the partitions. -EACCES at once when the
 * cluster refuses the credentials. */
int dbx_kafka_ensure_topic(const struct dbx_kafka_opts *opts, const struct dbx_kafka_topic *topic,
                           uint32_t wait_ms, struct dbx_err *err) DBX_MUST_USE;

/* err NULL: every in-sync replica has it, at offset. err not NULL: it never will (too large, not
 * allowed). A broker that is away is neither: the message waits. Once for each message, in order
 * within a partition, never before produce returned. */
typedef void dbx_kafka_delivered(int64_t offset, const struct dbx_err *err, void *user);

struct dbx_kafka_producer *dbx_kafka_producer_new(const struct dbx_kafka_opts *opts,
                                                  const char *const *topics, size_t ntopics,
                                                  void (*on_room)(void *user), void *user,
                                                  struct dbx_err *err);
/* Calls back what is in flight with -ECANCELED after waiting at most 2 s for it. Not to be called
 * in the producer's own callbacks. */
struct dbx_kafka_producer *dbx_kafka_producer_free(struct dbx_kafka_producer *p);
/* The value in two pieces, copied. topic: index into the topics given to _new. -EAGAIN: the queue
 * is full; on_room tells. -EMSGSIZE: larger than any message may be. */
int dbx_kafka_produce(struct dbx_kafka_producer *p, size_t topic, int partition, const void *key,
                      size_t key_len, const void *a, size_t alen, const void *b, size_t blen,
                      dbx_kafka_delivered *fn, void *user);

struct dbx_kafka_message {
    size_t topic; /* index */
    int partition;
    int64_t offset;
    const void *key, *value; /* valid during the call */
    size_t key_len, len;
};
struct dbx_kafka_handlers {
    void (*on_message)(const struct dbx_kafka_message *m, void *user);
    void (*on_eof)(size_t topic, int partition, int64_t offset,
                   void *user); /* caught up; offset: the next to come */
    /* The wanted offset is not there (retention, or beyond the end): the partition is not read any
     * more. */
    void (*on_out_of_range)(size_t topic, int partition, void *user);
    /* All that had been fetched was given, and it was so much that the library may have stopped
     * fetching: see the head of kafka_consumer.c. May be NULL. */
    void (*on_starved)(void *user);
};
/* wait_ms: how long the broker may hold a fetch that finds nothing. */
struct dbx_kafka_consumer *dbx_kafka_consumer_new(const struct dbx_kafka_opts *opts,
                                                  const char *const *topics, size_t ntopics,
                                                  uint32_t wait_ms,
                                                  const struct dbx_kafka_handlers *h, void *user,
                                                  struct dbx_err *err);
struct dbx_kafka_consumer *dbx_kafka_consumer_free(struct dbx_kafka_consumer *c);
/* Reads a partition from an absolute offset on (assigning anew moves it); DBX_KAFKA_END: only what
 * comes. After _drop nothing of it is delivered any more. */
#define DBX_KAFKA_END (-1)
int dbx_kafka_assign(struct dbx_kafka_consumer *c, size_t topic, int partition, int64_t offset,
                     struct dbx_err *err) DBX_MUST_USE;
void dbx_kafka_drop(struct dbx_kafka_consumer *c, size_t topic, int partition);

/* The bounds of all partitions of a topic, asked for by a thread of its own every period_ms; once
 * before _new returns. on_answer: after each round, also one that failed. */
struct dbx_kafka_offsets *dbx_kafka_offsets_new(const struct dbx_kafka_opts *opts,
                                                const char *topic, int partitions,
                                                uint32_t period_ms, void (*on_answer)(void *user),
                                                void *user, struct dbx_err *err);
struct dbx_kafka_offsets *dbx_kafka_offsets_free(struct dbx_kafka_offsets *o);
/* As last heard: oldest may be too low, next may be too low, never too high. -EAGAIN: never heard
 * yet. */
int dbx_kafka_offsets_get(const struct dbx_kafka_offsets *o, int partition, int64_t *ret_oldest,
                          int64_t *ret_next) DBX_MUST_USE;
/* When the partition's leader answered last (dbx_now_ms); at first when this was made. */
uint64_t dbx_kafka_offsets_heard_ms(const struct dbx_kafka_offsets *o, int partition);
/* Asks again now; the ticket tells _heard whether an answer to that question has come. */
uint64_t dbx_kafka_offsets_refresh(struct dbx_kafka_offsets *o);
bool dbx_kafka_offsets_heard(const struct dbx_kafka_offsets *o, int partition, uint64_t ticket);
