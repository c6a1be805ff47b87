/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/derive.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/map.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/ext/gzip.h"
#include "common/io/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DERIVE_MAGIC 0x44657276
#define INPUT (64u << 10)
#define PLAIN (256u << 10) /* unpacked at a time */
#define OUTPUT (4u << 20)  /* of one piece: a replaced URL may be longer than what stood there */
#define SLICE (1u << 20)   /* unpacked bytes between two turns of the loop */
#define PACK_LEVEL 4

struct rc_derive {
    uint32_t magic;
    struct rc *rc;
    char *key, *source;
    int in; /* owned: the source's bytes, whatever the store does with its own descriptor */
    uint64_t at, size;
    bool packed_in, packed_out;
    struct dbx_gunzip *gunzip;
    struct dbx_gzip *gzip;
    struct rc_transform *transform;
    struct dbx_buf plain, out, packed;
    uint64_t unpacked, written;
    struct rc_temp temp;
    struct dbx_hash *sha;
    uint8_t digest[DBX_HASH_MAX];
    uint64_t begun_ms;
    bool committing;
    struct dbx_list waits;
};

static void on_slice(void *user);

static char *variant_key(const struct rc_ref *source, const struct rc_variant *v)
{
    char hex[2 * RC_DIGEST + 1];

    dbx_hex_encode(source->digest, RC_DIGEST, hex);
    return dbx_asprintf("v/%d/%d/%s/%s/%.32s", v->form, v->gzip, v->base, source->key, hex);
}

struct rc_ref *rc_variant_find(struct rc *rc, const struct rc_ref *source,
                               const struct rc_variant *v)
{
    DBX_CLEANUP(dbx_freep) char *key = variant_key(source, v);

    return rc_store_find(rc->store, key, /* bytes= */ true);
}

/* --- the end --- */

static void derive_free(struct rc_derive *d)
{
    dbx_loop_undefer(d->rc->loop, on_slice, d);
    (void)dbx_map_del(d->rc->derives, d->key, strlen(d->key));
    rc_store_discard(d->rc->store, &d->temp);
    dbx_close(d->in);
    dbx_gunzip_free(d->gunzip);
    dbx_gzip_free(d->gzip);
    rc_transform_free(d->transform);
    dbx_hash_free(d->sha);
    dbx_buf_done(&d->plain);
    dbx_buf_done(&d->out);
    dbx_buf_done(&d->packed);
    free(d->key);
    free(d->source);
    d->magic = 0;
    free(d);
}

static void tell(struct rc_derive *d, struct rc_ref *ref, const struct rc_problem *p)
{
    struct dbx_list waits;

    dbx_list_init(&waits);
    if (!dbx_list_empty(&d->waits)) {
        waits = d->waits;
        waits.next->prev = waits.prev->next = &waits;
        dbx_list_init(&d->waits);
    }
    derive_free(d);
    rc_waits_tell(&waits, ref, p);
}

static void on_committed(int result, void *user)
{
    struct rc_derive *d = DBX_CAST(struct rc_derive, DERIVE_MAGIC, user);
    struct rc_ref ref = {.key = d->key,
                         .kind = RC_VARIANT,
                         .size = d->written,
                         .gzip = d->packed_out,
                         .etag = (char *)"",
                         .modified = (char *)"",
                         .url = (char *)""};
    struct rc_problem p = {.status = 503, .words = "the cache cannot store this now"};

    memcpy(ref.digest, d->digest, RC_DIGEST);
    struct rc_ref *made = result == 0 ? rc_store_put(d->rc->store, &ref) : NULL;
    tell(d, made, made ? NULL : &p);
}

static void derive_fail(struct rc_derive *d, int r)
{
    struct rc_problem p;

    if (r == -EBADMSG)
        rc_problem_set(&p, 502, "upstream's document is malformed");
    else if (r == -E2BIG)
        rc_problem_set(&p, 502, "upstream's document is larger than is allowed");
    else
        rc_problem_set(&p, 503, "the cache cannot make this now");
    dbx_log(DBX_LOG_WARN, NULL, "%s: %s", d->source, r == -EIO ? strerror(-r) : p.words);
    /* A document that is of no use must not be the answer until it is stale. */
    if (r == -EBADMSG || r == -E2BIG)
        rc_store_drop(d->rc->store, d->source);
    tell(d, NULL, &p);
}

/* --- a slice --- */

static int put_out(struct rc_derive *d, const struct dbx_buf *from)
{
    int r = from->len ? dbx_write_all(d->temp.fd, from->data, from->len) : 0;

    if (from->len)
        dbx_hash_update(d->sha, from->data, from->len);
    d->written += from->len;
    return r;
}

static int write_out(struct rc_derive *d, bool end)
{
    int r;

    if (d->packed_out) {
        dbx_buf_clear(&d->packed);
        r = dbx_gzip_feed(d->gzip, d->out.data, d->out.len, end, &d->packed);
        if (r == 0)
            r = put_out(d, &d->packed);
    } else {
        r = put_out(d, &d->out);
    }
    dbx_buf_clear(&d->out);
    return r;
}

static int take_plain(struct rc_derive *d, const uint8_t *data, size_t len)
{
    d->unpacked += len;
    if (d->unpacked > d->rc->cfg->max_document)
        return -E2BIG;
    int r = rc_transform_feed(d->transform, data, len, &d->out);
    return r < 0 ? r : write_out(d, false);
}

static int take_packed(struct rc_derive *d, const uint8_t *data, size_t len)
{
    size_t used;

    do { /* also when the input is used up: there may be more in it than fits */
        dbx_buf_clear(&d->plain);
        int r = dbx_gunzip_feed(d->gunzip, data, len, &used, &d->plain);
        if (r == 0 && d->plain.len)
            r = take_plain(d, d->plain.data, d->plain.len);
        if (r < 0)
            return r;
        data += used;
        len -= used;
    } while (len || d->plain.len);
    return 0;
}

static void finish(struct rc_derive *d)
{
    int r = d->packed_in && !dbx_gunzip_done(d->gunzip) ? -EBADMSG : 0;

    if (r == 0)
        r = rc_transform_end(d->transform, &d->out);
    if (r == 0)
        r = write_out(d, true);
    if (r < 0) {
        derive_fail(d, r);
        return;
    }
    dbx_hash_final(d->sha, d->digest);
    dbx_metric_observe(d->rc->metrics.derive_seconds, (double)(dbx_now_ms() - d->begun_ms) / 1000);
    d->committing = true;
    rc_store_commit(d->rc->store, &d->temp, d->digest, d->written, on_committed, d);
}

static void on_slice(void *user)
{
    struct rc_derive *d = DBX_CAST(struct rc_derive, DERIVE_MAGIC, user);
    uint64_t stop = d->unpacked + SLICE;
    uint8_t block[INPUT];
    int r = 0;

    while (r == 0 && d->at < d->size && d->unpacked < stop) {
        ssize_t n = pread(d->in, block, sizeof(block), (off_t)d->at);
        if (n <= 0) {
            r = -EIO;
            break;
        }
        d->at += (uint64_t)n;
        r = d->packed_in ? take_packed(d, block, (size_t)n) : take_plain(d, block, (size_t)n);
    }
    if (r < 0)
        derive_fail(d, r);
    else if (d->at < d->size)
        dbx_loop_defer(d->rc->loop, on_slice, d);
    else
        finish(d);
}

/* --- beginning --- */

static struct rc_derive *derive_new(struct rc *rc, char *key, const struct rc_ref *source, int in,
                                    const struct rc_variant *v)
{
    struct rc_derive *d = DBX_NEW(struct rc_derive);
    struct rc_url from = {0};

    d->magic = DERIVE_MAGIC;
    d->rc = rc;
    d->key = key;
    d->source = dbx_strdup(source->key);
    d->in = in;
    d->size = source->size;
    d->packed_in = source->gzip;
    d->packed_out = v->gzip;
    d->begun_ms = dbx_now_ms();
    d->temp.fd = -1;
    (void)!rc_url_parse(source->url, &from);
    d->transform = rc_transform_new(&(struct rc_transform_opts){
        .form = v->form, .html = source->html, .name = v->name, .base = v->base, .from = &from});
    if (d->packed_in)
        d->gunzip = dbx_gunzip_new();
    if (d->packed_out)
        d->gzip = dbx_gzip_new(PACK_LEVEL);
    d->sha = dbx_hash_new(DBX_HASH_SHA256);
    dbx_buf_init(&d->plain, PLAIN);
    dbx_buf_init(&d->out, OUTPUT);
    dbx_buf_init(&d->packed, 2 * OUTPUT);
    dbx_list_init(&d->waits);
    (void)dbx_map_put(rc->derives, d->key, strlen(d->key), d);
    return d;
}

int rc_derive_join(struct rc *rc, const struct rc_ref *source, const struct rc_variant *v,
                   struct rc_wait *w, struct rc_problem *ret_p)
{
    DBX_CLEANUP(dbx_freep) char *key = variant_key(source, v);
    struct rc_derive *d = DBX_MAP_GET_STR(rc->derives, key);

    if (!d) {
        int fd = rc_store_fd(rc->store, source);
        int in = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (in < 0 || dbx_map_count(rc->derives) >= rc->cfg->max_fills) {
            dbx_close(in);
            rc_problem_set(ret_p, 503, "the cache cannot make this now; ask again");
            return -EAGAIN;
        }
        d = derive_new(rc, DBX_TAKE(key), source, in, v);
        int r = rc_store_temp(rc->store, &d->temp);
        if (r < 0) {
            derive_free(d);
            rc_problem_set(ret_p, 503, "the cache's disk is full");
            return r;
        }
        dbx_loop_defer(rc->loop, on_slice, d);
    }
    dbx_list_push(&d->waits, &w->node);
    return 0;
}

void rc_derives_free(struct rc *rc)
{
    struct dbx_map_iter it = {0};

    while (dbx_map_next(rc->derives, &it)) {
        struct rc_derive *d = it.value;
        dbx_list_init(&d->waits);
        derive_free(d);
    }
}
