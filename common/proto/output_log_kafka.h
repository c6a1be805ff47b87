/* SPDX-License-Identifier: Apache-2.0 */
/* The Kafka back end's own: see the heads of output_log_kafka*.c. Included by those only. */
#pragma once

#include "common/base/list.h"
#include "common/ext/kafka.h"
#include "common/proto/output_log_int.h"

#define OLK_REPLAY_CLIENTS 3
#define OLK_KICK_PARTITIONS 3

enum { OLK_TOPIC_OUTPUT, OLK_TOPIC_KICK };
enum olk_state { OLK_PLACING, OLK_REPLAY, OLK_LIVE, OLK_HELD, OLK_LOST, OLK_DEAD };

struct olk;
struct olk_replay;

struct olk_tail {
    struct dbx_list live;
    bool assigned;
    bool heard; /* anything since it was assigned */
    bool away;
    unsigned kicks;
    int64_t pos; /* the next offset the live consumer will give */
};

struct olk_reader {
    struct dbx_olog_reader head;
    struct dbx_list node; /* in incoming, waiting, lost, a tail's live, a replay's, or alone */
    struct olk *log;
    enum olk_state state;
    struct olk_replay *replay; /* who serves it, in REPLAY */
    uint32_t partition;
    struct dbx_id key;
    int64_t pos;
    uint64_t ticket;      /* in LOST: the question for the bounds */
    uint64_t live_ticket; /* the question for the end that on_live is about */
    bool told_live;
    struct dbx_olog_reader_handlers h;
    void *user;
};

struct olk_replay {
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
    struct olk_replay replays[OLK_REPLAY_CLIENTS];
    struct dbx_kafka_offsets *offsets;
    struct olk_tail tails[DBX_LOG_PARTITIONS];
    struct dbx_list incoming, waiting, lost, graveyard;
    unsigned depth;
    bool pump_queued;
    struct dbx_timer *kick_timer;
    void (*room_fn)(void *user);
    void *room_user;
    void (*away_fn)(void *user);
    void *away_user;
};

/* Readers: output_log_kafka_reader.c. */
void olk_readers_init(struct olk *log);
int olk_start_reading(struct olk *log, struct dbx_err *err);
void olk_readers_done(struct olk *log); /* frees what was not */
void olk_on_bounds(struct olk *log);    /* the offsets' thread has asked for the bounds */
struct dbx_olog_reader *olk_follow(struct dbx_olog *head, const struct dbx_id *key, int64_t from,
                                   const struct dbx_olog_reader_handlers *h, void *user);
void olk_resume(struct dbx_olog_reader *head);
void olk_catch_up(struct dbx_olog_reader *head);
struct dbx_olog_reader *olk_reader_free(struct dbx_olog_reader *head);
