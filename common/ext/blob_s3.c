/* SPDX-License-Identifier: Apache-2.0 */
/* Objects in a bucket of any S3, by path (HOST/BUCKET/PREFIX/NAME), one request each.
 *
 * A write carries If-None-Match: *, so an object is never replaced; 412 says that it is there. What
 * fails for a reason that may pass (no connection, 5xx, 429, a digest that is wrong) is tried
 * again, with back-off, until the operation's deadline. After several failures in a row the store
 * counts as away: for a second every operation fails at once, and does not wait for its own
 * deadline. Server and network are not trusted with more than that: what is read is verified by who
 * knows its digest, and no answer is larger than it may be. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/fs.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/ext/blob_int.h"
#include "common/ext/sigv4.h"
#include "common/io/http_client.h"
#include "common/io/loop.h"

#define MAX_TRIES 5
#define BACKOFF_MS 100
#define STALL_MS 5000
#define AWAY_AFTER 6 /* failures in a row */
#define AWAY_MS 1000
#define MAX_ERROR (16u << 10)
#define MAX_KEY 256
#define MAX_HEADERS 8

struct keys {
    char access[MAX_KEY], secret[MAX_KEY], token[4096];
};

struct s3 {
    struct dbx_loop *loop;
    struct dbx_http_client *http;
    struct dbx_blob_s3_url url;
    char *keys_file, *ca_file; /* owned, or NULL */
    struct keys keys;
    unsigned failures; /* in a row */
    uint64_t away_until_ms;
};

/* One operation, from its first request to its end. */
struct attempt {
    struct s3 *s3;
    struct dbx_blob_op *op;
    struct dbx_fetch *fetch; /* or NULL */
    struct dbx_timer *timer; /* or NULL */
    bool keys_read;
};

/* --- credentials --- */

static bool copy_key(char *dst, size_t size, const char *from, size_t len)
{
    if (len == 0 || len >= size)
        return false;
    memcpy(dst, from, len);
    dst[len] = '\0';
    return true;
}

static int parse_keys(const char *text, struct keys *ret, struct dbx_err *err)
{
    static const char blank[] = " \t\r\n";
    const char *access = text + strspn(text, blank);
    size_t alen = strcspn(access, blank);
    const char *secret = access + alen + strspn(access + alen, blank);
    size_t slen = strcspn(secret, blank);
    const char *token = secret + slen + strspn(secret + slen, blank);
    size_t tlen = strcspn(token, blank);
    if (!copy_key(ret->access, sizeof(ret->access), access, alen) ||
        !copy_key(ret->secret, sizeof(ret->secret), secret, slen) ||
        (tlen && !copy_key(ret->token, sizeof(ret->token), token, tlen)))
        return dbx_err_set(err, -EINVAL, DBX_INVALID,
                           "the file of S3's keys holds no \"ACCESS_KEY SECRET_KEY\"");
    return 0;
}

static int read_keys(struct s3 *s3, struct dbx_err *err)
{
    struct keys found = {0};
    struct dbx_buf buf;
    if (!s3->keys_file) {
        const char *access = getenv("AWS_ACCESS_KEY_ID"), *secret = getenv("AWS_SECRET_ACCESS_KEY");
        const char *token = getenv("AWS_SESSION_TOKEN");
        if (!access || !secret || !dbx_strcpy(found.access, sizeof(found.access), access) ||
            !dbx_strcpy(found.secret, sizeof(found.secret), secret) ||
            !dbx_strcpy(found.token, sizeof(found.token), token ? token : ""))
            return dbx_err_set(err, -EINVAL, DBX_INVALID,
                               "no keys for S3: give a file of them, or AWS_ACCESS_KEY_ID and "
                               "AWS_SECRET_ACCESS_KEY");
        s3->keys = found;
        return 0;
    }
    int r = dbx_fs_read(s3->keys_file, 8192, &buf, err);
    if (r < 0)
        return r;
    r = parse_keys(dbx_buf_cstr(&buf), &found, err);
    if (r == 0)
        s3->keys = found;
    explicit_bzero(buf.data, buf.len);
    dbx_buf_done(&buf);
    return r;
}

/* --- what the server says --- */

void dbx_blob__s3_code(const void *body, size_t len, char ret[static DBX_S3_CODE])
{
    static const char tag[] = "<Code>";
    const char *p = len ? memmem(body, len, tag, sizeof(tag) - 1) : NULL;
    const char *end = (const char *)body + len;
    size_t n = 0;
    for (p = p ? p + sizeof(tag) - 1 : end; p < end && n + 1 < DBX_S3_CODE; p++) {
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9')))
            break;
        ret[n++] = *p;
    }
    ret[n] = '\0';
}

static void attempt_end(struct attempt *at)
{
    struct dbx_blob_op *op = at->op;
    dbx_timer_free(at->timer);
    op->at_work = NULL;
    free(at);
    dbx_blob__finish(op);
}

static void begin_try(void *user);

/* The operation's error stands; it may pass. */
static void try_again(struct attempt *at)
{
    struct dbx_blob_op *op = at->op;
    uint64_t wait = (uint64_t)BACKOFF_MS << op->tries;
    wait = wait / 2 + dbx_random_below(wait);
    if (++op->tries >= MAX_TRIES || dbx_now_ms() + wait >= op->deadline_ms ||
        dbx_now_ms() < at->s3->away_until_ms) {
        attempt_end(at);
        return;
    }
    if (!at->timer)
        at->timer = dbx_timer_new(at->s3->loop, begin_try, at);
    dbx_timer_start(at->timer, wait, 0);
}

static void failed(struct s3 *s3)
{
    if (++s3->failures >= AWAY_AFTER)
        s3->away_until_ms = dbx_now_ms() + AWAY_MS;
}

static bool worked(const struct dbx_blob_op *op, int status)
{
    switch (op->kind) {
    case DBX_BLOB_PUT:
        return status == 200 || status == 201 || status == 412;
    case DBX_BLOB_GET:
        return status == (op->has_range ? 206 : 200) || (op->has_range && status == 416);
    default:
        return status == 200 || status == 204 || status == 404;
    }
}

static void take_data(struct dbx_blob_op *op, int status, const struct dbx_buf *body)
{
    if (op->kind != DBX_BLOB_GET || status == 416)
        return;
    dbx_buf_clear(&op->data);
    if (dbx_buf_append(&op->data, body->data, body->len) < 0 ||
        (op->range.len && body->len > op->range.len))
        (void)dbx_err_set(&op->err, -EBADMSG, DBX_UNAVAIL, "S3 gave more than was asked for");
    dbx_blob__verify(op);
}

/* true: it may pass */
static bool read_failure(struct dbx_blob_op *op, int status, const struct dbx_buf *body)
{
    char code[DBX_S3_CODE];
    dbx_blob__s3_code(body->data, body->len, code);
    if (status == 404 && !dbx_streq(code, "NoSuchBucket")) {
        (void)dbx_err_set(&op->err, -ENOENT, DBX_NOT_FOUND, "there is no object '%s'", op->name);
    } else if (status == 401 || status == 403) {
        (void)dbx_err_set(&op->err, -EACCES, DBX_DENIED, "S3 refuses: %d %s", status, code);
    } else if (status == 507 || strstr(code, "Quota") || strstr(code, "InsufficientStorage")) {
        (void)dbx_err_set(&op->err, -ENOSPC, DBX_LIMIT, "S3 is full: %d %s", status, code);
    } else {
        (void)dbx_err_set(&op->err, -EIO, DBX_UNAVAIL, "S3 answers %d %s", status, code);
        return status >= 500 || status == 429 || status == 408 || status == 409;
    }
    return false;
}

static void on_answer(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    struct attempt *at = user;
    struct dbx_blob_op *op = at->op;
    struct s3 *s3 = at->s3;
    (void)f;
    at->fetch = NULL;
    if (!op->b) { /* abandoned */
        dbx_blob__op_free(op);
        free(at);
        return;
    }
    op->err = (struct dbx_err){0};
    if (result->err) {
        op->err = *result->err;
        (void)dbx_err_wrap(&op->err, op->err.code, "S3");
        bool passes = op->err.kind == DBX_UNAVAIL || op->err.kind == DBX_TIMEOUT;
        if (passes)
            failed(s3);
        if (passes)
            try_again(at);
        else
            attempt_end(at);
    } else if (worked(op, result->status)) {
        s3->failures = 0;
        take_data(op, result->status, result->body);
        if (op->err.code)
            try_again(at);
        else
            attempt_end(at);
    } else if (read_failure(op, result->status, result->body)) {
        failed(s3);
        try_again(at);
    } else if (op->err.kind == DBX_DENIED && s3->keys_file && !at->keys_read &&
               read_keys(s3, NULL) == 0) {
        at->keys_read = true;
        try_again(at);
    } else {
        attempt_end(at);
    }
}

/* --- asking --- */

struct head {
    char *line[MAX_HEADERS + 1]; /* owned */
    size_t n;
};

static void add_header(struct head *h, const char *name, const char *value)
{
    dbx_assert(h->n < MAX_HEADERS);
    h->line[h->n++] = dbx_asprintf("%s: %s", name, value);
}

static void sign_pair(struct dbx_sigv4_req *rq, const char *name, const char *value)
{
    rq->header[rq->nheaders++] = (struct dbx_sigv4_pair){name, value};
}

static void payload_hash(const struct dbx_blob_op *op, char ret[static 2 * DBX_SHA256_LEN + 1])
{
    uint8_t hash[DBX_SHA256_LEN];
    bool body = op->kind == DBX_BLOB_PUT && op->data.len;
    dbx_sha256(body ? op->data.data : (const uint8_t *)"", body ? op->data.len : 0, hash);
    dbx_hex_encode(hash, sizeof(hash), ret);
}

/* All headers of ours are signed. */
static int make_head(const struct attempt *at, const char *method, const char *path, struct head *h)
{
    const struct s3 *s3 = at->s3;
    const struct dbx_blob_op *op = at->op;
    char date[DBX_SIGV4_DATE], sha256[2 * DBX_SHA256_LEN + 1], range[64] = "bytes=0-";
    struct dbx_buf auth;
    struct dbx_sigv4_req rq = {.access_key = s3->keys.access,
                               .secret_key = s3->keys.secret,
                               .region = s3->url.region,
                               .service = "s3",
                               .date = date,
                               .method = method,
                               .path = path,
                               .payload_sha256 = sha256};
    dbx_sigv4_date(dbx_wall_us(), date);
    payload_hash(op, sha256);
    sign_pair(&rq, "host", s3->url.host);
    sign_pair(&rq, "x-amz-date", date);
    sign_pair(&rq, "x-amz-content-sha256", sha256);
    if (s3->keys.token[0])
        sign_pair(&rq, "x-amz-security-token", s3->keys.token);
    if (op->kind == DBX_BLOB_PUT)
        sign_pair(&rq, "if-none-match", "*");
    if (op->has_range && op->range.len)
        snprintf(range, sizeof(range), "bytes=%llu-%llu", (unsigned long long)op->range.from,
                 (unsigned long long)(op->range.from + op->range.len - 1));
    else if (op->has_range)
        snprintf(range, sizeof(range), "bytes=%llu-", (unsigned long long)op->range.from);
    if (op->has_range)
        sign_pair(&rq, "range", range);
    dbx_buf_init(&auth, DBX_MAX_HEADER);
    int r = dbx_sigv4_authorization(&rq, &auth);
    for (size_t i = 0; i < rq.nheaders; i++)
        add_header(h, rq.header[i].name, rq.header[i].value);
    add_header(h, "Authorization", dbx_buf_cstr(&auth));
    dbx_buf_done(&auth);
    return r;
}

static void begin_try(void *user)
{
    static const char *const methods[] = {"PUT", "GET", "DELETE"};
    struct attempt *at = user;
    struct dbx_blob_op *op = at->op;
    struct s3 *s3 = at->s3;
    struct head h = {0};
    DBX_CLEANUP(dbx_freep)
    char *path = dbx_asprintf("/%s/%s%s", s3->url.bucket, s3->url.prefix, op->name);
    DBX_CLEANUP(dbx_freep) char *url = dbx_asprintf("%s%s", s3->url.origin, path);
    uint64_t now = dbx_now_ms();
    if (now >= op->deadline_ms || make_head(at, methods[op->kind], path, &h) < 0) {
        if (!op->err.code)
            (void)dbx_err_set(&op->err, -ETIMEDOUT, DBX_TIMEOUT, "S3 is too slow");
        attempt_end(at);
    } else {
        bool put = op->kind == DBX_BLOB_PUT;
        const struct dbx_fetch_opts opts = {
            .method = methods[op->kind],
            .url = url,
            .headers = (const char *const *)h.line,
            .body = put ? op->data.data : NULL,
            .body_len = put ? op->data.len : 0,
            .max_response =
                op->kind == DBX_BLOB_GET && op->data.max > MAX_ERROR ? op->data.max : MAX_ERROR,
            .timeout_ms = (uint32_t)(op->deadline_ms - now),
            .stall_ms = STALL_MS,
            .ca_file = s3->ca_file};
        at->fetch = dbx_fetch(s3->http, &opts, on_answer, at);
    }
    for (size_t i = 0; i < h.n; i++) {
        explicit_bzero(h.line[i], strlen(h.line[i]));
        free(h.line[i]);
    }
}

static void s3_start(void *be, struct dbx_blob_op *op)
{
    struct s3 *s3 = be;
    if (dbx_now_ms() < s3->away_until_ms) {
        (void)dbx_err_set(&op->err, -EHOSTDOWN, DBX_UNAVAIL, "S3 has been away for a moment");
        dbx_blob__finish(op);
        return;
    }
    struct attempt *at = DBX_NEW(struct attempt);
    at->s3 = s3;
    at->op = op;
    op->at_work = at;
    begin_try(at);
}

static bool s3_abandon(void *be, struct dbx_blob_op *op)
{
    struct attempt *at = op->at_work;
    (void)be;
    if (!at)
        return false;
    at->timer = dbx_timer_free(at->timer);
    if (at->fetch) /* the client is freed next, and calls on_answer */
        return true;
    free(at);
    return false;
}

static void s3_free(void *be)
{
    struct s3 *s3 = be;
    dbx_http_client_free(s3->http);
    free(s3->keys_file);
    free(s3->ca_file);
    explicit_bzero(&s3->keys, sizeof(s3->keys));
    free(s3);
}

int dbx_blob__s3_open(const struct dbx_blobs_opts *opts, const char *url, void **ret,
                      struct dbx_err *err)
{
    struct s3 *s3 = DBX_NEW(struct s3);
    bool has_file = opts->keys_file && opts->keys_file[0];
    s3->loop = opts->loop;
    s3->http = dbx_http_client_new(opts->loop);
    s3->keys_file = has_file ? dbx_strdup(opts->keys_file) : NULL;
    s3->ca_file = opts->ca_file && opts->ca_file[0] ? dbx_strdup(opts->ca_file) : NULL;
    int r = dbx_blob__s3_url_parse(url, &s3->url, err);
    if (r == 0)
        r = read_keys(s3, err);
    if (r < 0)
        s3_free(s3);
    else
        *ret = s3;
    return r;
}

const struct dbx_blob_backend dbx_blob__s3 = {
    .start = s3_start, .abandon = s3_abandon, .free = s3_free};
