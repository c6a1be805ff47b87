/* SPDX-License-Identifier: Apache-2.0 */
/* The output log: 64 partitions, each an ordered sequence of (key, value) entries with growing
 * offsets. One interface, two back ends: append-only segment files (one writer process a folder,
 * many reader processes), and Kafka (many writers). Keys are sandbox ids, values are output records
 * (record.h), opaque here. Design: the heads of output_log_file.c and output_log_kafka.c. */
#pragma once

#include "common/base/err.h"
#include "common/proto/id.h"

#define DBX_LOG_PARTITIONS 64
#define DBX_LOG_MAX_VALUE (2u << 20)

struct dbx_loop;
struct dbx_olog;
struct dbx_olog_reader;

struct dbx_olog_opts {
    struct dbx_loop *loop;
    /* "file:DIR", or
     * "kafka:HOST:PORT,...[?topic=T&properties=FILE&replication=N&retention_hours=N]" */
    const char *url;
    bool writer;
    uint64_t segment_bytes; /* these three are of files; segments: default 64 MiB */
    uint64_t retain_bytes;  /* per log, default 8 GiB; 0: none */
    uint64_t retain_ms;     /* default 24 h; 0: none */
};

int dbx_olog_open(const struct dbx_olog_opts *opts, struct dbx_olog **ret,
                  struct dbx_err *err) DBX_MUST_USE;
/* Not in a callback of the log; its readers are freed before. */
struct dbx_olog *dbx_olog_close(struct dbx_olog *log);
uint32_t
dbx_olog_partition(const struct dbx_id *key); /* FNV-1a of the 16 bytes, modulo the count */

/* Called exactly once, never before append returned, in order within a partition. offset: of the
 * entry. */
typedef void dbx_olog_acked(int64_t offset, const struct dbx_err *err, void *user);
/* Value in two pieces. 0: accepted, fn will be called. -EAGAIN: full, nothing was taken; on_room
 * tells when to try again. */
int dbx_olog_append(struct dbx_olog *log, const struct dbx_id *key, const void *head,
                    size_t head_len, const void *data, size_t len, dbx_olog_acked *fn, void *user);
void dbx_olog_on_room(struct dbx_olog *log, void (*fn)(void *user), void *user);

/* Offsets of a partition: the oldest still there, and the one the next entry will get. Cheap and
 * local. Files: exact. Kafka: as last heard, up to a second ago, so both may be too low: good as a
 * place to read from; whether something stands in the log is what on_live tells. */
int dbx_olog_bounds(struct dbx_olog *log, uint32_t partition, int64_t *ret_oldest,
                    int64_t *ret_next, struct dbx_err *err) DBX_MUST_USE;

/* Who keeps the partition has not answered for about three seconds: what is written to it waits,
 * and comes when he is back. Never for files. */
bool dbx_olog_away(struct dbx_olog *log, uint32_t partition);
/* fn: some partition went away or came back. */
void dbx_olog_on_away(struct dbx_olog *log, void (*fn)(void *user), void *user);

struct dbx_olog_entry {
    int64_t offset, next; /* next: where reading goes on after it */
    const uint8_t *value; /* valid during the call */
    size_t len;
};
struct dbx_olog_reader_handlers {
    /* Entries of one key, in order. Return false to be held back: the entry counts as not delivered
     * and comes again after dbx_olog_resume. */
    bool (*on_entry)(const struct dbx_olog_entry *e, void *user);
    /* The wanted offset is gone; reading goes on at oldest. */
    void (*on_truncated)(int64_t wanted, int64_t oldest, void *user);
    /* Everything was given that stood in the log when dbx_olog_follow, dbx_olog_resume or
     * dbx_olog_catch_up was called last; once for each such call that nothing followed. next: all
     * before it was given. May be NULL. */
    void (*on_live)(int64_t next, void *user);
    void (*on_error)(const struct dbx_err *err, void *user); /* the reader is dead; free it */
};
/* Follows a key from an offset of its partition on, for ever. Never calls back before it has
 * returned. May be freed in its own callback. Many readers of one partition share the file reads
 * while they are live. */
struct dbx_olog_reader *dbx_olog_follow(struct dbx_olog *log, const struct dbx_id *key,
                                        int64_t from, const struct dbx_olog_reader_handlers *h,
                                        void *user);
void dbx_olog_resume(struct dbx_olog_reader *r);
void dbx_olog_catch_up(struct dbx_olog_reader *r); /* asks for on_live */
struct dbx_olog_reader *dbx_olog_reader_free(struct dbx_olog_reader *r);
