/* SPDX-License-Identifier: Apache-2.0 */
/* The blob store on a folder, and on scripted S3 servers that are away, slow, full or lie. A real
 * S3 is tests/system/test_blobs.py's. */
#include "common/ext/blob.h"
#include "common/ext/blob_int.h"
#include "tests/unit/check.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fs.h"
#include "common/base/str.h"
#include "common/io/httpd.h"
#include "common/io/loop.h"

static struct dbx_loop *loop;
static bool running;
static char dir[] = "/tmp/test-blob-XXXXXX";

struct outcome {
    unsigned called, wanted;
    int code;
    enum dbx_kind kind;
    char data[64];
    size_t len;
};

static void run_loop(void)
{
    running = true;
    dbx_loop_run(loop);
    running = false;
}

static void on_done(struct dbx_buf *data, const struct dbx_err *err, void *user)
{
    struct outcome *o = user;
    o->code = err ? err->code : 0;
    o->kind = err ? err->kind : DBX_OK;
    o->len = data ? data->len : 0;
    if (data)
        snprintf(o->data, sizeof(o->data), "%s", dbx_buf_cstr(data));
    if (++o->called == (o->wanted ? o->wanted : 1) && running)
        dbx_loop_stop(loop, 0);
}

static struct outcome put(struct dbx_blobs *b, const char *name, const char *text)
{
    struct outcome o = {0};
    dbx_blob_put(b, name, text, strlen(text), on_done, &o);
    CHECK_EQ(o.called, 0);
    run_loop();
    return o;
}

static struct outcome get(struct dbx_blobs *b, const char *name, size_t max,
                          const struct dbx_blob_range *range, const char *text)
{
    struct outcome o = {0};
    uint8_t hash[DBX_SHA256_LEN];
    if (text)
        dbx_sha256(text, strlen(text), hash);
    dbx_blob_get(b, name, max, range, text ? hash : NULL, on_done, &o);
    run_loop();
    return o;
}

static struct outcome del(struct dbx_blobs *b, const char *name)
{
    struct outcome o = {0};
    dbx_blob_delete(b, name, on_done, &o);
    run_loop();
    return o;
}

static struct dbx_blobs *open_blobs(const char *url, uint32_t timeout_ms)
{
    struct dbx_blobs_opts opts = {.loop = loop, .url = url, .timeout_ms = timeout_ms};
    struct dbx_blobs *b = NULL;
    struct dbx_err err = {0};
    CHECK_EQ(dbx_blobs_open(&opts, &b, &err), 0);
    return b;
}

/* What every back end does. */
static void check_objects(struct dbx_blobs *b)
{
    const struct dbx_blob_range middle = {2, 3}, rest = {4, 0};
    CHECK_EQ(put(b, "files/ab/one", "first text").code, 0);
    CHECK_EQ(put(b, "files/ab/one", "another").code, 0); /* stays as it was */
    struct outcome o = get(b, "files/ab/one", 100, NULL, "first text");
    CHECK_EQ(o.code, 0);
    CHECK_STR(o.data, "first text");
    CHECK_STR(get(b, "files/ab/one", 100, &middle, NULL).data, "rst");
    CHECK_STR(get(b, "files/ab/one", 100, &rest, NULL).data, "t text");
    CHECK_EQ(get(b, "files/ab/one", 100, NULL, "another").code, -EBADMSG);
    CHECK_EQ(get(b, "files/ab/two", 100, NULL, NULL).kind, DBX_NOT_FOUND);
    CHECK_EQ(put(b, "empty", "").code, 0);
    CHECK_EQ(get(b, "empty", 100, NULL, "").len, 0);
    CHECK_EQ(del(b, "files/ab/one").code, 0);
    CHECK_EQ(del(b, "files/ab/one").code, 0);
    CHECK_EQ(get(b, "files/ab/one", 100, NULL, NULL).code, -ENOENT);
    CHECK_EQ(put(b, "../x", "").kind, DBX_INVALID);
}

/* --- a folder --- */

static void test_folder(void)
{
    DBX_CLEANUP(dbx_freep) char *url = dbx_asprintf("file:%s/store", dir);
    DBX_CLEANUP(dbx_freep) char *torn = dbx_asprintf("%s/store/.tmp/killed", dir);
    DBX_CLEANUP(dbx_freep) char *object = dbx_asprintf("%s/store/x/object", dir);
    struct dbx_blobs *b = open_blobs(url, 0);
    check_objects(b);
    CHECK_EQ(put(b, "x/object", "bytes").code, 0);
    CHECK_EQ(get(b, "x/object", 4, NULL, NULL).code, -E2BIG);
    CHECK_EQ(truncate(object, 3), 0); /* the disk lies */
    CHECK_EQ(get(b, "x/object", 100, NULL, "bytes").code, -EBADMSG);

    CHECK_EQ(dbx_fs_write_atomic(torn, "half", 4, 0600, NULL), 0);
    struct outcome o = {.wanted = 2}; /* freed while a thread has them: called back, once */
    dbx_blob_put(b, "x/last", "abc", 3, on_done, &o);
    dbx_blob_get(b, "x/object", 100, NULL, NULL, on_done, &o);
    dbx_blobs_free(b);
    CHECK_EQ(o.called, 2);
    CHECK_EQ(o.code, -ECANCELED);
    b = open_blobs(url, 0);
    CHECK_EQ(access(torn, F_OK), 0); /* it may be somebody's who is at it */
    dbx_blobs_free(b);
}

static void on_many(struct dbx_buf *data, const struct dbx_err *err, void *user)
{
    on_done(data, err, user);
}

static void test_bounds(void)
{
    DBX_CLEANUP(dbx_freep) char *url = dbx_asprintf("file:%s/many", dir);
    struct dbx_blobs *b = open_blobs(url, 0);
    struct outcome o = {.wanted = 513};
    for (unsigned i = 0; i < 513; i++) {
        char name[32];
        snprintf(name, sizeof(name), "n/%u", i);
        dbx_blob_put(b, name, "x", 1, on_many, &o);
        CHECK_EQ(o.called, 0);
    }
    run_loop(); /* the one that was too many is the first to be told */
    CHECK_EQ(o.called, 513);
    CHECK_EQ(o.code, 0);
    dbx_blobs_free(b);
}

/* --- S3 --- */

static void test_urls(void)
{
    static const char *const bad[] = {"",
                                      "ftp://h/bucket",
                                      "http://h",
                                      "http://h/",
                                      "http://h/ab",
                                      "http://h:0/bucket",
                                      "http://h:x/bucket",
                                      "http:///bucket",
                                      "http://h/Bucket",
                                      "http://h/bucket/..",
                                      "http://h/bucket//x",
                                      "http://user@h/bucket",
                                      "http://h/bucket?x=y",
                                      "http://h/bucket?region="};
    struct dbx_blob_s3_url u;
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK_EQ(dbx_blob__s3_url_parse(bad[i], &u, NULL), -EINVAL);
    CHECK_EQ(dbx_blob__s3_url_parse("https://h.x:443/the-bucket/a/b/?region=eu-1", &u, NULL), 0);
    CHECK_STR(u.origin, "https://h.x");
    CHECK_STR(u.host, "h.x");
    CHECK_STR(u.bucket, "the-bucket");
    CHECK_STR(u.prefix, "a/b/");
    CHECK_STR(u.region, "eu-1");
    CHECK_EQ(dbx_blob__s3_url_parse("http://127.0.0.1:9000/abc", &u, NULL), 0);
    CHECK_STR(u.host, "127.0.0.1:9000");
    CHECK_STR(u.prefix, "");
    CHECK_STR(u.region, "us-east-1");
}

static void test_codes(void)
{
    char code[DBX_S3_CODE];
    dbx_blob__s3_code("<Error><Code>NoSuchKey</Code>", 29, code);
    CHECK_STR(code, "NoSuchKey");
    dbx_blob__s3_code("<Code>", 6, code);
    CHECK_STR(code, "");
    dbx_blob__s3_code("", 0, code);
    CHECK_STR(code, "");
}

static void test_names(void)
{
    static const char *const bad[] = {"",   "/a", "a/",  "a//b", "a/.b",
                                      ".a", "A",  "a b", "..",   "a/.."};
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK(!dbx_blob_name_ok(bad[i]));
    CHECK(dbx_blob_name_ok("files/0a/0a12-3.x_y"));
}

/* A server with one object, that does what `script` says: a status for each request in turn, the
 * last one for ever. */
struct fake {
    struct dbx_httpd *httpd;
    const int *script;
    unsigned asked;
    const char *object;
    char seen[64]; /* If-None-Match of the last PUT */
    bool signed_;
};

static void on_request(struct dbx_http_req *rq, void *user)
{
    struct fake *f = user;
    int status = f->script[f->asked];
    const char *auth = dbx_http_header(rq, "authorization"),
               *cond = dbx_http_header(rq, "if-none-match");
    f->signed_ = auth && dbx_starts_with(auth, "AWS4-HMAC-SHA256 Credential=access/");
    snprintf(f->seen, sizeof(f->seen), "%s", cond ? cond : "");
    if (f->script[f->asked + 1])
        f->asked++;
    if (status == -1)
        return; /* never an answer */
    const char *body = status == 507   ? "<Code>InsufficientStorage</Code>"
                       : status == 200 ? f->object
                                       : "<Error><Code>Other</Code></Error>";
    dbx_http_reply(rq, status, "text/plain", NULL, body, strlen(body));
}

static struct dbx_blobs *fake_open(struct fake *f, uint32_t timeout_ms)
{
    static const struct dbx_httpd_handlers handlers = {.on_request = on_request};
    const struct dbx_httpd_opts opts = {
        .loop = loop, .listen = "127.0.0.1:0", .handlers = &handlers, .user = f};
    struct dbx_err err = {0};
    CHECK_EQ(dbx_httpd_new(&opts, &f->httpd, &err), 0);
    DBX_CLEANUP(dbx_freep)
    char *url = dbx_asprintf("s3:http://127.0.0.1:%u/bucket", dbx_httpd_port(f->httpd));
    return open_blobs(url, timeout_ms);
}

static void fake_close(struct fake *f, struct dbx_blobs *b)
{
    dbx_blobs_free(b);
    dbx_httpd_free(f->httpd);
}

static void test_s3_faults(void)
{
    static const int passes[] = {500, 503, 200, 0}, exists[] = {412, 0}, full[] = {507, 0},
                     refused[] = {403, 0}, gone[] = {404, 0}, silent[] = {-1, 0}, fine[] = {200, 0};
    struct fake f = {.script = passes, .object = "x"};
    struct dbx_blobs *b = fake_open(&f, 5000);
    CHECK_EQ(put(b, "a", "x").code, 0); /* after two that failed */
    CHECK(f.signed_);
    CHECK_STR(f.seen, "*");
    f.script = exists, f.asked = 0;
    CHECK_EQ(put(b, "a", "x").code, 0);
    f.script = full, f.asked = 0;
    struct outcome o = put(b, "a", "x");
    CHECK_EQ(o.code, -ENOSPC);
    CHECK_EQ(o.kind, DBX_LIMIT);
    f.script = refused, f.asked = 0;
    CHECK_EQ(put(b, "a", "x").kind, DBX_DENIED);
    f.script = gone, f.asked = 0;
    CHECK_EQ(get(b, "a", 100, NULL, "x").kind, DBX_NOT_FOUND);
    f.script = fine, f.asked = 0, f.object = "lies";
    o = get(b, "a", 100, NULL, "x");
    CHECK_EQ(o.code, -EBADMSG);
    CHECK_EQ(o.kind, DBX_UNAVAIL);
    f.object = "0123456789012345678901234567890123456789";
    fake_close(&f, b);

    f = (struct fake){.script = silent};
    b = fake_open(&f, 300);
    o = get(b, "a", 100, NULL, "x");
    CHECK_EQ(o.kind, DBX_TIMEOUT);
    o = (struct outcome){0};
    dbx_blob_get(b, "a", 100, NULL, NULL, on_done, &o);
    fake_close(&f, b); /* while it waits */
    CHECK_EQ(o.code, -ECANCELED);
}

/* Nobody listens: after some failures it is not asked any more for a moment. */
static void test_s3_away(void)
{
    struct dbx_blobs *b = open_blobs("s3:http://127.0.0.1:1/bucket", 2000);
    CHECK_EQ(put(b, "a", "x").kind, DBX_UNAVAIL);
    CHECK_EQ(put(b, "a", "x").kind, DBX_UNAVAIL);
    CHECK_EQ(put(b, "a", "x").code, -EHOSTDOWN);
    dbx_blobs_free(b);
}

int main(void)
{
    struct dbx_blobs *b = NULL;
    struct dbx_blobs_opts opts = {.url = "http://x"};
    setenv("AWS_ACCESS_KEY_ID", "access", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
    if (!mkdtemp(dir))
        return 1;
    loop = dbx_loop_new();
    opts.loop = loop;
    CHECK_EQ(dbx_blobs_open(&opts, &b, NULL), -EINVAL);
    opts.url = "file:relative";
    CHECK_EQ(dbx_blobs_open(&opts, &b, NULL), -EINVAL);
    test_names();
    test_urls();
    test_codes();
    test_folder();
    test_bounds();
    test_s3_faults();
    test_s3_away();
    dbx_loop_free(loop);
    CHECK_EQ(dbx_fs_remove_tree(dir, NULL), 0);
    return check_result();
}
