/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The output log on Apache Kafka: one topic of 64 partitions; an offset is Kafka's own.
 *
 * One consumer (the live one) follows the tails of all partitions that somebody here watches. It
 * has one position a partition, so a viewer who wants older output cannot use it: a small pool of
 * replay consumers serves those, one partition each at a time and with it all readers that want
 * about the same of it, and hands them over when they have caught up with the live position (or
 * with the end, where nobody follows the partition yet).
 *
 * A reader is PLACING (about to be looked at), REPLAY (served by a replay consumer, or waiting for
 * one), LIVE, HELD (its handler said "not now"), LOST (its offset is out of range: the bounds are
 * asked for), or DEAD.
 *
 * librdkafka has one fetch a broker under way at a time; a partition assigned while that one waits
 * for data would wait with it. So after an assignment one byte is produced to each partition of a
 * kick topic, which the live consumer follows as well: the waiting fetch returns at once. Repeated
 * until something of the new partition was heard. The same wakes the live consumer when the library
 * had stopped fetching (kafka.h, on_starved). A replay consumer has no fetch under way when it is
 * given a partition; a long replay follows the kick topic as well, whose empty fetches return after
 * REPLAY_WAIT_MS.
 *
 * Offsets are contiguous (no transactions, no compaction), so a step of more than one is told as
 * truncation, as is an offset out of range: below the oldest, or beyond the end of a log that lost
 * its tail.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/list.h"
#include "common/base/str.h"
#include "common/ext/kafka.h"
#include "common/io/loop.h"
#include "common/proto/output_log_int.h"

#define REPLAY_CLIENTS 3
#define REPLAY_WAIT_MS 10
#define LIVE_WAIT_MS 500
#define REPLAY_TURN_BYTES (8u << 20) /* then another reader's turn, where one waits */
#define NEAR_ENTRIES 2000            /* a reader this close to the end may take the tail along */
#define TOGETHER_ENTRIES 20000       /* readers this close to each other share a replay */
#define KICK_PARTITIONS 3
#define KICK_AGAIN_MS 3
#define KICK_TRIES 50
#define KICK_RETENTION_MS 60000
#define BOUNDS_EVERY_MS 1000
#define WRITER_WAIT_MS 15000 /* how long opening waits for the cluster */
#define READER_WAIT_MS 2000  /* a gateway tries again by itself */
#define RETENTION_HOURS 24

enum { TOPIC_OUTPUT, TOPIC_KICK };
enum olk_state { OLK_PLACING, OLK_REPLAY, OLK_LIVE, OLK_HELD, OLK_LOST, OLK_DEAD };

struct olk;
struct replay;

struct olk_tail {
    struct dbx_list live;
    bool assigned;
    bool heard; /* anything since it was assigned */
    unsigned kicks;
    int64_t pos; /* the next offset the live consumer will give */
};

struct olk_reader {
    struct dbx_olog_reader head;
    struct dbx_list node; /* in incoming, waiting, lost, a tail's live, a replay's, or alone */
    struct olk *log;
    enum olk_state state;
    struct replay *replay; /* who serves it, in REPLAY */
    uint32_t partition;
    struct dbx_id key;
    int64_t pos;
    uint64_t ticket;      /* in LOST: the question for the bounds */
    uint64_t live_ticket; /* the question for the end that on_live is about */
    bool told_live;
    struct dbx_olog_reader_handlers h;
    void *user;
};

struct replay {
    struct olk *log;
    struct dbx_kafka_consumer *consumer;
    struct dbx_list readers;
    size_t nreaders; /* 0: free */
    uint32_t partition;
    int64_t pos;  /* the next offset it will give */
    size_t bytes; /* given in this turn */
    bool kicked;  /* follows the kick topic */
};

struct olk {
    struct dbx_olog head;
    struct dbx_loop *loop;
    struct dbx_kafka_opts opts;
    char *brokers, *properties, *topic, *kick_topic;
    struct dbx_kafka_producer *producer;
    struct dbx_kafka_consumer *live; /* NULL: nothing was read yet, or read_err says why not */
    struct dbx_err read_err;
    struct replay replays[REPLAY_CLIENTS];
    struct dbx_kafka_offsets *offsets;
    struct olk_tail tails[DBX_LOG_PARTITIONS];
    struct dbx_list incoming, waiting, lost, graveyard;
    unsigned depth;
    bool pump_queued;
    struct dbx_timer *kick_timer;
    void (*room_fn)(void *user);
    void *room_user;
};

static void place(struct olk_reader *r);
static void pump(void *user);

/* --- bookkeeping of readers --- */

static void schedule(struct olk *log)
{
    if (!log->pump_queued)
        dbx_loop_defer(log->loop, pump, log);
    log->pump_queued = true;
}

static void free_now(struct olk_reader *r)
{
    dbx_list_remove(&r->node);
    r->head.magic = 0;
    free(r);
}

/* Empties a list into another, so that callbacks may join and leave the first one meanwhile. */
static void move_all(struct dbx_list *from, struct dbx_list *to)
{
    dbx_list_init(to);
    while (!dbx_list_empty(from)) {
        struct dbx_list *n = from->next;
        dbx_list_remove(n);
        dbx_list_push(to, n);
    }
}

static void enter(struct olk *log)
{
    log->depth++;
}

static void leave(struct olk *log)
{
    if (--log->depth > 0)
        return;
    while (!dbx_list_empty(&log->graveyard))
        free_now(dbx_list_first(&log->graveyard, struct olk_reader, node));
}

/* Nobody watches a partition any more: it is not fetched either. */
static void settle_tail(struct olk *log, uint32_t partition)
{
    struct olk_tail *t = &log->tails[partition];
    if (t->assigned && dbx_list_empty(&t->live)) {
        dbx_kafka_drop(log->live, TOPIC_OUTPUT, (int)partition);
        t->assigned = false;
    }
}

static void kick(struct olk *log);

static void leave_replay(struct olk_reader *r)
{
    struct replay *rp = r->replay;
    r->replay = NULL;
    if (--rp->nreaders > 0)
        return;
    dbx_kafka_drop(rp->consumer, TOPIC_OUTPUT, (int)rp->partition);
    for (int i = 0; rp->kicked && i < KICK_PARTITIONS; i++)
        dbx_kafka_drop(rp->consumer, TOPIC_KICK, i);
    rp->kicked = false;
    schedule(r->log); /* the next one's turn */
}

static void join_replay(struct olk_reader *r, struct replay *rp)
{
    dbx_list_remove(&r->node);
    dbx_list_push(&rp->readers, &r->node);
    r->replay = rp;
    rp->nreaders++;
}

static void set_state(struct olk_reader *r, enum olk_state state)
{
    struct olk *log = r->log;
    struct olk_tail *t = &log->tails[r->partition];
    enum olk_state old = r->state;
    dbx_list_remove(&r->node);
    if (r->replay)
        leave_replay(r);
    r->state = state;
    if (old == OLK_LIVE && state != OLK_LIVE)
        schedule(log); /* perhaps it was the last one: see pump */
    switch (state) {
    case OLK_PLACING:
        dbx_list_push(&log->incoming, &r->node);
        schedule(log);
        break;
    case OLK_REPLAY:
        dbx_list_push(&log->waiting, &r->node);
        schedule(log);
        break;
    case OLK_LIVE:
        dbx_list_push(&t->live, &r->node);
        break;
    case OLK_LOST:
        dbx_list_push(&log->lost, &r->node);
        r->ticket = dbx_kafka_offsets_refresh(log->offsets);
        break;
    case OLK_DEAD:
        dbx_list_push(&log->graveyard, &r->node);
        break;
    case OLK_HELD:
        break;
    }
}

/* A live reader is told when it has come to what was the end after it asked. */
static void tell_live(struct olk_reader *r)
{
    struct dbx_kafka_offsets *o = r->log->offsets;
    int64_t oldest, next;
    if (r->told_live || !r->h.on_live ||
        !dbx_kafka_offsets_heard(o, (int)r->partition, r->live_ticket) ||
        dbx_kafka_offsets_get(o, (int)r->partition, &oldest, &next) < 0 || r->pos < next)
        return;
    r->told_live = true;
    r->h.on_live(r->pos, r->user);
}

static void ask_live(struct olk_reader *r)
{
    r->told_live = !r->h.on_live;
    if (!r->told_live)
        r->live_ticket = dbx_kafka_offsets_refresh(r->log->offsets);
}

/* Gives a reader an entry at or behind its position. */
static void deliver(struct olk_reader *r, const struct dbx_kafka_message *m)
{
    if (m->offset < r->pos)
        return;
    if (m->offset > r->pos) {
        int64_t wanted = r->pos;
        r->pos = m->offset;
        r->h.on_truncated(wanted, m->offset, r->user);
        if (r->state == OLK_DEAD)
            return;
    }
    if (m->key_len == sizeof(r->key.b) && memcmp(m->key, r->key.b, sizeof(r->key.b)) == 0) {
        struct dbx_olog_entry e = {
            .offset = m->offset, .next = m->offset + 1, .value = m->value, .len = m->len};
        bool taken = r->h.on_entry(&e, r->user);
        if (r->state == OLK_DEAD)
            return;
        if (!taken) {
            r->pos = m->offset;
            set_state(r, OLK_HELD);
            return;
        }
    }
    r->pos = m->offset + 1;
}

/* --- the live consumer --- */

static void kick(struct olk *log)
{
    for (int i = 0; i < KICK_PARTITIONS; i++)
        (void)dbx_kafka_produce(log->producer, TOPIC_KICK, i, "", 0, "k", 1, NULL, 0, NULL, NULL);
    dbx_timer_start(log->kick_timer, KICK_AGAIN_MS, 0);
}

static void on_kick_timer(void *user)
{
    struct olk *log = user;
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++) {
        struct olk_tail *t = &log->tails[i];
        if (t->assigned && !t->heard && t->kicks++ < KICK_TRIES) {
            kick(log);
            return;
        }
    }
}

static void on_live_message(const struct dbx_kafka_message *m, void *user)
{
    struct olk *log = user;
    if (m->topic != TOPIC_OUTPUT)
        return;
    struct olk_tail *t = &log->tails[m->partition];
    struct dbx_list all;
    enter(log);
    t->pos = m->offset + 1;
    t->heard = true;
    move_all(&t->live, &all);
    while (!dbx_list_empty(&all)) {
        struct olk_reader *r = dbx_list_first(&all, struct olk_reader, node);
        dbx_list_remove(&r->node);
        dbx_list_push(&t->live, &r->node);
        deliver(r, m);
        if (r->state == OLK_LIVE)
            tell_live(r);
    }
    leave(log);
}

static void on_live_eof(size_t topic, int partition, int64_t offset, void *user)
{
    struct olk *log = user;
    (void)offset;
    if (topic == TOPIC_OUTPUT)
        log->tails[partition].heard = true;
}

static void on_live_out_of_range(size_t topic, int partition, void *user)
{
    struct olk *log = user;
    if (topic != TOPIC_OUTPUT) {
        if (dbx_kafka_assign(log->live, TOPIC_KICK, partition, DBX_KAFKA_END, NULL) < 0)
            return; /* new partitions are heard late then, not never */
        return;
    }
    struct olk_tail *t = &log->tails[partition];
    t->assigned = false;
    while (!dbx_list_empty(&t->live))
        set_state(dbx_list_first(&t->live, struct olk_reader, node), OLK_LOST);
}

static void on_live_starved(void *user)
{
    kick(user);
}

/* From the tail's position on: at once, the tail may move before the next turn. */
static void join_tail(struct olk_reader *r)
{
    set_state(r, OLK_LIVE);
    tell_live(r);
}

/* The live consumer begins to follow a partition, at this reader's position. */
static void follow_tail(struct olk_reader *r)
{
    struct olk_tail *t = &r->log->tails[r->partition];
    struct dbx_err err = {0};
    if (dbx_kafka_assign(r->log->live, TOPIC_OUTPUT, (int)r->partition, r->pos, &err) < 0) {
        set_state(r, OLK_HELD);
        r->h.on_error(&err, r->user);
        return;
    }
    t->assigned = true;
    t->heard = false;
    t->kicks = 0;
    t->pos = r->pos;
    kick(r->log);
    join_tail(r);
}

/* --- the replay consumers --- */

/* The replay has come to the end of the partition, or to where the tail is. */
static void caught_up(struct olk_reader *r)
{
    struct olk_tail *t = &r->log->tails[r->partition];
    if (!t->assigned)
        follow_tail(r);
    else if (r->pos >= t->pos)
        join_tail(r);
    else
        set_state(r, OLK_PLACING);
}

static void on_replay_message(const struct dbx_kafka_message *m, void *user)
{
    struct replay *rp = user;
    struct olk *log = rp->log;
    struct dbx_list all;
    if (rp->nreaders == 0 || m->topic != TOPIC_OUTPUT)
        return;
    struct olk_tail *t = &log->tails[rp->partition];
    enter(log);
    rp->pos = m->offset + 1;
    rp->bytes += m->len;
    move_all(&rp->readers, &all);
    while (!dbx_list_empty(&all)) {
        struct olk_reader *r = dbx_list_first(&all, struct olk_reader, node);
        dbx_list_remove(&r->node);
        dbx_list_push(&rp->readers, &r->node);
        deliver(r, m);
        if (r->state == OLK_REPLAY && t->assigned && r->pos >= t->pos)
            caught_up(r);
    }
    if (rp->bytes > REPLAY_TURN_BYTES && !dbx_list_empty(&log->waiting))
        while (!dbx_list_empty(&rp->readers)) /* to the end of the line */
            set_state(dbx_list_first(&rp->readers, struct olk_reader, node), OLK_REPLAY);
    leave(log);
}

static void on_replay_eof(size_t topic, int partition, int64_t offset, void *user)
{
    struct replay *rp = user;
    (void)partition;
    if (topic != TOPIC_OUTPUT)
        return;
    enter(rp->log);
    for (struct olk_reader *r; (r = dbx_list_first(&rp->readers, struct olk_reader, node));) {
        if (r->pos > offset)
            set_state(r, OLK_LOST);
        else
            caught_up(r);
    }
    leave(rp->log);
}

static void on_replay_out_of_range(size_t topic, int partition, void *user)
{
    struct replay *rp = user;
    (void)partition;
    while (topic == TOPIC_OUTPUT && !dbx_list_empty(&rp->readers))
        set_state(dbx_list_first(&rp->readers, struct olk_reader, node), OLK_LOST);
}

static void on_replay_starved(void *user)
{
    struct replay *rp = user;
    if (rp->nreaders == 0 || rp->kicked)
        return;
    rp->kicked = true;
    for (int i = 0; i < KICK_PARTITIONS; i++) /* without it the replay is slower, no more */
        (void)!dbx_kafka_assign(rp->consumer, TOPIC_KICK, i, DBX_KAFKA_END, NULL);
}

/* Everybody in the line who wants what this replay is about to give. */
static void gather(struct olk *log, struct replay *rp)
{
    struct dbx_list *it, *tmp;
    dbx_list_each(it, tmp, &log->waiting)
    {
        struct olk_reader *r = dbx_list_entry(it, struct olk_reader, node);
        if (r->partition == rp->partition && r->pos >= rp->pos &&
            r->pos - rp->pos <= TOGETHER_ENTRIES)
            join_replay(r, rp);
    }
}

/* The first in the line decides; who wants a little more of the same comes along. */
static void start_replay(struct olk *log, struct replay *rp)
{
    struct olk_reader *first = dbx_list_first(&log->waiting, struct olk_reader, node);
    struct dbx_list *it, *tmp;
    struct dbx_err err = {0};
    rp->partition = first->partition;
    rp->pos = first->pos;
    rp->bytes = 0;
    dbx_list_each(it, tmp, &log->waiting)
    {
        struct olk_reader *r = dbx_list_entry(it, struct olk_reader, node);
        if (r->partition == rp->partition && r->pos < rp->pos &&
            first->pos - r->pos <= TOGETHER_ENTRIES)
            rp->pos = r->pos;
    }
    gather(log, rp);
    if (dbx_kafka_assign(rp->consumer, TOPIC_OUTPUT, (int)rp->partition, rp->pos, &err) == 0)
        return;
    for (struct olk_reader *r; (r = dbx_list_first(&rp->readers, struct olk_reader, node));) {
        set_state(r, OLK_HELD);
        r->h.on_error(&err, r->user);
    }
}

static void serve_waiting(struct olk *log)
{
    for (size_t i = 0; i < REPLAY_CLIENTS; i++)
        if (log->replays[i].nreaders > 0)
            gather(log, &log->replays[i]);
    for (size_t i = 0; i < REPLAY_CLIENTS && !dbx_list_empty(&log->waiting); i++)
        if (log->replays[i].nreaders == 0)
            start_replay(log, &log->replays[i]);
}

/* --- placing --- */

static void place(struct olk_reader *r)
{
    struct olk *log = r->log;
    struct olk_tail *t = &log->tails[r->partition];
    int64_t oldest, next;
    bool known = dbx_kafka_offsets_get(log->offsets, (int)r->partition, &oldest, &next) == 0;
    if (!log->live) {
        set_state(r, OLK_HELD);
        r->h.on_error(&log->read_err, r->user);
    } else if (t->assigned && r->pos > t->pos && !(known && r->pos <= next)) {
        set_state(r, OLK_LOST); /* ahead of the tail: is there such an offset? */
    } else if (t->assigned && r->pos >= t->pos) {
        join_tail(r);
    } else if (!t->assigned && known && r->pos + NEAR_ENTRIES >= next) {
        follow_tail(r);
    } else {
        set_state(r, OLK_REPLAY);
    }
}

static void pump(void *user)
{
    struct olk *log = user;
    struct dbx_list turn;
    log->pump_queued = false;
    enter(log);
    move_all(&log->incoming, &turn);
    while (!dbx_list_empty(&turn)) {
        struct olk_reader *r = dbx_list_first(&turn, struct olk_reader, node);
        dbx_list_remove(&r->node);
        place(r);
    }
    serve_waiting(log);
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++)
        settle_tail(log, i);
    leave(log);
}

/* Tells what is gone, and goes on where something is. */
static void find_again(struct olk_reader *r)
{
    int64_t oldest, next, wanted = r->pos;
    if (!dbx_kafka_offsets_heard(r->log->offsets, (int)r->partition, r->ticket) ||
        dbx_kafka_offsets_get(r->log->offsets, (int)r->partition, &oldest, &next) < 0)
        return; /* Kafka is away: the offsets' thread asks again */
    set_state(r, OLK_PLACING);
    r->pos = wanted < oldest ? oldest : wanted > next ? next : wanted;
    if (r->pos != wanted)
        r->h.on_truncated(wanted, r->pos, r->user);
}

/* The bounds have come. */
static void on_bounds(void *user)
{
    struct olk *log = user;
    struct dbx_list turn;
    enter(log);
    move_all(&log->lost, &turn);
    while (!dbx_list_empty(&turn)) {
        struct olk_reader *r = dbx_list_first(&turn, struct olk_reader, node);
        dbx_list_remove(&r->node);
        dbx_list_push(&log->lost, &r->node);
        find_again(r);
    }
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++) {
        move_all(&log->tails[i].live, &turn);
        while (!dbx_list_empty(&turn)) {
            struct olk_reader *r = dbx_list_first(&turn, struct olk_reader, node);
            dbx_list_remove(&r->node);
            dbx_list_push(&log->tails[i].live, &r->node);
            tell_live(r);
        }
    }
    leave(log);
}

/* --- the interface --- */

static int olk_append(struct dbx_olog *head, const struct dbx_id *key, const void *a, size_t alen,
                      const void *b, size_t blen, dbx_olog_acked *fn, void *user)
{
    struct olk *log = (struct olk *)head;
    return dbx_kafka_produce(log->producer, TOPIC_OUTPUT, (int)dbx_olog_partition(key), key->b,
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

static void stop_reading(struct olk *log)
{
    log->live = dbx_kafka_consumer_free(log->live);
    for (size_t i = 0; i < REPLAY_CLIENTS; i++)
        log->replays[i].consumer = dbx_kafka_consumer_free(log->replays[i].consumer);
}

static int start_reading(struct olk *log, struct dbx_err *err)
{
    const char *const topics[2] = {log->topic, log->kick_topic};
    static const struct dbx_kafka_handlers live = {on_live_message, on_live_eof,
                                                   on_live_out_of_range, on_live_starved};
    static const struct dbx_kafka_handlers replay = {on_replay_message, on_replay_eof,
                                                     on_replay_out_of_range, on_replay_starved};
    log->live = dbx_kafka_consumer_new(&log->opts, topics, 2, LIVE_WAIT_MS, &live, log, err);
    if (!log->live)
        return -EIO;
    for (int i = 0; i < KICK_PARTITIONS; i++) {
        int r = dbx_kafka_assign(log->live, TOPIC_KICK, i, DBX_KAFKA_END, err);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < REPLAY_CLIENTS; i++) {
        log->replays[i].consumer = dbx_kafka_consumer_new(&log->opts, topics, 2, REPLAY_WAIT_MS,
                                                          &replay, &log->replays[i], err);
        if (!log->replays[i].consumer)
            return -EIO;
    }
    return 0;
}

static struct dbx_olog_reader *olk_follow(struct dbx_olog *head, const struct dbx_id *key,
                                          int64_t from, const struct dbx_olog_reader_handlers *h,
                                          void *user)
{
    struct olk *log = (struct olk *)head;
    struct olk_reader *r = DBX_NEW(struct olk_reader);
    /* A writer that reads as well; a reader made its consumers when it was opened. */
    if (!log->live && start_reading(log, &log->read_err) < 0)
        stop_reading(log);
    r->head = (struct dbx_olog_reader){DBX_OLOG_READER_MAGIC, head};
    r->log = log;
    r->partition = dbx_olog_partition(key);
    r->key = *key;
    r->pos = from < 0 ? 0 : from;
    r->h = *h;
    r->user = user;
    dbx_list_init(&r->node);
    ask_live(r);
    set_state(r, OLK_PLACING);
    return &r->head;
}

static void olk_resume(struct dbx_olog_reader *head)
{
    struct olk_reader *r = (struct olk_reader *)head;
    if (r->state == OLK_HELD) {
        ask_live(r);
        set_state(r, OLK_PLACING);
    }
}

static void olk_catch_up(struct dbx_olog_reader *head)
{
    ask_live((struct olk_reader *)head);
}

static struct dbx_olog_reader *olk_reader_free(struct dbx_olog_reader *head)
{
    struct olk_reader *r = (struct olk_reader *)head;
    struct olk *log = r->log;
    enter(log);
    set_state(r, OLK_DEAD);
    leave(log);
    return NULL;
}

static struct dbx_olog *olk_close(struct dbx_olog *head)
{
    struct olk *log = (struct olk *)head;
    struct dbx_list *lists[] = {&log->incoming, &log->waiting, &log->lost, &log->graveyard};
    dbx_assert(log->depth == 0);
    stop_reading(log);
    for (size_t i = 0; i < REPLAY_CLIENTS; i++)
        while (!dbx_list_empty(&log->replays[i].readers))
            free_now(dbx_list_first(&log->replays[i].readers, struct olk_reader, node));
    for (size_t i = 0; i < DBX_ARRAY_LEN(lists); i++)
        while (!dbx_list_empty(lists[i]))
            free_now(dbx_list_first(lists[i], struct olk_reader, node));
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++)
        while (!dbx_list_empty(&log->tails[i].live))
            free_now(dbx_list_first(&log->tails[i].live, struct olk_reader, node));
    log->room_fn = NULL;
    dbx_kafka_producer_free(log->producer);
    dbx_kafka_offsets_free(log->offsets);
    dbx_timer_free(log->kick_timer);
    dbx_loop_undefer(log->loop, pump, log);
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
    topic.partitions = KICK_PARTITIONS;
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
    return writer ? 0 : start_reading(log, err);
}

int dbx_olog__open_kafka(const struct dbx_olog_opts *opts, const char *url, struct dbx_olog **ret,
                         struct dbx_err *err)
{
    struct olk *log = DBX_NEW(struct olk);
    struct dbx_kafka_topic topic = {.retention_ms = RETENTION_HOURS * 3600000ull};
    log->head = (struct dbx_olog){DBX_OLOG_MAGIC, &kafka_ops};
    log->loop = opts->loop;
    dbx_list_init(&log->incoming);
    dbx_list_init(&log->waiting);
    dbx_list_init(&log->lost);
    dbx_list_init(&log->graveyard);
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++)
        dbx_list_init(&log->tails[i].live);
    for (size_t i = 0; i < REPLAY_CLIENTS; i++) {
        log->replays[i].log = log;
        dbx_list_init(&log->replays[i].readers);
    }
    log->kick_timer = dbx_timer_new(log->loop, on_kick_timer, log);
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
