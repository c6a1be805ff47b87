/* SPDX-License-Identifier: Apache-2.0 */
/* A fill's life: FETCHING (with redirects, and one upstream after the other) -> COMMITTING
 * (verified; the bytes are on their way to the disk) -> gone. */
#include "registry-cache/fill.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/map.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/io/address.h"
#include "common/io/http_client.h"
#include "common/io/loop.h"
#include "registry-cache/freshness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define FILL_MAGIC 0x46696c6c
#define MAX_HOPS 5
#define MAX_REFUSAL (1u << 20) /* of a body that we throw away */
#define SHOW_FROM (32u << 10)  /* smaller ones are shown when they are verified */
#define BREAKER 3              /* failures in a row */
#define BREAKER_MS 10000
#define MAX_ABSENT 4096

enum state { FETCHING, COMMITTING };

struct rc_fill {
    uint32_t magic;
    struct rc *rc;
    char *key, *path, *accept;
    struct rc_want want; /* its strings are the above */
    enum state state;
    size_t upstream; /* which of the ecosystem's */
    struct rc_url at;
    bool own; /* at is our upstream's own origin */
    unsigned hops;
    struct dbx_fetch *fetch;
    uint64_t begun_ms;

    struct rc_temp temp;
    bool receiving, gzip, html;
    uint64_t filled;
    int64_t total;
    struct dbx_hash *sha256, *other;
    uint8_t digest[DBX_HASH_MAX];
    struct rc_ref *made; /* what will be put when the bytes are safe */
    struct dbx_list waits;
};

/* --- what is not there --- */

struct absence {
    struct dbx_list node;
    char *key;
    uint64_t until_ms;
    struct rc_problem problem;
};

static void absence_free(struct rc *rc, struct absence *a)
{
    (void)dbx_map_del(rc->absent, a->key, strlen(a->key));
    dbx_list_remove(&a->node);
    free(a->key);
    free(a);
}

static void remember_absent(struct rc *rc, const char *key, const struct rc_problem *p)
{
    struct absence *a = DBX_MAP_GET_STR(rc->absent, key);

    if (a)
        absence_free(rc, a);
    if (dbx_map_count(rc->absent) >= MAX_ABSENT)
        absence_free(rc, dbx_list_first(&rc->absences, struct absence, node));
    a = DBX_NEW(struct absence);
    a->key = dbx_strdup(key);
    a->until_ms = dbx_now_ms() + rc->cfg->negative_ms;
    a->problem = *p;
    dbx_list_push(&rc->absences, &a->node);
    (void)dbx_map_put(rc->absent, key, strlen(key), a);
}

static bool is_absent(struct rc *rc, const char *key, struct rc_problem *ret)
{
    struct absence *a = DBX_MAP_GET_STR(rc->absent, key);

    if (a && a->until_ms <= dbx_now_ms()) {
        absence_free(rc, a);
        a = NULL;
    }
    if (a)
        *ret = a->problem;
    return a != NULL;
}

/* --- the end --- */

static void show_later(void *user);

static void fill_free(struct rc_fill *f)
{
    dbx_loop_undefer(f->rc->loop, show_later, f);
    (void)dbx_map_del(f->rc->fills, f->key, strlen(f->key));
    dbx_metric_set(f->rc->metrics.fills, (double)dbx_map_count(f->rc->fills));
    rc_store_discard(f->rc->store, &f->temp);
    dbx_hash_free(f->sha256);
    dbx_hash_free(f->other);
    rc_ref_free(f->made);
    free(f->key);
    free(f->path);
    free(f->accept);
    f->magic = 0;
    free(f);
}

static void fill_fail(struct rc_fill *f, const struct rc_problem *p)
{
    struct dbx_list waits;

    dbx_metric_add(f->rc->metrics.fetch_failed[f->want.eco], p->status == 404 ? 0 : 1);
    dbx_list_init(&waits);
    if (!dbx_list_empty(&f->waits)) {
        waits = f->waits;
        waits.next->prev = waits.prev->next = &waits;
        dbx_list_init(&f->waits);
    }
    fill_free(f); /* who is told may begin a new one */
    rc_waits_tell(&waits, NULL, p);
}

static void fail_words(struct rc_fill *f, int status, const char *words)
{
    struct rc_problem p;

    rc_problem_set(&p, status, "%s", words);
    fill_fail(f, &p);
}

/* --- committing --- */

static void on_committed(int result, void *user)
{
    struct rc_fill *f = DBX_CAST(struct rc_fill, FILL_MAGIC, user);
    struct rc_ref *ref = result == 0 ? rc_store_put(f->rc->store, f->made) : NULL;
    struct dbx_list waits;

    if (result < 0)
        dbx_log(DBX_LOG_ERR, NULL, "cannot keep %s: %s", f->key, strerror(-result));
    if (!ref) {
        fail_words(f, 503, "the cache cannot store this now");
        return;
    }
    dbx_list_init(&waits);
    if (!dbx_list_empty(&f->waits)) {
        waits = f->waits;
        waits.next->prev = waits.prev->next = &waits;
        dbx_list_init(&f->waits);
    }
    fill_free(f);
    rc_waits_tell(&waits, ref, NULL);
}

/* They may cancel themselves, not each other. */
static void show_more(struct rc_fill *f)
{
    struct dbx_list *it, *tmp;

    dbx_list_each(it, tmp, &f->waits)
    {
        struct rc_wait *w = dbx_list_entry(it, struct rc_wait, node);
        if (w->more)
            w->more(w);
    }
}

static void show_later(void *user)
{
    struct rc_fill *f = DBX_CAST(struct rc_fill, FILL_MAGIC, user);

    show_more(f);
}

static bool verified(struct rc_fill *f)
{
    const struct rc_ref *known = rc_store_find(f->rc->store, f->key, /* bytes= */ false);
    const struct rc_digest *want = &f->want.expect;
    uint8_t other[DBX_HASH_MAX];

    dbx_hash_final(f->sha256, f->digest);
    if (f->other)
        dbx_hash_final(f->other, other);
    if (want->known &&
        memcmp(f->other ? other : f->digest, want->bytes, dbx_hash_len(want->kind)) != 0)
        return false;
    return !known || known->kind != RC_FIXED || memcmp(known->digest, f->digest, RC_DIGEST) == 0;
}

static const char *header(struct rc_fill *f, const char *name, size_t max)
{
    const char *value = dbx_fetch_header(f->fetch, name);

    return value && strlen(value) <= max ? value : "";
}

static void describe(struct rc_fill *f, struct rc_ref *ref)
{
    rc_freshness(f->rc->cfg, dbx_fetch_header(f->fetch, "cache-control"), ref);
    ref->fetched_s = rc_wall_s();
}

static void commit(struct rc_fill *f)
{
    DBX_CLEANUP(dbx_freep) char *url = rc_url_text(&f->at);
    struct rc_ref ref = {.key = f->key,
                         .kind = f->want.kind,
                         .size = f->filled,
                         .gzip = f->gzip,
                         .html = f->html,
                         .etag = (char *)header(f, "etag", 512),
                         .url = url};

    DBX_CLEANUP(dbx_freep) char *modified = dbx_strdup(header(f, "last-modified", 64));
    ref.modified = modified;
    memcpy(ref.digest, f->digest, RC_DIGEST);
    describe(f, &ref);
    f->made = rc_ref_copy(&ref);
    f->state = COMMITTING;
    f->total = (int64_t)f->filled;
    int fd = f->temp.fd; /* who is shown it needs it while the store has its own */
    struct rc_temp own = {.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3), .id = f->temp.id};
    if (own.fd < 0) {
        fail_words(f, 503, "the cache has run out of descriptors");
        return;
    }
    show_more(f);
    rc_store_commit(f->rc->store, &own, f->digest, f->filled, on_committed, f);
}

static void lied(struct rc_fill *f)
{
    DBX_CLEANUP(dbx_freep) char *url = rc_url_text(&f->at);

    dbx_metric_add(f->rc->metrics.lies[f->want.eco], 1);
    dbx_log(DBX_LOG_ERR, NULL,
            "%s: what %s sent is not what its metadata, or an earlier copy, says", f->key, url);
    fail_words(f, 502, "upstream sent something else than its metadata, or an earlier copy, says");
}

/* --- receiving --- */

static int open_temp(struct rc_fill *f)
{
    int r = f->temp.fd < 0 ? rc_store_temp(f->rc->store, &f->temp) : 0;

    if (r == 0 && f->filled && ftruncate(f->temp.fd, 0) < 0)
        r = -errno;
    f->filled = 0;
    dbx_hash_free(f->sha256);
    f->other = dbx_hash_free(f->other);
    f->sha256 = dbx_hash_new(DBX_HASH_SHA256);
    if (f->want.expect.known && f->want.expect.kind != DBX_HASH_SHA256)
        f->other = dbx_hash_new(f->want.expect.kind);
    return r;
}

static uint64_t limit_of(const struct rc_fill *f)
{
    return f->want.kind == RC_FIXED ? f->rc->cfg->max_object : f->rc->cfg->max_document;
}

/* The head of a 200 is here. */
static int begin_receiving(struct rc_fill *f, struct dbx_fetch *fetch)
{
    const char *encoding = dbx_fetch_header(fetch, "content-encoding");
    const char *type = dbx_fetch_header(fetch, "content-type");
    const char *length = dbx_fetch_header(fetch, "content-length");
    uint64_t total;

    f->receiving = true;
    f->html = type && strncasecmp(type, "text/html", 9) == 0;
    if (type && strncasecmp(type, "application/vnd.pypi.simple.v1+html", 35) == 0)
        f->html = true;
    f->gzip = encoding && strcasecmp(encoding, "gzip") == 0;
    if ((f->gzip && !f->want.gzip) ||
        (encoding && !f->gzip && strcasecmp(encoding, "identity") != 0))
        return -EPROTO;
    f->total = -1;
    if (length && dbx_parse_u64(length, strlen(length), 0, INT64_MAX, &total) == 0)
        f->total = (int64_t)total;
    if (f->total > (int64_t)limit_of(f))
        return -E2BIG;
    return open_temp(f);
}

static int on_data(struct dbx_fetch *fetch, const void *data, size_t len, void *user)
{
    struct rc_fill *f = DBX_CAST(struct rc_fill, FILL_MAGIC, user);
    int r = 0;

    if (dbx_fetch_status(fetch) != 200) {
        f->filled += len;
        return f->filled > MAX_REFUSAL ? -E2BIG : 0;
    }
    if (!f->receiving)
        r = begin_receiving(f, fetch);
    if (r == 0)
        r = dbx_write_all(f->temp.fd, data, len);
    if (r < 0)
        return r;
    dbx_hash_update(f->sha256, data, len);
    if (f->other)
        dbx_hash_update(f->other, data, len);
    f->filled += len;
    dbx_metric_add(f->rc->metrics.received, (double)len);
    if (f->want.kind == RC_FIXED && f->filled >= SHOW_FROM)
        show_more(f);
    return 0;
}

/* --- asking --- */

static void ask(struct rc_fill *f);

static struct rc_upstream *upstream(struct rc_fill *f)
{
    return &f->rc->ups.of[f->want.eco][f->upstream];
}

static bool may_connect(const struct sockaddr *addr, void *user)
{
    struct rc_fill *f = DBX_CAST(struct rc_fill, FILL_MAGIC, user);

    return f->own || dbx_address_public(addr);
}

/* Whose word counts is our upstream's alone; where it points to may be anywhere public. */
static bool is_own(const struct rc_fill *f, const struct rc_url *at)
{
    for (size_t i = 0; i < f->rc->ups.n[f->want.eco]; i++)
        if (rc_url_same_origin(at, &f->rc->ups.of[f->want.eco][i].url))
            return true;
    return rc_upstreams_trust(&f->rc->ups, at->host);
}

static bool next_upstream(struct rc_fill *f)
{
    if (!f->path || f->upstream + 1 >= f->rc->ups.n[f->want.eco])
        return false;
    f->upstream++;
    f->hops = 0;
    ask(f);
    return true;
}

static void redirected(struct rc_fill *f)
{
    const char *location = dbx_fetch_header(f->fetch, "location");
    struct rc_url to;

    if (!location || rc_url_resolve(&f->at, location, &to) < 0 || ++f->hops > MAX_HOPS ||
        (f->at.https && !to.https)) {
        fail_words(f, 502, "upstream redirects to where we do not go");
        return;
    }
    f->at = to;
    ask(f);
}

static void unchanged(struct rc_fill *f)
{
    struct rc_ref *ref = rc_store_find(f->rc->store, f->key, /* bytes= */ true);

    if (!ref) { /* evicted while we asked */
        fail_words(f, 503, "the cache has lost this meanwhile; ask again");
        return;
    }
    f->made = rc_ref_copy(ref);
    describe(f, f->made);
    on_committed(0, f);
}

/* After some in a row it is left alone for a while: nobody waits for what does not come. */
static void count_failure(struct rc_fill *f)
{
    struct rc_upstream *up = upstream(f);

    if (f->own && ++up->failures >= BREAKER)
        up->down_until_ms = dbx_now_ms() + BREAKER_MS;
}

static void answered(struct rc_fill *f, int status)
{
    struct rc_problem p;

    if (status >= 500)
        count_failure(f);
    else
        upstream(f)->failures = 0;
    switch (status) {
    case 200:
        if (!f->receiving && begin_receiving(f, f->fetch) < 0)
            fail_words(f, 502, "upstream's answer cannot be used");
        else if (!verified(f))
            lied(f);
        else
            commit(f);
        return;
    case 304:
        unchanged(f);
        return;
    case 301:
    case 302:
    case 303:
    case 307:
    case 308:
        redirected(f);
        return;
    case 404:
    case 410:
    case 451:
        if (next_upstream(f))
            return;
        rc_problem_set(&p, status == 451 ? 451 : 404, "upstream has nothing of that name");
        remember_absent(f->rc, f->key, &p);
        if (f->want.kind == RC_SOURCE)
            rc_store_drop(f->rc->store, f->key);
        fill_fail(f, &p);
        return;
    case 401:
    case 403:
        fail_words(f, 403, "upstream refuses to give this");
        return;
    default:
        rc_problem_set(&p, status == 429 ? 503 : 502, "upstream answered with status %d", status);
        fill_fail(f, &p);
    }
}

static void failed(struct rc_fill *f, const struct dbx_err *err)
{
    struct rc_problem p;

    if (err->code == -E2BIG)
        rc_problem_set(&p, 502, "upstream's answer is larger than is allowed");
    else if (err->code == -EPROTO)
        rc_problem_set(&p, 502, "upstream's answer is encoded in a way that was not asked for");
    else if (err->code == -EACCES)
        rc_problem_set(
            &p, 502, "upstream points to an address that is not public, or its certificate is bad");
    else if (err->code == -ENOSPC || err->code == -EDQUOT)
        rc_problem_set(&p, 503, "the cache's disk is full");
    else if (err->kind == DBX_TIMEOUT)
        rc_problem_set(&p, 504, "upstream is too slow");
    else
        rc_problem_set(&p, 502, "upstream cannot be reached, or broke off");
    if (err->kind == DBX_TIMEOUT || err->kind == DBX_UNAVAIL)
        count_failure(f);
    dbx_log(DBX_LOG_WARN, NULL, "%s from %s: %s", f->key, f->at.host, err->msg);
    fill_fail(f, &p);
}

static void on_fetched(struct dbx_fetch *fetch, const struct dbx_fetch_result *result, void *user)
{
    struct rc_fill *f = DBX_CAST(struct rc_fill, FILL_MAGIC, user);
    const struct rc_metrics *m = &f->rc->metrics;

    dbx_metric_observe(m->fetch_seconds, (double)(dbx_now_ms() - f->begun_ms) / 1000);
    f->fetch = fetch; /* for its headers; it is gone when we return */
    if (result->err && result->err->code == -ECANCELED)
        fail_words(f, 503, "the cache is going away");
    else if (result->err)
        failed(f, result->err);
    else
        answered(f, result->status);
}

static size_t put_headers(struct rc_fill *f, const char *headers[static 8], char **validator)
{
    const struct rc_ref *known =
        f->want.kind == RC_SOURCE ? rc_store_find(f->rc->store, f->key, /* bytes= */ true) : NULL;
    size_t n = 0;

    headers[n++] = "User-Agent: devbox-registry-cache/" DBX_VERSION;
    headers[n++] = f->want.gzip ? "Accept-Encoding: gzip" : "Accept-Encoding: identity";
    if (f->accept)
        headers[n++] = f->accept;
    if (f->own && upstream(f)->auth && rc_url_same_origin(&f->at, &upstream(f)->url))
        headers[n++] = upstream(f)->auth;
    if (known && known->etag[0])
        *validator = dbx_asprintf("If-None-Match: %s", known->etag);
    else if (known && known->modified[0])
        *validator = dbx_asprintf("If-Modified-Since: %s", known->modified);
    if (*validator)
        headers[n++] = *validator;
    headers[n] = NULL;
    return n;
}

static void fetch_it(struct rc_fill *f)
{
    DBX_CLEANUP(dbx_freep) char *url = rc_url_text(&f->at), *validator = NULL;
    const struct rc_config *cfg = f->rc->cfg;
    const char *headers[8];

    f->own = is_own(f, &f->at);
    (void)put_headers(f, headers, &validator);
    struct dbx_fetch_opts opts = {
        .url = url,
        .headers = headers,
        .max_response = limit_of(f),
        .timeout_ms = (uint32_t)(f->want.kind == RC_FIXED ? cfg->object_ms : cfg->document_ms),
        .stall_ms = (uint32_t)cfg->stall_ms,
        .on_data = on_data,
        .may_connect = may_connect,
    };
    f->receiving = false;
    f->filled = 0;
    f->begun_ms = dbx_now_ms();
    dbx_metric_add(f->rc->metrics.fetches[f->want.eco], 1);
    f->fetch = dbx_fetch(f->rc->client, &opts, on_fetched, f);
}

/* The address at the upstream whose turn it is. */
static void ask(struct rc_fill *f)
{
    if (f->path && f->hops == 0) {
        const struct rc_url *base = &upstream(f)->url;
        DBX_CLEANUP(dbx_freep) char *all = dbx_asprintf("%s/%s", base->path, f->path);
        f->at = *base;
        dbx_assert(dbx_strcpy(f->at.path, sizeof(f->at.path), all)); /* both are bounded */
    }
    fetch_it(f);
}

/* --- beginning --- */

static int may_begin(struct rc *rc, const struct rc_want *want, struct rc_problem *ret_p)
{
    const struct rc_upstream *up = &rc->ups.of[want->eco][0];

    if (want->no_upstream) {
        rc_problem_set(ret_p, 404, "this name is private, and is not here");
        return -ENOENT;
    }
    if (is_absent(rc, want->key, ret_p))
        return -ENOENT;
    if (!rc->ups.n[want->eco])
        rc_problem_set(ret_p, 503, "no upstream is configured for %s", rc_eco_names[want->eco]);
    else if (rc->cfg->offline)
        rc_problem_set(ret_p, 503, "the cache is offline, and this is not in it");
    else if (up->down_until_ms > dbx_now_ms())
        rc_problem_set(ret_p, 503, "upstream cannot be reached");
    else if (dbx_map_count(rc->fills) >= rc->cfg->max_fills)
        rc_problem_set(ret_p, 503, "too much is being fetched; ask again");
    else
        return 0;
    return -EAGAIN;
}

static struct rc_fill *fill_new(struct rc *rc, const struct rc_want *want)
{
    struct rc_fill *f = DBX_NEW(struct rc_fill);

    f->magic = FILL_MAGIC;
    f->rc = rc;
    f->want = *want;
    f->key = dbx_strdup(want->key);
    f->path = want->path ? dbx_strdup(want->path) : NULL;
    f->accept = want->accept ? dbx_asprintf("Accept: %s", want->accept) : NULL;
    f->temp.fd = -1;
    f->total = -1;
    dbx_list_init(&f->waits);
    (void)dbx_map_put(rc->fills, f->key, strlen(f->key), f);
    dbx_metric_set(rc->metrics.fills, (double)dbx_map_count(rc->fills));
    return f;
}

int rc_fill_join(struct rc *rc, const struct rc_want *want, struct rc_wait *w,
                 struct rc_problem *ret_p)
{
    struct rc_fill *f = DBX_MAP_GET_STR(rc->fills, want->key);
    struct rc_url at;

    if (!f) {
        int r = may_begin(rc, want, ret_p);
        if (r < 0)
            return r;
        if (want->url && rc_url_parse(want->url, &at) < 0) {
            rc_problem_set(ret_p, 502, "upstream's metadata names an address that is none");
            return -EINVAL;
        }
        f = fill_new(rc, want);
        if (want->url)
            f->at = at;
        if (w)
            dbx_list_push(&f->waits, &w->node);
        ask(f);
        return 0;
    }
    if (w) {
        dbx_list_push(&f->waits, &w->node);
        if (w->more && (f->state == COMMITTING || f->filled >= SHOW_FROM)) {
            dbx_loop_undefer(rc->loop, show_later, f);
            dbx_loop_defer(rc->loop, show_later, f);
        }
    }
    return 0;
}

void rc_fill_view(const struct rc *rc, const char *key, struct rc_fill_view *ret)
{
    const struct rc_fill *f = DBX_MAP_GET_STR(rc->fills, key);

    memset(ret, 0, sizeof(*ret));
    ret->fd = -1;
    ret->total = -1;
    if (!f)
        return;
    ret->whole = f->state == COMMITTING;
    ret->fd = f->temp.fd;
    ret->total = f->total;
    ret->ready = ret->whole ? f->filled : f->filled ? f->filled - 1 : 0;
    ret->digest = f->digest;
}

void rc_fills_free(struct rc *rc)
{
    struct dbx_map_iter it = {0};

    while (!dbx_list_empty(&rc->absences))
        absence_free(rc, dbx_list_first(&rc->absences, struct absence, node));
    while (dbx_map_next(rc->fills, &it)) { /* only those whose commit did not come back */
        struct rc_fill *f = it.value;
        dbx_list_init(&f->waits);
        dbx_close(f->temp.fd);
        f->temp.fd = -1;
        fill_free(f);
    }
}
