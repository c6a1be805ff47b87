/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/map.h"
#include "registry-cache/store_int.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_OPEN 1024            /* descriptors kept for blobs */
#define MAX_LOOK (8u << 20)      /* a blob that is read when it is first opened */
#define REWRITE_SLACK (1u << 20) /* the index may be this much longer than twice what counts */

struct rc_store {
    struct dbx_loop *loop;
    char *dir;
    int dirfd, lock, index;
    uint64_t max_bytes, max_refs;
    struct dbx_map *refs;  /* key -> struct rc_ref */
    struct dbx_map *blobs; /* digest -> struct rc_blob */
    struct dbx_list ref_lru, blob_lru, open;
    size_t nopen;
    uint64_t next_temp;
    uint64_t index_len, index_live; /* bytes of the file, and those that still count */
    struct rc_syncer *syncer;
    struct rc_store_stats stats;
    bool index_bad; /* it could not be written to: it is written anew */
};

/* --- blobs --- */

static void close_blob(struct rc_store *s, struct rc_blob *b)
{
    if (b->fd < 0)
        return;
    dbx_close(DBX_TAKE_FD(b->fd));
    dbx_list_remove(&b->_open);
    s->nopen--;
}

static struct rc_blob *add_blob(struct rc_store *s, const uint8_t digest[static RC_DIGEST],
                                uint64_t size)
{
    struct rc_blob *b = DBX_NEW(struct rc_blob);

    memcpy(b->digest, digest, RC_DIGEST);
    b->size = size;
    b->fd = -1;
    dbx_list_init(&b->refs);
    dbx_list_init(&b->_open);
    dbx_list_push(&s->blob_lru, &b->_lru);
    (void)dbx_map_put(s->blobs, digest, RC_DIGEST, b);
    s->stats.blobs++;
    s->stats.bytes += size;
    return b;
}

static void forget_ref(struct rc_store *s, struct rc_ref *ref);

/* The file is gone or goes. Of what never changes the digest stays known. */
static void forget_blob(struct rc_store *s, struct rc_blob *b)
{
    struct dbx_list *it, *tmp;

    close_blob(s, b);
    dbx_list_each(it, tmp, &b->refs)
    {
        struct rc_ref *ref = dbx_list_entry(it, struct rc_ref, _of_blob);
        dbx_list_remove(it);
        ref->blob = NULL;
        if (ref->kind != RC_FIXED)
            forget_ref(s, ref);
    }
    (void)dbx_map_del(s->blobs, b->digest, RC_DIGEST);
    dbx_list_remove(&b->_lru);
    s->stats.blobs--;
    s->stats.bytes -= b->size;
    free(b);
}

static void unlink_blob(struct rc_store *s, struct rc_blob *b)
{
    char path[RC_BLOB_PATH];

    rc_store__blob_path(b->digest, path);
    (void)unlinkat(s->dirfd, path, 0);
    forget_blob(s, b);
}

static void evict(struct rc_store *s, const struct rc_blob *keep)
{
    while (s->stats.bytes > s->max_bytes) {
        struct rc_blob *b = dbx_list_first(&s->blob_lru, struct rc_blob, _lru);
        if (b == keep && b->_lru.next != &s->blob_lru)
            b = dbx_list_entry(b->_lru.next, struct rc_blob, _lru);
        if (!b || b == keep)
            return;
        s->stats.evicted++;
        unlink_blob(s, b);
    }
}

struct rc_blob *rc_store_blob(struct rc_store *s, const uint8_t digest[static RC_DIGEST])
{
    return dbx_map_get(s->blobs, digest, RC_DIGEST);
}

static void use_blob(struct rc_store *s, struct rc_blob *b)
{
    dbx_list_remove(&b->_lru);
    dbx_list_push(&s->blob_lru, &b->_lru);
}

static int open_blob(struct rc_store *s, struct rc_blob *b)
{
    char path[RC_BLOB_PATH];
    struct stat st;

    rc_store__blob_path(b->digest, path);
    DBX_CLEANUP(dbx_closep) int fd = openat(s->dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno != ENOENT)
        return -errno;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != b->size ||
        (!b->seen && b->size <= MAX_LOOK && !rc_store__same(fd, b->digest))) {
        s->stats.torn++;
        unlink_blob(s, b);
        return -ENOENT;
    }
    if (s->nopen >= MAX_OPEN)
        close_blob(s, dbx_list_first(&s->open, struct rc_blob, _open));
    b->seen = true;
    b->fd = DBX_TAKE_FD(fd);
    dbx_list_push(&s->open, &b->_open);
    s->nopen++;
    return b->fd;
}

int rc_store_fd(struct rc_store *s, const struct rc_ref *ref)
{
    return ref->blob ? rc_store_blob_fd(s, ref->blob) : -ENOENT;
}

int rc_store_blob_fd(struct rc_store *s, struct rc_blob *b)
{
    use_blob(s, b);
    if (b->fd < 0)
        return open_blob(s, b);
    dbx_list_remove(&b->_open);
    dbx_list_push(&s->open, &b->_open);
    return b->fd;
}

/* --- refs --- */

static uint64_t record_size(const struct rc_ref *ref)
{
    return RC_RECORD_HEAD + 71 + strlen(ref->key) + strlen(ref->etag) + strlen(ref->modified) +
           strlen(ref->url);
}

static void forget_ref(struct rc_store *s, struct rc_ref *ref)
{
    (void)dbx_map_del(s->refs, ref->key, strlen(ref->key));
    dbx_list_remove(&ref->_lru);
    dbx_list_remove(&ref->_of_blob);
    s->index_live -= record_size(ref);
    s->stats.refs--;
    rc_ref_free(ref);
}

/* Takes the ref, in place of its namesake. */
static void add_ref(struct rc_store *s, struct rc_ref *ref, struct rc_blob *b)
{
    struct rc_ref *old = DBX_MAP_GET_STR(s->refs, ref->key);

    if (old)
        forget_ref(s, old);
    if (s->stats.refs >= s->max_refs)
        forget_ref(s, dbx_list_first(&s->ref_lru, struct rc_ref, _lru));
    (void)dbx_map_put(s->refs, ref->key, strlen(ref->key), ref);
    dbx_list_push(&s->ref_lru, &ref->_lru);
    ref->blob = b;
    if (b)
        dbx_list_push(&b->refs, &ref->_of_blob);
    s->index_live += record_size(ref);
    s->stats.refs++;
}

struct rc_ref *rc_store_find(struct rc_store *s, const char *key, bool bytes)
{
    struct rc_ref *ref = DBX_MAP_GET_STR(s->refs, key);

    if (!ref || (bytes && !ref->blob))
        return NULL;
    dbx_list_remove(&ref->_lru);
    dbx_list_push(&s->ref_lru, &ref->_lru);
    if (ref->blob)
        use_blob(s, ref->blob);
    return ref;
}

/* --- the index --- */

static int rewrite_index(struct rc_store *s)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf all = {.max = 1u << 30};
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/index", s->dir);
    struct dbx_list *it, *tmp;
    struct dbx_err err;

    dbx_list_each(it, tmp, &s->ref_lru) /* so the order of use outlives us */
    {
        if (rc_record_write(&all, dbx_list_entry(it, struct rc_ref, _lru)) < 0)
            return -E2BIG;
    }
    int r =
        dbx_fs_write_atomic(path, all.data ? all.data : (const uint8_t *)"", all.len, 0640, &err);
    int fd = r < 0 ? -1 : openat(s->dirfd, "index", O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0)
        return r < 0 ? r : -errno;
    dbx_close(s->index);
    s->index = fd;
    s->index_len = s->index_live = all.len;
    s->index_bad = false;
    return 0;
}

/* What cannot be recorded is still right in memory: it is only fetched again after a restart. */
static void record(struct rc_store *s, const struct dbx_buf *rec)
{
    if (!s->index_bad) {
        ssize_t n = write(s->index, rec->data, rec->len);
        s->index_bad = n != (ssize_t)rec->len;
        s->index_len += n > 0 ? (size_t)n : 0;
    }
    if (s->index_bad || s->index_len > 2 * s->index_live + REWRITE_SLACK)
        s->index_bad = rewrite_index(s) < 0;
}

struct rc_ref *rc_store_put(struct rc_store *s, const struct rc_ref *from)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf rec = {.max = 2 * RC_RECORD_MAX};
    struct rc_blob *b = rc_store_blob(s, from->digest);

    if (!b || rc_record_write(&rec, from) < 0)
        return NULL;
    struct rc_ref *ref = rc_ref_copy(from);
    ref->size = b->size;
    add_ref(s, ref, b);
    use_blob(s, b);
    record(s, &rec);
    return ref;
}

void rc_store_drop(struct rc_store *s, const char *key)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf rec = {.max = 2 * RC_RECORD_MAX};
    struct rc_ref *ref = DBX_MAP_GET_STR(s->refs, key);

    if (!ref)
        return;
    if (rc_record_drop(&rec, key) == 0)
        record(s, &rec);
    forget_ref(s, ref);
}

/* --- filling --- */

static void temp_path(uint64_t id, char out[static 48])
{
    (void)snprintf(out, 48, "tmp/%" PRIu64, id);
}

int rc_store_temp(struct rc_store *s, struct rc_temp *ret)
{
    char path[48];

    ret->id = s->next_temp++;
    temp_path(ret->id, path);
    ret->fd = openat(s->dirfd, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    return ret->fd < 0 ? -errno : 0;
}

void rc_store_discard(struct rc_store *s, struct rc_temp *temp)
{
    char path[48];

    if (temp->fd < 0)
        return;
    temp_path(temp->id, path);
    (void)unlinkat(s->dirfd, path, 0);
    dbx_close(DBX_TAKE_FD(temp->fd));
}

struct commit {
    struct rc_store *s;
    uint8_t digest[RC_DIGEST];
    uint64_t size;
    rc_commit_fn *fn;
    void *user;
};

static void on_synced(struct rc_sync_job *job)
{
    struct commit *c = job->user;
    struct rc_store *s = c->s;
    int r = job->result;

    if (r < 0)
        (void)unlinkat(s->dirfd, job->from, 0);
    else if (!rc_store_blob(s, c->digest))
        evict(s, add_blob(s, c->digest, c->size));
    if (r == 0 && rc_store_blob(s, c->digest))
        rc_store_blob(s, c->digest)->seen = true;
    dbx_close(job->fd);
    free(job);
    c->fn(r, c->user);
    free(c);
}

void rc_store_commit(struct rc_store *s, struct rc_temp *temp,
                     const uint8_t digest[static RC_DIGEST], uint64_t size, rc_commit_fn *fn,
                     void *user)
{
    struct rc_sync_job *job = DBX_NEW(struct rc_sync_job);
    struct commit *c = DBX_NEW(struct commit);

    *c = (struct commit){.s = s, .size = size, .fn = fn, .user = user};
    memcpy(c->digest, digest, RC_DIGEST);
    dbx_list_init(&job->node);
    job->fd = DBX_TAKE_FD(temp->fd);
    job->done = on_synced;
    job->user = c;
    temp_path(temp->id, job->from);
    rc_store__blob_path(digest, job->to);
    rc_syncer_add(s->syncer, job);
}

/* --- opening --- */

static int on_blob(int dirfd, const uint8_t digest[static RC_DIGEST], uint64_t size, void *user)
{
    (void)dirfd;
    (void)add_blob(user, digest, size);
    return 0;
}

static void on_record(struct rc_ref *ref, char *key, void *user)
{
    struct rc_store *s = user;

    if (ref) {
        struct rc_blob *b = rc_store_blob(s, ref->digest);
        if (b && b->size != ref->size)
            b = NULL;
        if (b || ref->kind == RC_FIXED) {
            add_ref(s, ref, b);
            if (b)
                use_blob(s, b);
        } else {
            struct rc_ref *old = DBX_MAP_GET_STR(s->refs, ref->key);
            if (old)
                forget_ref(s, old);
            rc_ref_free(ref);
        }
    } else {
        struct rc_ref *old = DBX_MAP_GET_STR(s->refs, key);
        if (old)
            forget_ref(s, old);
        free(key);
    }
}

static void drop_orphans(struct rc_store *s)
{
    struct dbx_list *it, *tmp;

    dbx_list_each(it, tmp, &s->blob_lru)
    {
        struct rc_blob *b = dbx_list_entry(it, struct rc_blob, _lru);
        if (dbx_list_empty(&b->refs))
            unlink_blob(s, b);
    }
}

static int load(struct rc_store *s, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *tmp = dbx_asprintf("%s/tmp", s->dir);
    int r = dbx_fs_remove_tree(tmp, err);

    if (r == 0)
        r = dbx_fs_mkdirs(tmp, 0750, err);
    if (r == 0)
        r = rc_store__each_blob(s->dirfd, on_blob, s, err);
    if (r == 0)
        r = rc_store__each_record(s->dirfd, on_record, s, &s->index_len, err);
    if (r < 0)
        return r;
    drop_orphans(s);
    evict(s, NULL);
    r = rewrite_index(s); /* without what is torn at its end, or outdated */
    return r < 0 ? dbx_err_set(err, r, DBX_INTERNAL, "write the index in '%s'", s->dir) : 0;
}

int rc_store_open(const struct rc_store_opts *opts, struct rc_store **ret, struct dbx_err *err)
{
    struct rc_store *s = DBX_NEW(struct rc_store);

    s->loop = opts->loop;
    s->dir = dbx_strdup(opts->dir);
    s->dirfd = s->lock = s->index = -1;
    s->max_bytes = opts->max_bytes;
    s->max_refs = opts->max_refs;
    s->refs = dbx_map_new();
    s->blobs = dbx_map_new();
    dbx_list_init(&s->ref_lru);
    dbx_list_init(&s->blob_lru);
    dbx_list_init(&s->open);
    int r = rc_store__prepare(s->dir, &s->dirfd, &s->lock, err);
    if (r == 0)
        r = load(s, err);
    if (r < 0) {
        rc_store_close(s);
        return r;
    }
    s->syncer = rc_syncer_new(s->loop, s->dirfd);
    *ret = s;
    return 0;
}

struct rc_store *rc_store_close(struct rc_store *s)
{
    if (!s)
        return NULL;
    s->syncer = rc_syncer_free(s->syncer);
    while (!dbx_list_empty(&s->ref_lru))
        forget_ref(s, dbx_list_first(&s->ref_lru, struct rc_ref, _lru));
    while (!dbx_list_empty(&s->blob_lru))
        forget_blob(s, dbx_list_first(&s->blob_lru, struct rc_blob, _lru));
    dbx_map_free(s->refs);
    dbx_map_free(s->blobs);
    dbx_close(s->index);
    dbx_close(s->lock);
    dbx_close(s->dirfd);
    free(s->dir);
    free(s);
    return NULL;
}

void rc_store_stats(const struct rc_store *s, struct rc_store_stats *ret)
{
    *ret = s->stats;
}
