/* SPDX-License-Identifier: Apache-2.0 */
#include "common/ext/blob.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/metrics.h"
#include "common/base/str.h"
#include "common/ext/blob_int.h"
#include "common/io/loop.h"

#define MAX_RUNNING 16
#define MAX_WAITING 512
#define MAX_WAITING_BYTES (256u << 20)
#define TIMEOUT_MS 15000

struct dbx_blobs {
    struct dbx_loop *loop;
    const struct dbx_blob_backend *ops;
    void *be; /* owned */
    uint32_t timeout_ms;
    struct dbx_list waiting, running, ended; /* struct dbx_blob_op */
    size_t nrunning, nwaiting, waiting_bytes;
    bool calling, dead;
};

static const char *const kind_names[] = {"put", "get", "delete"};

bool dbx_blob_name_ok(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > DBX_BLOB_NAME || name[len - 1] == '/')
        return false;
    for (size_t i = 0; i < len; i++) {
        bool first = i == 0 || name[i - 1] == '/';
        bool plain = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9');
        if (!plain && (first || !strchr("._-/", name[i])))
            return false;
    }
    return true;
}

void dbx_blob__op_free(struct dbx_blob_op *op)
{
    dbx_buf_done(&op->data);
    op->magic = 0;
    free(op);
}

struct dbx_loop *dbx_blob__loop(const struct dbx_blob_op *op)
{
    return op->b->loop;
}

void dbx_blob__verify(struct dbx_blob_op *op)
{
    uint8_t hash[DBX_SHA256_LEN];
    if (op->err.code || !op->has_sha256)
        return;
    dbx_sha256(op->data.data ? op->data.data : (const uint8_t *)"", op->data.len, hash);
    if (memcmp(hash, op->sha256, sizeof(hash)) != 0)
        (void)dbx_err_set(&op->err, -EBADMSG, DBX_UNAVAIL,
                          "object '%s': what is stored has another digest", op->name);
}

static void count(const struct dbx_blob_op *op)
{
    char labels[64];
    const char *result = op->err.code ? dbx_kind_name(op->err.kind) : "ok";
    snprintf(labels, sizeof(labels), "op=\"%s\",result=\"%s\"", kind_names[op->kind],
             op->err.code == -EBADMSG ? "corrupt" : result);
    dbx_metric_add(
        dbx_counter("devbox_blob_operations_total", labels, "Operations on the blob store."), 1);
    snprintf(labels, sizeof(labels), "op=\"%s\"", kind_names[op->kind]);
    dbx_metric_observe(
        dbx_histogram("devbox_blob_seconds", labels, "How long they took, waiting included."),
        (double)(dbx_now_ms() - op->begun_ms) / 1000);
}

static void call(struct dbx_blob_op *op)
{
    dbx_list_remove(&op->node);
    count(op);
    op->fn(op->kind == DBX_BLOB_GET && !op->err.code ? &op->data : NULL,
           op->err.code ? &op->err : NULL, op->user);
    dbx_blob__op_free(op);
}

static void pump(struct dbx_blobs *b)
{
    while (b->nrunning < MAX_RUNNING && !dbx_list_empty(&b->waiting)) {
        struct dbx_blob_op *op = dbx_list_first(&b->waiting, struct dbx_blob_op, node);
        dbx_list_remove(&op->node);
        b->nwaiting--;
        b->waiting_bytes -= op->data.len;
        dbx_list_push(&b->running, &op->node);
        b->nrunning++;
        if (dbx_now_ms() < op->deadline_ms) {
            b->ops->start(b->be, op);
        } else {
            (void)dbx_err_set(&op->err, -ETIMEDOUT, DBX_TIMEOUT,
                              "the blob store was too slow for all who wait");
            dbx_blob__finish(op);
        }
    }
}

static void on_turn(void *user)
{
    struct dbx_blobs *b = user;
    b->calling = true;
    while (!b->dead && !dbx_list_empty(&b->ended))
        call(dbx_list_first(&b->ended, struct dbx_blob_op, node));
    b->calling = false;
    if (b->dead)
        free(b);
    else
        pump(b);
}

static void turn_later(struct dbx_blobs *b)
{
    dbx_loop_undefer(b->loop, on_turn, b);
    dbx_loop_defer(b->loop, on_turn, b);
}

void dbx_blob__finish(struct dbx_blob_op *op)
{
    struct dbx_blobs *b = op->b;
    dbx_list_remove(&op->node);
    b->nrunning--;
    dbx_list_push(&b->ended, &op->node);
    turn_later(b);
}

static struct dbx_blob_op *op_new(struct dbx_blobs *b, enum dbx_blob_kind kind, const char *name,
                                  dbx_blob_fn *fn, void *user)
{
    struct dbx_blob_op *op = DBX_NEW(struct dbx_blob_op);
    op->magic = DBX_BLOB_OP_MAGIC;
    op->b = b;
    op->kind = kind;
    op->fn = fn;
    op->user = user;
    op->begun_ms = dbx_now_ms();
    op->deadline_ms = op->begun_ms + b->timeout_ms;
    dbx_buf_init(&op->data, DBX_BLOB_MAX);
    if (!dbx_blob_name_ok(name))
        (void)dbx_err_set(&op->err, -EINVAL, DBX_INVALID, "this is no name of an object");
    else
        (void)dbx_strcpy(op->name, sizeof(op->name), name);
    return op;
}

static void submit(struct dbx_blob_op *op)
{
    struct dbx_blobs *b = op->b;
    if (!op->err.code &&
        (b->nwaiting >= MAX_WAITING || b->waiting_bytes + op->data.len > MAX_WAITING_BYTES))
        (void)dbx_err_set(&op->err, -EAGAIN, DBX_LIMIT, "too much waits for the blob store");
    if (op->err.code) {
        dbx_list_push(&b->ended, &op->node);
    } else {
        dbx_list_push(&b->waiting, &op->node);
        b->nwaiting++;
        b->waiting_bytes += op->data.len;
    }
    turn_later(b);
}

void dbx_blob_put(struct dbx_blobs *b, const char *name, const void *data, size_t len,
                  dbx_blob_fn *fn, void *user)
{
    struct dbx_blob_op *op = op_new(b, DBX_BLOB_PUT, name, fn, user);
    int r = op->err.code ? 0 : dbx_buf_append(&op->data, data, len);
    if (r < 0)
        (void)dbx_err_set(&op->err, r, DBX_LIMIT, "an object has at most %u bytes", DBX_BLOB_MAX);
    submit(op);
}

void dbx_blob_get(struct dbx_blobs *b, const char *name, size_t max,
                  const struct dbx_blob_range *range, const uint8_t *sha256, dbx_blob_fn *fn,
                  void *user)
{
    struct dbx_blob_op *op = op_new(b, DBX_BLOB_GET, name, fn, user);
    op->data.max = max < DBX_BLOB_MAX ? max : DBX_BLOB_MAX;
    if (range) {
        op->has_range = true;
        op->range = *range;
    } else if (sha256) {
        op->has_sha256 = true;
        memcpy(op->sha256, sha256, DBX_SHA256_LEN);
    }
    submit(op);
}

void dbx_blob_delete(struct dbx_blobs *b, const char *name, dbx_blob_fn *fn, void *user)
{
    submit(op_new(b, DBX_BLOB_DELETE, name, fn, user));
}

int dbx_blobs_open(const struct dbx_blobs_opts *opts, struct dbx_blobs **ret, struct dbx_err *err)
{
    struct dbx_blobs *b = DBX_NEW(struct dbx_blobs);
    int r;
    b->loop = opts->loop;
    b->timeout_ms = opts->timeout_ms ? opts->timeout_ms : TIMEOUT_MS;
    dbx_list_init(&b->waiting);
    dbx_list_init(&b->running);
    dbx_list_init(&b->ended);
    if (dbx_starts_with(opts->url, "file:")) {
        b->ops = &dbx_blob__file;
        r = dbx_blob__file_open(opts, opts->url + strlen("file:"), &b->be, err);
    } else if (dbx_starts_with(opts->url, "s3:")) {
        b->ops = &dbx_blob__s3;
        r = dbx_blob__s3_open(opts, opts->url + strlen("s3:"), &b->be, err);
    } else {
        r = dbx_err_field(err, "blobs", "must begin with file: or s3:");
    }
    if (r < 0)
        free(b);
    else
        *ret = b;
    return r;
}

static void cancel_all(struct dbx_blobs *b, struct dbx_list *list)
{
    while (!dbx_list_empty(list)) {
        struct dbx_blob_op *op = dbx_list_first(list, struct dbx_blob_op, node);
        const struct dbx_err cancelled = {
            .code = -ECANCELED, .kind = DBX_UNAVAIL, .msg = "cancelled"};
        dbx_list_remove(&op->node);
        op->b = NULL;
        bool later = list == &b->running && b->ops->abandon(b->be, op);
        op->fn(NULL, &cancelled, op->user);
        if (!later)
            dbx_blob__op_free(op);
    }
}

struct dbx_blobs *dbx_blobs_free(struct dbx_blobs *b)
{
    if (!b)
        return NULL;
    dbx_loop_undefer(b->loop, on_turn, b);
    cancel_all(b, &b->ended);
    cancel_all(b, &b->running);
    cancel_all(b, &b->waiting);
    b->ops->free(b->be);
    if (b->calling)
        b->dead = true;
    else
        free(b);
    return NULL;
}
