/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading from Kafka.
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

#include "common/io/loop.h"
#include "common/proto/output_log_kafka.h"

#define REPLAY_WAIT_MS 10
#define LIVE_WAIT_MS 500
#define REPLAY_TURN_BYTES (8u << 20) /* then another reader's turn, where one waits */
#define NEAR_ENTRIES 2000            /* a reader this close to the end may take the tail along */
#define TOGETHER_ENTRIES 20000       /* readers this close to each other share a replay */
#define KICK_AGAIN_MS 3
#define KICK_TRIES 50

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
        dbx_kafka_drop(log->live, OLK_TOPIC_OUTPUT, (int)partition);
        t->assigned = false;
    }
}

static void kick(struct olk *log);

static void leave_replay(struct olk_reader *r)
{
    struct olk_replay *rp = r->replay;
    r->replay = NULL;
    if (--rp->nreaders > 0)
        return;
    dbx_kafka_drop(rp->consumer, OLK_TOPIC_OUTPUT, (int)rp->partition);
    for (int i = 0; rp->kicked && i < OLK_KICK_PARTITIONS; i++)
        dbx_kafka_drop(rp->consumer, OLK_TOPIC_KICK, i);
    rp->kicked = false;
    schedule(r->log); /* the next one's turn */
}

static void join_replay(struct olk_reader *r, struct olk_replay *rp)
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
    for (int i = 0; i < OLK_KICK_PARTITIONS; i++)
        (void)dbx_kafka_produce(log->producer, OLK_TOPIC_KICK, i, "", 0, "k", 1, NULL, 0, NULL,
                                NULL);
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
    if (m->topic != OLK_TOPIC_OUTPUT)
        return;
    struct olk_tail *t = &log->tails[m->partition];
    struct dbx_list all;
    enter(log);
    t->pos = m->offset + 1;
    t->heard = true;
    dbx_list_init(&all);
    dbx_list_take_all(&t->live, &all);
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
    if (topic == OLK_TOPIC_OUTPUT)
        log->tails[partition].heard = true;
}

static void on_live_out_of_range(size_t topic, int partition, void *user)
{
    struct olk *log = user;
    if (topic != OLK_TOPIC_OUTPUT) {
        if (dbx_kafka_assign(log->live, OLK_TOPIC_KICK, partition, DBX_KAFKA_END, NULL) < 0)
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
    if (dbx_kafka_assign(r->log->live, OLK_TOPIC_OUTPUT, (int)r->partition, r->pos, &err) < 0) {
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
    struct olk_replay *rp = user;
    struct olk *log = rp->log;
    struct dbx_list all;
    if (rp->nreaders == 0 || m->topic != OLK_TOPIC_OUTPUT)
        return;
    struct olk_tail *t = &log->tails[rp->partition];
    enter(log);
    rp->pos = m->offset + 1;
    rp->bytes += m->len;
    dbx_list_init(&all);
    dbx_list_take_all(&rp->readers, &all);
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
    struct olk_replay *rp = user;
    (void)partition;
    if (topic != OLK_TOPIC_OUTPUT)
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
    struct olk_replay *rp = user;
    (void)partition;
    while (topic == OLK_TOPIC_OUTPUT && !dbx_list_empty(&rp->readers))
        set_state(dbx_list_first(&rp->readers, struct olk_reader, node), OLK_LOST);
}

static void on_replay_starved(void *user)
{
    struct olk_replay *rp = user;
    if (rp->nreaders == 0 || rp->kicked)
        return;
    rp->kicked = true;
    for (int i = 0; i < OLK_KICK_PARTITIONS; i++) /* without it the replay is slower, no more */
        (void)!dbx_kafka_assign(rp->consumer, OLK_TOPIC_KICK, i, DBX_KAFKA_END, NULL);
}

/* Everybody in the line who wants what this replay is about to give. */
static void gather(struct olk *log, struct olk_replay *rp)
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
static void start_replay(struct olk *log, struct olk_replay *rp)
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
    if (dbx_kafka_assign(rp->consumer, OLK_TOPIC_OUTPUT, (int)rp->partition, rp->pos, &err) == 0)
        return;
    for (struct olk_reader *r; (r = dbx_list_first(&rp->readers, struct olk_reader, node));) {
        set_state(r, OLK_HELD);
        r->h.on_error(&err, r->user);
    }
}

static void serve_waiting(struct olk *log)
{
    for (size_t i = 0; i < OLK_REPLAY_CLIENTS; i++)
        if (log->replays[i].nreaders > 0)
            gather(log, &log->replays[i]);
    for (size_t i = 0; i < OLK_REPLAY_CLIENTS && !dbx_list_empty(&log->waiting); i++)
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
    dbx_list_init(&turn);
    dbx_list_take_all(&log->incoming, &turn);
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
void olk_on_bounds(struct olk *log)
{
    struct dbx_list turn;
    enter(log);
    dbx_list_init(&turn);
    dbx_list_take_all(&log->lost, &turn);
    while (!dbx_list_empty(&turn)) {
        struct olk_reader *r = dbx_list_first(&turn, struct olk_reader, node);
        dbx_list_remove(&r->node);
        dbx_list_push(&log->lost, &r->node);
        find_again(r);
    }
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++) {
        dbx_list_init(&turn);
        dbx_list_take_all(&log->tails[i].live, &turn);
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

static void stop_reading(struct olk *log)
{
    log->live = dbx_kafka_consumer_free(log->live);
    for (size_t i = 0; i < OLK_REPLAY_CLIENTS; i++)
        log->replays[i].consumer = dbx_kafka_consumer_free(log->replays[i].consumer);
}

int olk_start_reading(struct olk *log, struct dbx_err *err)
{
    const char *const topics[2] = {log->topic, log->kick_topic};
    static const struct dbx_kafka_handlers live = {on_live_message, on_live_eof,
                                                   on_live_out_of_range, on_live_starved};
    static const struct dbx_kafka_handlers replay = {on_replay_message, on_replay_eof,
                                                     on_replay_out_of_range, on_replay_starved};
    log->live = dbx_kafka_consumer_new(&log->opts, topics, 2, LIVE_WAIT_MS, &live, log, err);
    if (!log->live)
        return -EIO;
    for (int i = 0; i < OLK_KICK_PARTITIONS; i++) {
        int r = dbx_kafka_assign(log->live, OLK_TOPIC_KICK, i, DBX_KAFKA_END, err);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < OLK_REPLAY_CLIENTS; i++) {
        log->replays[i].consumer = dbx_kafka_consumer_new(&log->opts, topics, 2, REPLAY_WAIT_MS,
                                                          &replay, &log->replays[i], err);
        if (!log->replays[i].consumer)
            return -EIO;
    }
    return 0;
}

struct dbx_olog_reader *olk_follow(struct dbx_olog *head, const struct dbx_id *key, int64_t from,
                                   const struct dbx_olog_reader_handlers *h, void *user)
{
    struct olk *log = (struct olk *)head;
    struct olk_reader *r = DBX_NEW(struct olk_reader);
    /* A writer that reads as well; a reader made its consumers when it was opened. */
    if (!log->live && olk_start_reading(log, &log->read_err) < 0)
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

void olk_resume(struct dbx_olog_reader *head)
{
    struct olk_reader *r = (struct olk_reader *)head;
    if (r->state == OLK_HELD) {
        ask_live(r);
        set_state(r, OLK_PLACING);
    }
}

void olk_catch_up(struct dbx_olog_reader *head)
{
    ask_live((struct olk_reader *)head);
}

struct dbx_olog_reader *olk_reader_free(struct dbx_olog_reader *head)
{
    struct olk_reader *r = (struct olk_reader *)head;
    struct olk *log = r->log;
    enter(log);
    set_state(r, OLK_DEAD);
    leave(log);
    return NULL;
}

void olk_readers_init(struct olk *log)
{
    dbx_list_init(&log->incoming);
    dbx_list_init(&log->waiting);
    dbx_list_init(&log->lost);
    dbx_list_init(&log->graveyard);
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++)
        dbx_list_init(&log->tails[i].live);
    for (size_t i = 0; i < OLK_REPLAY_CLIENTS; i++) {
        log->replays[i].log = log;
        dbx_list_init(&log->replays[i].readers);
    }
    log->kick_timer = dbx_timer_new(log->loop, on_kick_timer, log);
}

static void free_all(struct dbx_list *readers)
{
    while (!dbx_list_empty(readers))
        free_now(dbx_list_first(readers, struct olk_reader, node));
}

void olk_readers_done(struct olk *log)
{
    dbx_assert(log->depth == 0);
    stop_reading(log);
    for (size_t i = 0; i < OLK_REPLAY_CLIENTS; i++)
        free_all(&log->replays[i].readers);
    for (uint32_t i = 0; i < DBX_LOG_PARTITIONS; i++)
        free_all(&log->tails[i].live);
    free_all(&log->incoming);
    free_all(&log->waiting);
    free_all(&log->lost);
    free_all(&log->graveyard);
    log->kick_timer = dbx_timer_free(log->kick_timer);
    dbx_loop_undefer(log->loop, pump, log);
}
