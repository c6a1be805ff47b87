/* SPDX-License-Identifier: Apache-2.0 */
/* A pull and a push are both a walk over the parts of a map, one after the other. Exactly one thing
 * of a walk is under way at any time, a fetch or a piece of work on another thread (files are read,
 * written and hashed there); who ends it early marks it, and what comes home then frees it. */
#include "shim/share.h"

#include "bundles/layers.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/list.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/io/http_client.h"
#include "common/io/loop.h"
#include "common/proto/layer_map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PART_MS 60000
#define STALL_MS 10000
#define TOKEN_S 600
#define SEAL_S (90 * 86400)

struct shim_share {
    struct shim_share_opts opts;
    struct dbx_http_client *client;
    struct dbx_list pushes; /* the first one is under way */
    bool pushing;
};

struct shim_transfer {
    struct shim_share *sh; /* NULL: given up */
    char key[BND_LAYER_KEY + 1];
    int fd; /* owned; of a pull a copy, so that the caller may close his at any time */
    struct dbx_layer_map map;
    size_t at;
    struct dbx_fetch *fetch; /* under way; else work is */
    struct dbx_buf part;
    int result; /* of work */
    /* of a pull */
    uint64_t max;
    shim_pull_fn *fn;
    void *user;
    struct dbx_list node; /* of a push, in the queue */
};

static void count(const char *result)
{
    char labels[48];
    snprintf(labels, sizeof(labels), "result=\"%s\"", result);
    dbx_metric_add(
        dbx_counter("devbox_shim_layers_shared_total", labels,
                    "Dependency layers put to, and looked for at, the cache of all nodes"),
        1);
}

static int64_t now_s(void)
{
    return dbx_wall_us() / 1000000;
}

static struct shim_transfer *walk_new(struct shim_share *sh, const char *key, int fd)
{
    struct shim_transfer *p = DBX_NEW(struct shim_transfer);
    p->sh = sh;
    p->fd = fd;
    (void)dbx_strcpy(p->key, sizeof(p->key), key);
    dbx_buf_init(&p->part, DBX_LAYER_PART);
    dbx_list_init(&p->node);
    return p;
}

static void walk_free(struct shim_transfer *p)
{
    dbx_list_remove(&p->node);
    dbx_close(p->fd);
    dbx_buf_done(&p->part);
    dbx_layer_map_done(&p->map);
    free(p);
}

/* ---- requests ---- */

static struct dbx_fetch *ask(struct shim_transfer *p, const char *method,
                             const struct dbx_buf *body, const char *path, dbx_fetch_fn *fn)
{
    struct shim_share *sh = p->sh;
    DBX_CLEANUP(dbx_freep) char *url = dbx_asprintf("%s%s", sh->opts.url, path);
    char token[DBX_TOKEN_MAX], authorization[DBX_TOKEN_MAX + 32];
    const char *headers[] = {NULL, NULL};
    if (body) {
        struct dbx_token t = {.kind = DBX_TOKEN_DAEMON, .expires = now_s() + TOKEN_S};
        snprintf(t.label, sizeof(t.label), "node:%.58s", sh->opts.node_id);
        int r = dbx_token_sign(sh->opts.put, &t, token);
        dbx_assert(r == 0);
        snprintf(authorization, sizeof(authorization), "Authorization: Bearer %s", token);
        headers[0] = authorization;
    }
    const struct dbx_fetch_opts opts = {.method = method,
                                        .url = url,
                                        .headers = headers,
                                        .body = body ? body->data : NULL,
                                        .body_len = body ? body->len : 0,
                                        .max_response = DBX_LAYER_PART,
                                        .timeout_ms = PART_MS,
                                        .stall_ms = STALL_MS,
                                        .ca_file = sh->opts.ca_file};
    return dbx_fetch(sh->client, &opts, fn, p);
}

static void part_path(const struct shim_transfer *p, char out[static 96])
{
    char hex[BND_LAYER_KEY + 1];
    dbx_hex_encode(p->map.parts[p->at], DBX_SHA256_LEN, hex);
    snprintf(out, 96, "/blobs/sha256/%s", hex);
}

static void map_path(const struct shim_transfer *p, char out[static 96])
{
    snprintf(out, 96, "/layers/%s", p->key);
}

static bool is_good(const struct dbx_fetch_result *r, int one, int other)
{
    return r->status == one || r->status == other;
}

static const char *words_of(const struct dbx_fetch_result *r, char *buf, size_t size)
{
    if (r->status)
        snprintf(buf, size, "status %d", r->status);
    else
        snprintf(buf, size, "%s", r->err->msg);
    return buf;
}

/* ---- pull ---- */

static void pull_over(struct shim_transfer *p, bool found, const char *why)
{
    char hex[BND_LAYER_KEY + 1];
    dbx_hex_encode(p->map.sha256, DBX_SHA256_LEN, hex);
    if (*why)
        dbx_log(DBX_LOG_WARN, p->sh->opts.log, "the layer %.12s does not come from the cache: %s",
                p->key, why);
    count(found ? "pulled" : *why ? "failed" : "absent");
    p->fn(found, hex, p->user);
    walk_free(p);
}

static void pull_part(struct shim_transfer *p);

static void write_part(void *user)
{
    struct shim_transfer *p = user;
    uint8_t sum[DBX_SHA256_LEN];
    off_t at = (off_t)((uint64_t)p->at * DBX_LAYER_PART);
    errno = 0;
    dbx_sha256(p->part.data, p->part.len, sum);
    if (memcmp(sum, p->map.parts[p->at], sizeof(sum)) != 0)
        p->result = -EBADMSG;
    else if (pwrite(p->fd, p->part.data, p->part.len, at) != (ssize_t)p->part.len)
        p->result = errno ? -errno : -EIO;
    else
        p->result = 0;
}

static void on_part_written(void *user)
{
    struct shim_transfer *p = user;
    if (!p->sh) {
        walk_free(p);
        return;
    }
    if (p->result < 0) {
        pull_over(p, false,
                  p->result == -EBADMSG ? "a part has another digest" : strerror(-p->result));
        return;
    }
    p->at++;
    pull_part(p);
}

static void on_part(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    struct shim_transfer *p = user;
    char words[256];
    (void)f;
    p->fetch = NULL;
    if (!p->sh) {
        walk_free(p);
        return;
    }
    dbx_buf_clear(&p->part);
    if (!is_good(result, 200, 200) || result->body->len != dbx_layer_map_part(&p->map, p->at) ||
        dbx_buf_append(&p->part, result->body->data, result->body->len) < 0)
        pull_over(p, false, words_of(result, words, sizeof(words)));
    else
        dbx_loop_work(p->sh->opts.loop, write_part, on_part_written, p);
}

static void pull_part(struct shim_transfer *p)
{
    char path[96];
    if (p->at == p->map.n_parts) {
        pull_over(p, true, "");
        return;
    }
    part_path(p, path);
    p->fetch = ask(p, "GET", NULL, path, on_part);
}

static void on_map(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    struct shim_transfer *p = user;
    struct dbx_err err = {0};
    char words[256];
    (void)f;
    p->fetch = NULL;
    if (!p->sh) {
        walk_free(p);
        return;
    }
    if (result->status == 404) {
        pull_over(p, false, "");
        return;
    }
    int r =
        is_good(result, 200, 200)
            ? dbx_layer_map_read(result->body->data, result->body->len, &p->map, &err)
            : dbx_err_set(&err, -EIO, DBX_UNAVAIL, "%s", words_of(result, words, sizeof(words)));
    if (r == 0)
        r = dbx_layer_map_verify(&p->map, p->sh->opts.ring, p->key, now_s(), &err);
    if (r == 0 && p->map.size > p->max)
        r = dbx_err_set(&err, -ENOSPC, DBX_LIMIT, "there is no room for it");
    if (r < 0)
        pull_over(p, false, err.msg);
    else
        pull_part(p);
}

struct shim_transfer *shim_share_pull(struct shim_share *sh, const char *key, int fd, uint64_t max,
                                      shim_pull_fn *fn, void *user)
{
    struct shim_transfer *p = walk_new(sh, key, fcntl(fd, F_DUPFD_CLOEXEC, 0));
    char path[96];
    p->max = max;
    p->fn = fn;
    p->user = user;
    map_path(p, path);
    p->fetch = ask(p, "GET", NULL, path, on_map);
    return p;
}

void shim_transfer_cancel(struct shim_transfer *p)
{
    p->sh = NULL;
    if (p->fetch)
        dbx_fetch_cancel(p->fetch);
}

/* ---- push ---- */

static void push_next(struct shim_share *sh);

static void push_over(struct shim_transfer *p, const char *why)
{
    struct shim_share *sh = p->sh;
    if (*why)
        dbx_log(DBX_LOG_WARN, sh->opts.log, "the layer %.12s is not put to the cache: %s", p->key,
                why);
    count(*why ? "unput" : "pushed");
    walk_free(p);
    sh->pushing = false;
    push_next(sh);
}

static void on_map_put(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    struct shim_transfer *p = user;
    char words[256];
    (void)f;
    p->fetch = NULL;
    if (!p->sh)
        walk_free(p);
    else
        push_over(p, is_good(result, 200, 201) ? "" : words_of(result, words, sizeof(words)));
}

static void push_map(struct shim_transfer *p)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf words = {.max = DBX_LAYER_MAP_MAX};
    char path[96];
    dbx_layer_map_seal(&p->map, p->sh->opts.ring, p->key, now_s() + SEAL_S);
    map_path(p, path);
    if (dbx_layer_map_write(&p->map, &words) < 0)
        push_over(p, "its map does not fit");
    else
        p->fetch = ask(p, "PUT", &words, path, on_map_put);
}

static void push_part(struct shim_transfer *p);

static void on_part_put(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    struct shim_transfer *p = user;
    char words[256];
    (void)f;
    p->fetch = NULL;
    if (!p->sh)
        walk_free(p);
    else if (!is_good(result, 200, 201))
        push_over(p, words_of(result, words, sizeof(words)));
    else if (++p->at == p->map.n_parts)
        push_map(p);
    else
        push_part(p);
}

static void read_part(void *user)
{
    struct shim_transfer *p = user;
    size_t len = dbx_layer_map_part(&p->map, p->at);
    off_t at = (off_t)((uint64_t)p->at * DBX_LAYER_PART);
    errno = 0;
    dbx_buf_clear(&p->part);
    p->result = dbx_buf_reserve(&p->part, len);
    if (p->result == 0 && pread(p->fd, p->part.data, len, at) != (ssize_t)len)
        p->result = errno ? -errno : -EIO;
    if (p->result < 0)
        return;
    p->part.len = len;
    dbx_sha256(p->part.data, len, p->map.parts[p->at]);
}

static void on_part_read(void *user)
{
    struct shim_transfer *p = user;
    char path[96];
    if (!p->sh) {
        walk_free(p);
    } else if (p->result < 0) {
        push_over(p, strerror(-p->result));
    } else {
        part_path(p, path);
        p->fetch = ask(p, "PUT", &p->part, path, on_part_put);
    }
}

static void push_part(struct shim_transfer *p)
{
    dbx_loop_work(p->sh->opts.loop, read_part, on_part_read, p);
}

static void push_next(struct shim_share *sh)
{
    struct shim_transfer *p = dbx_list_first(&sh->pushes, struct shim_transfer, node);
    if (sh->pushing || !p)
        return;
    sh->pushing = true;
    push_part(p);
}

void shim_share_push(struct shim_share *sh, const char *key, int fd, const char *sha256,
                     uint64_t bytes)
{
    struct shim_transfer *p = walk_new(sh, key, fd);
    struct dbx_list *it, *tmp;
    size_t waiting = 0;
    dbx_list_each(it, tmp, &sh->pushes) waiting++;
    if (!sh->opts.put || waiting >= SHIM_SHARE_PUSHES || dbx_layer_map_init(&p->map, bytes) < 0 ||
        dbx_hex_decode(sha256, BND_LAYER_KEY, p->map.sha256) < 0) {
        count("unput");
        walk_free(p);
        return;
    }
    dbx_list_push(&sh->pushes, &p->node);
    push_next(sh);
}

/* ---- all of them ---- */

struct shim_share *shim_share_new(const struct shim_share_opts *opts)
{
    struct shim_share *sh = DBX_NEW(struct shim_share);
    sh->opts = *opts;
    sh->client = dbx_http_client_new(opts->loop);
    dbx_list_init(&sh->pushes);
    return sh;
}

struct shim_share *shim_share_free(struct shim_share *sh)
{
    struct dbx_list *it, *tmp;
    if (!sh)
        return NULL;
    dbx_list_each(it, tmp, &sh->pushes)
    {
        struct shim_transfer *p = dbx_list_entry(it, struct shim_transfer, node);
        bool first = sh->pushing && it == sh->pushes.next;
        dbx_list_remove(it);
        p->sh = NULL; /* what is under way comes home later */
        if (!first)
            walk_free(p);
        else
            sh->pushing = false;
    }
    sh->client = dbx_http_client_free(sh->client);
    free(sh);
    return NULL;
}
