/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/call.h"
#include "common/base/list.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/io/httpd.h"
#include "registry-cache/freshness.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALL_MAGIC 0x43616c6c
#define MAX_READ (64u << 20)
#define RETRY_S 10
#define QUEUE (192u << 10) /* of a streamed answer, as dbx_http_pending counts it */

static struct rc_call *cast(struct rc_call *c)
{
    return DBX_CAST(struct rc_call, CALL_MAGIC, c);
}

static struct rc_call *of_wait(struct rc_wait *w)
{
    return cast(dbx_list_entry(w, struct rc_call, wait));
}

void rc_problem_set(struct rc_problem *p, int status, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    p->status = status;
    (void)vsnprintf(p->words, sizeof(p->words), fmt, ap);
    va_end(ap);
}

void rc_waits_tell(struct dbx_list *waits, struct rc_ref *ref, const struct rc_problem *p)
{
    /* Whoever is told may put other things into the store, and so lose the ref for the next: a copy
     * would do for serving, but not for its blob. So it is looked up again by who needs it. */
    while (!dbx_list_empty(waits)) {
        struct rc_wait *w = dbx_list_first(waits, struct rc_wait, node);
        dbx_list_remove(&w->node);
        w->done(w, ref, p);
    }
}

/* --- life --- */

static void set(char **field, char *value)
{
    free(*field);
    *field = value;
}

void rc_call_end(struct rc_call *c)
{
    rc_wait_cancel(&c->wait);
    dbx_metric_add(c->rc->metrics.requests[c->rt.eco][c->how], 1);
    free(c->key);
    free(c->path);
    free(c->url);
    c->magic = 0;
    free(c);
}

static void on_abort(struct dbx_http_req *req, void *user)
{
    (void)req;
    rc_call_end(cast(user));
}

struct rc_call *rc_call_new(struct rc *rc, struct dbx_http_req *req, const struct rc_route *rt,
                            bool admin)
{
    struct rc_call *c = DBX_NEW(struct rc_call);

    c->magic = CALL_MAGIC;
    c->rc = rc;
    c->req = req;
    c->rt = *rt;
    c->admin = admin;
    c->type = "application/octet-stream";
    dbx_list_init(&c->wait.node);
    dbx_http_on_abort(req, on_abort, c);
    return c;
}

/* The shape of every error of DevBox; pip and npm show it, go prints the text. */
void rc_call_fail(struct rc_call *c, int status, const char *fmt, ...)
{
    static const struct dbx_header none[] = {{"Cache-Control", "no-store"}, {NULL, NULL}};
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf body = {.max = 4096};
    char words[256];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(words, sizeof(words), fmt, ap);
    va_end(ap);
    struct dbx_jw *w = dbx_jw_new(&body);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "error", words);
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    c->how = RC_ERROR;
    if (c->begun)
        dbx_http_fail(c->req);
    else
        dbx_http_reply(c->req, status, "application/json", none, body.data, r < 0 ? 0 : body.len);
    rc_call_end(c);
}

static void fail_with(struct rc_call *c, const struct rc_problem *p)
{
    rc_call_fail(c, p->status, "%s", p->words);
}

void rc_call_text(struct rc_call *c, int status, const char *type, const char *text, size_t len)
{
    dbx_http_reply(c->req, status, type, NULL, text, len);
    rc_call_end(c);
}

void rc_call_redirect(struct rc_call *c, const char *where)
{
    const struct dbx_header headers[] = {{"Location", where}, {NULL, NULL}};

    dbx_http_reply(c->req, 301, NULL, headers, NULL, 0);
    rc_call_end(c);
}

/* --- sources --- */

static bool asks(const struct rc_call *c)
{
    return !c->no_upstream && !c->rc->cfg->offline && c->rc->ups.n[c->rt.eco];
}

static void on_source(struct rc_wait *w, struct rc_ref *ref, const struct rc_problem *p)
{
    struct rc_call *c = of_wait(w);

    ref = rc_store_find(c->rc->store, c->key, /* bytes= */ true);
    if (!p && ref) {
        c->how = RC_MISS;
        c->next(c, ref);
    } else if (p && ref && p->status != 404 && rc_usable_on_error(ref, rc_wall_s())) {
        c->how = RC_STALE_HIT;
        c->next(c, ref);
    } else if (p) {
        fail_with(c, p);
    } else {
        rc_call_fail(c, 503, "the cache is too small for this");
    }
}

static void fetch_source(struct rc_call *c, const struct rc_want *want)
{
    struct rc_problem p;

    c->wait.done = on_source;
    c->wait.more = NULL;
    if (rc_fill_join(c->rc, want, &c->wait, &p) < 0)
        on_source(&c->wait, NULL, &p);
}

void rc_call_source(struct rc_call *c, char *key, char *path, const char *accept, bool gzip,
                    rc_step *next)
{
    struct rc_ref *ref;
    struct rc_problem ignored;

    set(&c->key, key);
    set(&c->path, path);
    c->next = next;
    struct rc_want want = {.key = c->key,
                           .kind = RC_SOURCE,
                           .eco = c->rt.eco,
                           .path = c->path,
                           .accept = accept,
                           .gzip = gzip,
                           .no_upstream = c->no_upstream};
    ref = rc_store_find(c->rc->store, c->key, /* bytes= */ true);
    enum rc_fresh fresh = ref ? rc_fresh_now(ref, rc_wall_s()) : RC_STALE;
    if (c->force)
        fresh = RC_STALE;
    c->asked_s = ref ? ref->fetched_s : 0;
    if (!ref || (fresh == RC_STALE && asks(c))) {
        fetch_source(c, &want);
        return;
    }
    c->how = fresh == RC_FRESH ? RC_HIT : RC_STALE_HIT;
    if (fresh == RC_STALE_USABLE && asks(c))
        (void)!rc_fill_join(c->rc, &want, NULL, &ignored);
    next(c, ref);
}

bool rc_call_retry(struct rc_call *c)
{
    if (c->force || !asks(c) || c->asked_s + RETRY_S > rc_wall_s() || c->how == RC_MISS)
        return false;
    c->force = true;
    rc_call_go(c);
    return true;
}

void rc_call_go(struct rc_call *c)
{
    switch (c->rt.eco) {
    case RC_NPM:
        rc_npm_call(c);
        return;
    case RC_PYPI:
        rc_pypi_call(c);
        return;
    case RC_GO:
        rc_go_call(c);
        return;
    default:
        rc_crates_call(c);
    }
}

/* --- variants --- */

static void on_variant(struct rc_wait *w, struct rc_ref *ref, const struct rc_problem *p)
{
    struct rc_call *c = of_wait(w);

    if (p)
        fail_with(c, p);
    else
        c->next(c, ref);
}

void rc_call_variant(struct rc_call *c, struct rc_ref *source, enum rc_form form, bool gzip,
                     rc_step *next)
{
    struct rc_variant v = {
        .form = form, .name = c->rt.name, .base = form == RC_FORM_NPM ? c->base : "", .gzip = gzip};
    struct rc_ref *ref = rc_variant_find(c->rc, source, &v);
    struct rc_problem p;

    c->next = next;
    if (ref) {
        next(c, ref);
        return;
    }
    c->wait.done = on_variant;
    c->wait.more = NULL;
    if (rc_derive_join(c->rc, source, &v, &c->wait, &p) < 0)
        fail_with(c, &p);
}

int rc_call_read(struct rc_call *c, struct rc_ref *ref, struct dbx_buf *ret)
{
    int fd = rc_store_fd(c->rc->store, ref);
    uint64_t size = ref->size;

    dbx_buf_init(ret, MAX_READ);
    if (fd < 0)
        return fd;
    if (size > MAX_READ || dbx_buf_reserve(ret, size) < 0)
        return -E2BIG;
    while (ret->len < size) {
        ssize_t n = pread(fd, ret->data + ret->len, size - ret->len, (off_t)ret->len);
        if (n <= 0)
            return -EIO;
        ret->len += (size_t)n;
    }
    return 0;
}

/* --- answers --- */

static struct rc_answer answer_of(const struct rc_call *c, const struct rc_ref *ref)
{
    return (struct rc_answer){.type = c->type,
                              .digest = ref->digest,
                              .size = ref->size,
                              .gzip = ref->gzip,
                              .vary = ref->kind != RC_FIXED,
                              .immutable = ref->kind == RC_FIXED,
                              .max_age_s = 0,
                              .how = c->how};
}

void rc_call_serve(struct rc_call *c, struct rc_ref *ref)
{
    struct rc_answer a = answer_of(c, ref);
    int fd = rc_store_fd(c->rc->store, ref); /* ref may be gone with its blob */

    if (fd < 0) {
        rc_call_fail(c, 503, "the cache has lost this; ask again");
        return;
    }
    rc_serve_file(c->req, &a, fd);
    rc_call_end(c);
}

void rc_call_serve_source(struct rc_call *c, struct rc_ref *source)
{
    if (source->gzip == c->gzip || !source->gzip)
        rc_call_serve(c, source);
    else
        rc_call_variant(c, source, RC_FORM_COPY, /* gzip= */ false, rc_call_serve);
}

/* --- what never changes --- */

/* Whether the answer needs the whole before it can begin. */
static bool needs_whole(struct rc_call *c)
{
    return dbx_http_header(c->req, "range") || dbx_http_header(c->req, "if-none-match") ||
           strcmp(dbx_http_method(c->req), "GET") != 0;
}

static void serve_whole(struct rc_call *c, const struct rc_fill_view *v)
{
    struct rc_answer a = {
        .type = c->type, .digest = v->digest, .size = v->ready, .immutable = true, .how = c->how};

    rc_serve_file(c->req, &a, v->fd);
    rc_call_end(c);
}

static void pump(struct rc_call *c)
{
    struct rc_fill_view v;

    rc_fill_view(c->rc, c->key, &v);
    if (v.fd < 0)
        return;
    if (v.ready > c->sent && (v.whole || dbx_http_pending(c->req) < QUEUE)) {
        dbx_http_chunk_file(c->req, v.fd, c->sent, v.ready - c->sent);
        c->sent = v.ready;
    }
    if (!v.whole)
        return;
    dbx_http_end(c->req);
    rc_call_end(c);
}

static void on_drain(struct dbx_http_req *req, void *user)
{
    (void)req;
    pump(cast(user));
}

static void on_more(struct rc_wait *w)
{
    struct rc_call *c = of_wait(w);
    struct rc_fill_view v;

    rc_fill_view(c->rc, c->key, &v);
    if (!c->begun && v.whole) {
        serve_whole(c, &v);
        return;
    }
    if (!c->begun && needs_whole(c))
        return;
    if (!c->begun) {
        struct rc_answer a = {.type = c->type, .immutable = true, .how = c->how};
        c->begun = true;
        rc_serve_begin(c->req, &a, v.total);
        dbx_http_on_drain(c->req, on_drain, c);
    }
    pump(c);
}

static void on_fixed(struct rc_wait *w, struct rc_ref *ref, const struct rc_problem *p)
{
    struct rc_call *c = of_wait(w);

    if (p)
        fail_with(c, p);
    else
        rc_call_serve(c, ref);
}

bool rc_call_kept(struct rc_call *c, char *key)
{
    set(&c->key, key);
    for (int i = 0; i < 2; i++) { /* the file of a blob may turn out to be gone */
        struct rc_ref *ref = rc_store_find(c->rc->store, c->key, /* bytes= */ true);
        if (ref && rc_store_fd(c->rc->store, ref) >= 0) {
            c->how = RC_HIT;
            rc_call_serve(c, ref);
            return true;
        }
    }
    return false;
}

void rc_call_fixed(struct rc_call *c, char *key, char *path, char *url,
                   const struct rc_digest *expect)
{
    struct rc_problem p;

    set(&c->path, path);
    set(&c->url, url);
    if (rc_call_kept(c, key))
        return;
    struct rc_want want = {.key = c->key,
                           .kind = RC_FIXED,
                           .eco = c->rt.eco,
                           .path = c->path,
                           .url = c->url,
                           .no_upstream = c->no_upstream};
    if (expect)
        want.expect = *expect;
    c->how = RC_MISS;
    c->wait.done = on_fixed;
    c->wait.more = on_more;
    if (rc_fill_join(c->rc, &want, &c->wait, &p) < 0)
        fail_with(c, &p);
}
