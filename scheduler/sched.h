/* SPDX-License-Identifier: Apache-2.0 */
/* What the scheduler's files share. One struct sched a process; what a reign consists of (core,
 * batches) is made when it takes the lead and thrown away when it loses it. */
#pragma once

#include "common/base/log.h"
#include "common/proto/limits.h"
#include "scheduler/core.h"

struct dbx_blobs;
struct dbx_httpd;
struct dbx_jw;
struct dbx_keyring;
struct dbx_link;
struct dbx_link_msg;
struct dbx_loop;
struct dbx_map;
struct dbx_metric;
struct dbx_pg;
struct dbx_pg_result;
struct dbx_timer;
struct sched_hello;
struct sched_leader;
struct sched_news;
struct sched_report;
struct sched_store;

struct sched_config {
    char *listen, *database, *keys, *log_level, *log_format, *blobs, *blob_keys_file, *ca_file;
    uint64_t lease_ms, heartbeat_ms, scan_ms, max_queue, migrate_wait_ms, sweep_ms, blob_grace_ms;
    uint64_t guest_days, audit_days, output_days; /* 0: they stay */
};

struct sched_metrics {
    struct dbx_metric *leading, *queue, *open, *nodes, *placed, *refused, *lost, *retried, *commits,
        *committed, *wait;
    struct dbx_metric *ended[DBX_V_INTERNAL + 1];
};

struct sched {
    struct dbx_loop *loop;
    const struct sched_config *cfg;
    struct dbx_keyring *keys;
    struct dbx_pg *pg;
    struct dbx_httpd *httpd;
    struct sched_leader *leader;
    struct sched_news *news;
    struct sched_metrics metrics;

    /* Links; they outlive a reign by a moment. */
    struct dbx_list conns;
    struct dbx_map *conn_by_id;
    uint64_t last_conn;

    /* The reign. Callbacks that outlive it carry its number. */
    uint64_t reign;
    int64_t epoch;
    bool leading; /* everything is read; links are welcome, writes allowed */
    bool loading; /* the lead is ours, the database is being read */
    struct sched_core *core;
    struct sched_store *store;
    struct dbx_timer *tick, *scan;
    uint64_t last_touch, last_sweep;
    struct dbx_blobs *blobs; /* NULL: none; it is only read */
    char blob_cursor[65];    /* where the next look for garbage begins */
    bool looking_for_garbage;
    uint64_t last_ask;
    bool pump_due, scanning;
    bool listing, list_again, feeding, feed_due; /* batches: feed.c */
    bool standing, stand_again;                  /* standby.c: the database is asked; once more */
};

/* One link to a gateway or a node. */
struct sched_conn {
    uint32_t magic;
    uint64_t id;
    struct sched *s;
    struct dbx_link *link;
    bool gateway;
    char label[65];
    struct sched_node
        *node; /* borrowed from the core; NULL before hello, and when it was taken from it */
    struct dbx_list _conn;
};

/* Where an answer goes: by id, for the link may be gone by then. */
struct sched_target {
    uint64_t conn;
    int64_t rid;
};

/* ---- reign.c: the lead, from taking to losing it ---- */
void sched_reign_begin(struct sched *s, int64_t epoch);
void sched_reign_end(struct sched *s, const char *why);
/* No write from now on; the rest of the end comes when the current callback has returned. */
void sched_depose(struct sched *s, const char *why);

/* A row of the database into the core, unless it is there. */
void sched_use_row(struct sched *s, const struct dbx_pg_result *res, size_t i, bool placed);

/* ---- feed.c: batches, from the database to the queue ---- */
void sched_batches_look(struct sched *s); /* something may have changed about them */
void sched_batches_feed(struct sched *s); /* one of theirs has left the core */

/* ---- standby.c: sandboxes that are wanted before any process ---- */
void sched_standby_look(struct sched *s); /* there may be new ones */

/* ---- sweep.c ---- */
void sched_sweep(struct sched *s);   /* once in sweep_ms, however often it is called */
void sched_garbage(struct sched *s); /* nothing while the last one is at it */

/* ---- links.c ---- */
struct sched_conn *sched_conn_find(const struct sched *s, uint64_t id);
struct sched_conn *sched_conn_new(struct sched *s, bool gateway, const char *label);
void sched_conns_drop(struct sched *s, const char *reason);
void sched_reply_ok(struct sched *s, const struct sched_target *t);
typedef void sched_fill(struct dbx_jw *w, void *arg);
void sched_tell_gateways(struct sched *s, const char *op, sched_fill *fill, void *arg);

/* ---- gateways.c, node_link.c: one message ---- */
void sched_gateway_msg(struct sched_conn *cn, const struct dbx_link_msg *m);
void sched_node_msg(struct sched_conn *cn, const struct dbx_link_msg *m);
void sched_node_files(struct sched_conn *cn, const struct dbx_link_msg *m); /* files.c */
int sched_node_files_since(struct sched_conn *cn, const struct dbx_link_msg *m,
                           struct dbx_err *err) DBX_MUST_USE; /* news.c */
struct sched_news *sched_news_new(struct sched *s);
struct sched_news *sched_news_free(struct sched_news *nw);
void sched_node_expire(struct sched *s, uint64_t now);
void sched_node_end_sandbox(struct sched *s, const struct sched_node *node,
                            const struct dbx_id *sandbox);
/* No node has it (any more). */
void sched_box_ended(struct sched *s, const struct dbx_id *sandbox, const char *why);
void sched_node_save(struct sched *s, const struct sched_node *node,
                     const char *version); /* "": as it is */
