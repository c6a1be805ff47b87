/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon's files share. */
#pragma once

#include "common/base/log.h"
#include "registry-cache/links.h"
#include "registry-cache/store.h"
#include "registry-cache/transform.h"
#include "registry-cache/upstream.h"

struct dbx_http_client;
struct dbx_http_req;
struct dbx_httpd;
struct dbx_keyring;
struct dbx_map;
struct dbx_metric;
struct dbx_timer;

struct rc_config {
    char *listen, *socket, *dir, *upstreams, *rules, *public_base, *log_level, *log_format, *keys;
    uint64_t max_bytes, max_refs, max_object, max_document, max_fills, max_connections;
    uint64_t fresh_s, swr_s, sie_s, negative_ms, stall_ms, document_ms, object_ms;
    bool offline, fsck;
};

struct rc_metrics {
    struct dbx_metric *requests[RC_ECOS][4]; /* by enum rc_how */
    struct dbx_metric *fetches[RC_ECOS], *fetch_failed[RC_ECOS], *lies[RC_ECOS];
    struct dbx_metric *received, *fetch_seconds, *derive_seconds, *fills, *refused;
    struct dbx_metric *bytes, *blobs, *refs, *evicted, *torn, *connections;
};

struct rc {
    struct dbx_loop *loop;
    const struct rc_config *cfg;
    struct rc_store *store;
    struct rc_upstreams ups;
    struct rc_rules *rules;
    struct dbx_http_client *client;
    struct dbx_httpd *admin, *sandboxes;
    struct dbx_keyring *keys; /* of daemons that put blobs; NULL: nobody may */
    struct dbx_map *fills;    /* key -> struct rc_fill */
    struct dbx_map *derives;  /* key -> struct rc_derive */
    struct dbx_map *absent;   /* key -> struct absence, for a moment */
    struct dbx_list absences;
    struct rc_metrics metrics;
};

/* Why something cannot be had, as the client is told. */
struct rc_problem {
    int status;
    char words[224];
};
void rc_problem_set(struct rc_problem *p, int status, const char *fmt, ...) DBX_PRINTF(3, 4);

/* Somebody waits for something that is being fetched or made. */
struct rc_wait {
    struct dbx_list node; /* initialised by its owner; in no list: waits for nothing */
    /* The ref, valid now only; or why there is none. Called once, unless cancelled. */
    void (*done)(struct rc_wait *w, struct rc_ref *ref, const struct rc_problem *p);
    /* Of a fill, when there is more to show (fill.h); then done tells of a failure only. May be
     * NULL. */
    void (*more)(struct rc_wait *w);
};
static inline void rc_wait_cancel(struct rc_wait *w)
{
    dbx_list_remove(&w->node);
}
/* Tells and empties the list. */
void rc_waits_tell(struct dbx_list *waits, struct rc_ref *ref, const struct rc_problem *p);

/* What is wanted from upstream. Copied. */
struct rc_want {
    const char *key;
    enum rc_kind kind;
    enum rc_eco eco;
    const char *path;   /* below the ecosystem's upstreams, without '/' in front; or NULL */
    const char *url;    /* absolute, as metadata told it; or NULL */
    const char *accept; /* or NULL */
    bool gzip;          /* may come packed */
    bool no_upstream;   /* only what is here: a private name */
    struct rc_digest expect;
};

int64_t rc_wall_s(void);
