/* SPDX-License-Identifier: Apache-2.0 */
/* Results are read by pages, behind the cursor of the last one that was shown: so a gateway that
 * goes away costs a moment, and nothing is shown twice. Ctrl-C leaves; the batch goes on. */
#include "cli/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/api.h"
#include "cli/args.h"
#include "cli/batch_body.h"
#include "cli/run.h"
#include "cli/verdict.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/io/loop.h"

#define PATIENCE_MS 60000u
#define POST_MS 120000u
#define POLL_MS 250u
#define PAGE 100
#define MAX_PAGE_BYTES (64u << 20)
#define MAX_LINE (32u << 20)
#define MAX_CURSOR 64

struct batch {
    struct dbx_loop *loop;
    struct cli_api *api;
    struct dbx_timer *poll;
    char id[64], cursor[MAX_CURSOR];
    const char *junit; /* a path, or NULL */
    int junit_fd;
    bool table; /* for people */
    int64_t total, passed, failed;
};

struct args {
    const char *words[3], *junit;
    size_t n;
    struct cli_batch_fields fields;
};

static int wrong(void)
{
    cli_say("batch run FILE [--template T --isolation I --retry R] [--junit FILE], or batch watch "
            "ID [--junit FILE]");
    return CLI_EXIT_DEVBOX;
}

static int parse(char **argv, struct args *a)
{
    const struct cli_option options[] = {{"--junit", &a->junit},
                                         {"--template", &a->fields.template},
                                         {"--isolation", &a->fields.isolation},
                                         {"--retry", &a->fields.retry}};
    if (cli_args_read(argv, options, DBX_ARRAY_LEN(options), a->words, DBX_ARRAY_LEN(a->words),
                      &a->n))
        return wrong();
    bool fields = a->fields.template || a->fields.isolation || a->fields.retry;
    bool run = a->n == 3 && dbx_streq(a->words[1], "run");
    bool watch = a->n == 3 && dbx_streq(a->words[1], "watch") && !fields;
    if (run || watch)
        return 0;
    cli_say("which batch?");
    return wrong();
}

static void leave(struct batch *b, int code)
{
    dbx_loop_stop(b->loop, code);
}

static void fail(struct batch *b, const char *what)
{
    cli_say("%s", what);
    if (b->id[0])
        cli_say("batch watch %s goes on from here", b->id);
    leave(b, CLI_EXIT_DEVBOX);
}

/* ---- showing ---- */

static void progress(const struct batch *b, const char *end)
{
    if (b->table)
        fprintf(stderr, "\r\x1b[K%lld of %lld, %lld failed%s", (long long)(b->passed + b->failed),
                (long long)b->total, (long long)b->failed, end);
}

static int put_json(const struct dbx_json *node, const char *without)
{
    struct dbx_buf line;
    dbx_buf_init(&line, MAX_LINE);
    struct dbx_jw *w = dbx_jw_new(&line);
    if (without) {
        dbx_jw_object(w);
        for (size_t i = 0; i < dbx_json_count(node); i++) {
            const struct dbx_json *value;
            const char *key = dbx_json_key(node, i, &value);
            if (strcmp(key, without) == 0 || strcmp(key, "next_cursor") == 0)
                continue;
            dbx_jw_key(w, key);
            dbx_jw_node(w, value);
        }
        dbx_jw_object_end(w);
    } else {
        dbx_jw_node(w, node);
    }
    int r = dbx_jw_end(&w);
    if (r == 0)
        r = dbx_buf_str(&line, "\n");
    if (r == 0 && fwrite(line.data, 1, line.len, stdout) != line.len)
        r = -EIO;
    dbx_buf_done(&line);
    return r;
}

/* For people: what did not pass. */
static void show_failed(const struct batch *b, const struct dbx_json *result, const char *verdict)
{
    progress(b, "\r\x1b[K");
    printf("executions[%lld] ", (long long)dbx_json_get_i64(result, "index", -1));
    if (dbx_streq(verdict, "EXIT_CODE"))
        printf("exit code %lld", (long long)dbx_json_get_i64(result, "exit_code", -1));
    else
        fputs(dbx_streq(verdict, "OK") ? "WRONG_OUTPUT" : verdict, stdout);
    printf(", batch %s\n", b->id);
    (void)fflush(stdout);
}

static int show(struct batch *b, const struct dbx_json *result)
{
    const char *verdict = dbx_json_get_str(result, "verdict");
    bool passed = dbx_streq(verdict, "OK") && dbx_json_get_bool(result, "passed", true);
    b->passed += passed;
    b->failed += !passed;
    if (!b->table)
        return put_json(result, NULL);
    if (!passed)
        show_failed(b, result, verdict ? verdict : "?");
    return 0;
}

/* ---- the end ---- */

static void on_junit(int status, const struct dbx_json *root, const struct dbx_err *err, void *user)
{
    struct batch *b = user;
    (void)root;
    if (status == 200)
        leave(b, b->failed ? CLI_EXIT_FAILED : 0);
    else
        fail(b, err->msg);
}

static void finish(struct batch *b, const struct dbx_json *root)
{
    progress(b, "\n");
    if (b->table)
        printf("%s: %lld passed, %lld failed\n", dbx_json_get_str(root, "status"),
               (long long)b->passed, (long long)b->failed);
    else if (put_json(root, "results") < 0)
        b->failed++;
    if (fflush(stdout) != 0) {
        fail(b, "cannot write the results");
        return;
    }
    if (!b->junit) {
        leave(b, b->failed ? CLI_EXIT_FAILED : 0);
        return;
    }
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("/api/batches/%s/results", b->id);
    const struct cli_call call = {.method = "GET",
                                  .path = path,
                                  .accept = "application/xml",
                                  .save = true,
                                  .save_fd = b->junit_fd,
                                  .patience_ms = PATIENCE_MS,
                                  .timeout_ms = POST_MS};
    cli_api_call(b->api, &call, on_junit, b);
}

/* ---- pages ---- */

static void on_page(int status, const struct dbx_json *root, const struct dbx_err *err, void *user);

static void ask(void *user)
{
    struct batch *b = user;
    DBX_CLEANUP(dbx_freep)
    char *path = dbx_asprintf("/api/batches/%s?limit=%d%s%s", b->id, PAGE,
                              b->cursor[0] ? "&cursor=" : "", b->cursor);
    const struct cli_call call = {
        .method = "GET", .path = path, .max_answer = MAX_PAGE_BYTES, .patience_ms = PATIENCE_MS};
    cli_api_call(b->api, &call, on_page, b);
}

static void on_page(int status, const struct dbx_json *root, const struct dbx_err *err, void *user)
{
    struct batch *b = user;
    const struct dbx_json *results = dbx_json_get(root, "results");
    const char *next = dbx_json_get_str(root, "next_cursor");
    if (status != 200) {
        fail(b, err->msg);
        return;
    }
    b->total = dbx_json_get_i64(root, "total", 0);
    for (size_t i = 0; i < dbx_json_count(results); i++)
        if (show(b, dbx_json_at(results, i)) < 0) {
            fail(b, "cannot write the results");
            return;
        }
    progress(b, "");
    if (!b->table && fflush(stdout) != 0) {
        fail(b, "cannot write the results");
        return;
    }
    if (!next) {
        finish(b, root);
        return;
    }
    if (!dbx_strcpy(b->cursor, sizeof(b->cursor), next)) {
        fail(b, "a cursor that cannot be");
        return;
    }
    if (dbx_json_count(results) > 0)
        ask(b);
    else
        dbx_timer_start(b->poll, POLL_MS, 0);
}

static void on_posted(int status, const struct dbx_json *root, const struct dbx_err *err,
                      void *user)
{
    struct batch *b = user;
    const char *id = dbx_json_get_str(root, "id");
    if (status != 202 || !id || !dbx_strcpy(b->id, sizeof(b->id), id)) {
        fail(b, status ? err->msg : "no DevBox answers");
        return;
    }
    cli_say("batch %s", b->id);
    ask(b);
}

/* ---- the command ---- */

static int post(struct batch *b, const struct args *a, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf file = {0};
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf body = {0};
    char key[33];
    dbx_buf_init(&body, CLI_BATCH_MAX);
    const char *path = dbx_streq(a->words[2], "-") ? "/dev/stdin" : a->words[2];
    int r = dbx_fs_read(path, CLI_BATCH_MAX, &file, err);
    if (r == 0)
        r = cli_batch_body(dbx_buf_cstr(&file), file.len, &a->fields, &body, err);
    if (r < 0)
        return r;
    uint8_t raw[16];
    dbx_random(raw, sizeof(raw));
    dbx_hex_encode(raw, sizeof(raw), key);
    const struct cli_call call = {.method = "POST",
                                  .path = "/api/batches",
                                  .body = body.data,
                                  .body_len = body.len,
                                  .idempotency_key = key,
                                  .patience_ms = POST_MS,
                                  .timeout_ms = POST_MS};
    cli_api_call(b->api, &call, on_posted, b);
    return 0;
}

static int begin(struct batch *b, const struct args *a, struct dbx_err *err)
{
    if (b->junit)
        b->junit_fd = open(b->junit, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (b->junit && b->junit_fd < 0)
        return dbx_err_sys(err, "open %s", b->junit);
    if (dbx_streq(a->words[1], "run"))
        return post(b, a, err);
    for (const char *p = a->words[2]; *p; p++)
        if (!strchr("0123456789abcdefABCDEF-", *p))
            return dbx_err_set(err, -EINVAL, DBX_INVALID, "'%.60s' is not an id", a->words[2]);
    if (!dbx_strcpy(b->id, sizeof(b->id), a->words[2]))
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "'%.60s' is not an id", a->words[2]);
    ask(b);
    return 0;
}

int cli_batch(const struct cli_people_opts *opts, char **argv)
{
    struct dbx_err err = {0};
    struct args a = {0};
    int code = parse(argv, &a);
    if (code)
        return code;
    if (!opts->key) {
        cli_say("who are you? devbox login, or DEVBOX_API_KEY");
        return CLI_EXIT_DEVBOX;
    }
    struct batch b = {
        .loop = dbx_loop_new(), .junit = a.junit, .junit_fd = -1, .table = isatty(STDOUT_FILENO)};
    int r = cli_api_new(b.loop, opts->urls, opts->key, opts->ca_file, &b.api, &err);
    if (r == 0) {
        b.poll = dbx_timer_new(b.loop, ask, &b);
        r = begin(&b, &a, &err);
        code = r < 0 ? CLI_EXIT_DEVBOX : dbx_loop_run(b.loop);
        cli_api_close(b.api);
    }
    if (r < 0) {
        cli_say("%s", err.msg);
        code = CLI_EXIT_DEVBOX;
    }
    dbx_timer_free(b.poll);
    dbx_loop_free(b.loop);
    cli_api_free(b.api);
    dbx_close(b.junit_fd);
    return code;
}
