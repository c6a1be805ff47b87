/* SPDX-License-Identifier: Apache-2.0 */
/* The output log on Apache Kafka: one topic of 64 partitions, and one that only wakes fetches. An
 * offset is Kafka's own. Here: opening, writing, bounds; reading is in output_log_kafka_reader.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/proto/output_log_kafka.h"

#define KICK_RETENTION_MS 60000
#define BOUNDS_EVERY_MS 1000
#define WRITER_WAIT_MS 15000 /* how long opening waits for the cluster */
#define READER_WAIT_MS 2000  /* a gateway tries again by itself */
#define RETENTION_HOURS 24
#define AWAY_MS 3000 /* three questions for the bounds without an answer */

static int olk_append(struct dbx_olog *head, const struct dbx_id *key, const void *a, size_t alen,
                      const void *b, size_t blen, dbx_olog_acked *fn, void *user)
{
    struct olk *log = (struct olk *)head;
    return dbx_kafka_produce(log->producer, OLK_TOPIC_OUTPUT, (int)dbx_olog_partition(key), key->b,
                             sizeof(key->b), a, alen, b, blen, fn, user);
}

static void olk_on_room(struct dbx_olog *head, void (*fn)(void *user), void *user)
{
    struct olk *log = (struct olk *)head;
    log->room_fn = fn;
    log->room_user = user;
}

static void on_producer_room(void *user)
{
    struct olk *log = user;
    if (log->room_fn)
        log->room_fn(log->room_user);
}

static int olk_bounds(struct dbx_olog *head, uint32_t partition, int64_t *ret_oldest,
                      int64_t *ret_next, struct dbx_err *err)
{
    struct olk *log = (struct olk *)head;
    struct olk_tail *t = &log->tails[partition];
    if (!log->offsets ||
        dbx_kafka_offsets_get(log->offsets, (int)partition, ret_oldest, ret_next) < 0)
        return dbx_err_set(err, -ENOTCONN, DBX_UNAVAIL,
                           "Kafka has not told the output log's bounds yet");
    if (t->assigned && t->heard && t->pos > *ret_next)
        *ret_next = t->pos;
    return 0;
}

static bool olk_away(const struct dbx_olog *head, uint32_t partition)
{
    return ((const struct olk *)head)->tails[partition].away;
}

static void olk_on_away(struct dbx_olog *head, void (*fn)(void *user), void *user)
{
    struct olk *log = (struct olk *)head;
    log->away_fn = fn;
    log->away_user = user;
}

/* The offsets' thread has asked for the bounds, with or without an answer. */
static void on_bounds(void *user)
{
    struct olk *log = user;
    uint64_t now = dbx_now_ms(); /* an answer may come meanwhile, and be later */
    bool changed = false;
    for (int i = 0; i < DBX_LOG_PARTITIONS; i++) {
        bool away = dbx_kafka_offsets_heard_ms(log->offsets, i) + AWAY_MS <= now;
        changed = changed || away != log->tails[i].away;
        log->tails[i].away = away;
    }
    olk_on_bounds(log);
    if (changed && log->away_fn)
        log->away_fn(log->away_user);
}

static struct dbx_olog *olk_close(struct dbx_olog *head)
{
    struct olk *log = (struct olk *)head;
    olk_readers_done(log);
    log->room_fn = log->away_fn = NULL;
    dbx_kafka_producer_free(log->producer);
    dbx_kafka_offsets_free(log->offsets);
    free(log->brokers);
    free(log->properties);
    free(log->topic);
    free(log->kick_topic);
    log->head.magic = 0;
    free(log);
    return NULL;
}

static const struct dbx_olog_ops kafka_ops = {
    .close = olk_close,
    .append = olk_append,
    .on_room = olk_on_room,
    .bounds = olk_bounds,
    .away = olk_away,
    .on_away = olk_on_away,
    .follow = olk_follow,
    .resume = olk_resume,
    .catch_up = olk_catch_up,
    .reader_free = olk_reader_free,
};

/* "host:port,host:port?topic=T&properties=FILE&replication=N&retention_hours=N" */
static int parse_url(struct olk *log, const char *url, struct dbx_kafka_topic *topic,
                     struct dbx_err *err)
{
    const char *q = strchr(url, '?');
    log->brokers = q ? dbx_strndup(url, (size_t)(q - url)) : dbx_strdup(url);
    while (q) {
        const char *p = q + 1, *end = strchr(p, '&');
        size_t len = end ? (size_t)(end - p) : strlen(p);
        uint64_t n;
        if (dbx_starts_with(p, "topic=") && len > 6) {
            free(log->topic);
            log->topic = dbx_strndup(p + 6, len - 6);
        } else if (dbx_starts_with(p, "properties=")) {
            free(log->properties);
            log->properties = dbx_strndup(p + 11, len - 11);
        } else if (dbx_starts_with(p, "replication=") &&
                   dbx_parse_u64(p + 12, len - 12, 1, 100, &n) == 0) {
            topic->replication = (int)n;
        } else if (dbx_starts_with(p, "retention_hours=") &&
                   dbx_parse_u64(p + 16, len - 16, 0, 1000000, &n) == 0) {
            topic->retention_ms = n * 3600000;
        } else {
            return dbx_err_field(err, "output_log",
                                 "'%.*s' is not one of topic=, properties=, replication=, "
                                 "retention_hours=",
                                 (int)len, p);
        }
        q = end;
    }
    if (!log->topic)
        log->topic = dbx_strdup("devbox.output");
    return log->brokers[0] ? 0
                           : dbx_err_field(err, "output_log", "kafka: needs brokers, host:port");
}

/* Writers and readers make the topics alike: whoever comes first. */
static int ensure_topics(struct olk *log, struct dbx_kafka_topic topic, uint32_t wait_ms,
                         struct dbx_err *err)
{
    topic.name = log->topic;
    topic.partitions = DBX_LOG_PARTITIONS;
    int r = dbx_kafka_ensure_topic(&log->opts, &topic, wait_ms, err);
    topic.name = log->kick_topic;
    topic.partitions = OLK_KICK_PARTITIONS;
    topic.retention_ms = KICK_RETENTION_MS;
    return r < 0 ? r : dbx_kafka_ensure_topic(&log->opts, &topic, wait_ms, err);
}

static int open_clients(struct olk *log, bool writer, struct dbx_err *err)
{
    const char *topics[2] = {log->topic, log->kick_topic};
    log->producer = dbx_kafka_producer_new(&log->opts, topics, 2, on_producer_room, log, err);
    if (!log->producer)
        return -EIO;
    log->offsets = dbx_kafka_offsets_new(&log->opts, log->topic, DBX_LOG_PARTITIONS,
                                         BOUNDS_EVERY_MS, on_bounds, log, err);
    if (!log->offsets)
        return -EIO;
    return writer ? 0 : olk_start_reading(log, err);
}

int dbx_olog__open_kafka(const struct dbx_olog_opts *opts, const char *url, struct dbx_olog **ret,
                         struct dbx_err *err)
{
    struct olk *log = DBX_NEW(struct olk);
    struct dbx_kafka_topic topic = {.retention_ms = RETENTION_HOURS * 3600000ull};
    log->head = (struct dbx_olog){DBX_OLOG_MAGIC, &kafka_ops};
    log->loop = opts->loop;
    olk_readers_init(log);
    int r = parse_url(log, url, &topic, err);
    log->opts = (struct dbx_kafka_opts){log->loop, log->brokers, log->properties};
    if (r == 0) {
        log->kick_topic = dbx_asprintf("%s.kick", log->topic);
        r = ensure_topics(log, topic, opts->writer ? WRITER_WAIT_MS : READER_WAIT_MS, err);
    }
    if (r == 0)
        r = open_clients(log, opts->writer, err);
    if (r < 0) {
        olk_close(&log->head);
        return r;
    }
    *ret = &log->head;
    return 0;
}
