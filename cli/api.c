/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/list.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/io/http_client.h"
#include "common/io/loop.h"

#define ONE_TRY_MS 15000u
#define AGAIN_MS 200u

struct cli_api {
    struct dbx_loop *loop;
    struct dbx_http_client *http;
    char *urls[CLI_MAX_GATEWAYS];
    size_t n, at;
    char *authorization; /* a header line, or NULL */
    char *ca_file;
    bool closing;
    struct dbx_list calls;
};

struct call {
    struct cli_api *api;
    struct dbx_list node;
    char *method, *path, *idempotency;
    struct dbx_buf body;
    uint64_t deadline_ms;
    uint32_t timeout_ms;
    size_t max_answer;
    char *accept; /* a header line, or NULL */
    bool save;
    int save_fd;
    struct dbx_timer *again;
    bool asking; /* http has it, and will call back */
    cli_api_fn *fn;
    void *user;
};

static int add_url(struct cli_api *api, const char *url, size_t len, struct dbx_err *err)
{
    while (len > 0 && url[len - 1] == '/')
        len--;
    if (api->n == CLI_MAX_GATEWAYS)
        return dbx_err_set(err, -E2BIG, DBX_INVALID, "DEVBOX_URL names more than %d gateways",
                           CLI_MAX_GATEWAYS);
    char *copy = dbx_strndup(url, len);
    api->urls[api->n++] = copy;
    if (!dbx_starts_with(copy, "http://") && !dbx_starts_with(copy, "https://"))
        return dbx_err_set(err, -EINVAL, DBX_INVALID,
                           "DEVBOX_URL: '%.100s' does not begin with http:// or https://", copy);
    return 0;
}

int cli_api_new(struct dbx_loop *loop, const char *urls, const char *key, const char *ca_file,
                struct cli_api **ret, struct dbx_err *err)
{
    struct cli_api *api = DBX_NEW(struct cli_api);
    int r = 0;
    api->loop = loop;
    dbx_list_init(&api->calls);
    for (size_t len; r == 0 && *urls; urls += len + (urls[len] == ',')) {
        len = strcspn(urls, ",");
        if (len > 0)
            r = add_url(api, urls, len, err);
    }
    if (r == 0 && api->n == 0)
        r = dbx_err_set(err, -EINVAL, DBX_INVALID, "DEVBOX_URL is empty");
    if (key)
        api->authorization = dbx_asprintf("Authorization: Bearer %s", key);
    if (key && strpbrk(key, "\r\n"))
        r = dbx_err_set(err, -EINVAL, DBX_INVALID, "DEVBOX_API_KEY holds a line break");
    if (ca_file)
        api->ca_file = dbx_strdup(ca_file);
    if (r < 0) {
        cli_api_free(api);
        return r;
    }
    api->http = dbx_http_client_new(loop);
    *ret = api;
    return 0;
}

static void call_free(struct call *c)
{
    dbx_list_remove(&c->node);
    dbx_timer_free(c->again);
    dbx_buf_done(&c->body);
    free(c->method);
    free(c->path);
    free(c->idempotency);
    free(c->accept);
    free(c);
}

void cli_api_close(struct cli_api *api)
{
    struct dbx_list *it, *tmp;
    api->closing = true;
    dbx_list_each(it, tmp, &api->calls)
    {
        struct call *c = dbx_list_entry(it, struct call, node);
        c->again = dbx_timer_free(c->again);
        if (!c->asking)
            call_free(c);
    }
    api->http = dbx_http_client_free(api->http);
}

struct cli_api *cli_api_free(struct cli_api *api)
{
    if (!api)
        return NULL;
    for (size_t i = 0; i < api->n; i++)
        free(api->urls[i]);
    free(api->authorization);
    free(api->ca_file);
    free(api);
    return NULL;
}

const char *cli_api_url(const struct cli_api *api)
{
    return api->urls[api->at];
}

const char *cli_api_ca_file(const struct cli_api *api)
{
    return api->ca_file;
}

void cli_api_next(struct cli_api *api)
{
    api->at = (api->at + 1) % api->n;
}

/* {"error":{"code","message","field"}} in one line. */
static void read_error(int status, const struct dbx_json *root, struct dbx_err *err)
{
    const struct dbx_json *e = dbx_json_get(root, "error");
    const char *message = dbx_json_get_str(e, "message"), *field = dbx_json_get_str(e, "field");
    if (!message)
        (void)dbx_err_set(err, -EPROTO, DBX_INTERNAL, "the gateway answered %d", status);
    else if (field)
        (void)dbx_err_set(err, -EINVAL, DBX_INVALID, "%.80s: %.150s", field, message);
    else
        (void)dbx_err_set(err, -EPROTO, DBX_INTERNAL, "%.200s", message);
}

static bool is_away(int status)
{
    return status == 0 || status == 502 || status == 503 || status == 504;
}

static void try(struct call *c);

static void on_again(void *user)
{
    try(user);
}

static void on_answer(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    struct call *c = user;
    struct cli_api *api = c->api;
    struct dbx_json_doc *doc = NULL;
    struct dbx_err err = {0}, ignored;
    (void)f;
    c->asking = false;
    if (api->closing) {
        call_free(c);
        return;
    }
    bool again = c->idempotency || dbx_streq(c->method, "GET");
    const char *url = api->urls[api->at];
    if (is_away(result->status)) {
        cli_api_next(api);
        if (again && dbx_now_ms() < c->deadline_ms) {
            dbx_timer_start(c->again, api->at == 0 ? AGAIN_MS : 1, 0);
            return;
        }
    }
    if (result->status == 0)
        (void)dbx_err_set(&err, -ENOTCONN, DBX_UNAVAIL, "no DevBox answers at %.100s: %.120s", url,
                          result->err ? result->err->msg : "");
    else if (dbx_json_parse(result->body->data, result->body->len, NULL, &doc, &ignored) < 0)
        doc = NULL;
    const struct dbx_json *root = doc ? dbx_json_root(doc) : NULL;
    if (result->status >= 400)
        read_error(result->status, root, &err);
    cli_api_fn *fn = c->fn;
    void *fn_user = c->user;
    call_free(c);
    fn(result->status, root, &err, fn_user);
    dbx_json_doc_free(doc);
}

static int on_data(struct dbx_fetch *f, const void *data, size_t len, void *user)
{
    struct call *c = user;
    return dbx_fetch_status(f) == 200 ? dbx_write_all(c->save_fd, data, len) : 0;
}

static void try(struct call *c)
{
    struct cli_api *api = c->api;
    DBX_CLEANUP(dbx_freep)
    char *url = dbx_asprintf("%s%s", api->urls[api->at], c->path);
    const char *headers[5];
    size_t n = 0;
    if (api->authorization)
        headers[n++] = api->authorization;
    if (c->idempotency)
        headers[n++] = c->idempotency;
    if (c->body.len)
        headers[n++] = "Content-Type: application/json";
    if (c->accept)
        headers[n++] = c->accept;
    headers[n] = NULL;
    if (c->save) {
        (void)!ftruncate(c->save_fd, 0); /* a pipe keeps what it has */
        (void)lseek(c->save_fd, 0, SEEK_SET);
    }
    struct dbx_fetch_opts o = {.method = c->method,
                               .url = url,
                               .headers = headers,
                               .body = c->body.data,
                               .body_len = c->body.len,
                               .timeout_ms = c->timeout_ms,
                               .max_response = c->max_answer,
                               .on_data = c->save ? on_data : NULL,
                               .ca_file = api->ca_file};
    c->asking = true;
    dbx_fetch(api->http, &o, on_answer, c);
}

void cli_api_call(struct cli_api *api, const struct cli_call *call, cli_api_fn *fn, void *user)
{
    struct call *c = DBX_NEW(struct call);
    c->api = api;
    c->fn = fn;
    c->user = user;
    c->method = dbx_strdup(call->method);
    c->path = dbx_strdup(call->path);
    if (call->idempotency_key)
        c->idempotency = dbx_asprintf("Idempotency-Key: %s", call->idempotency_key);
    if (call->accept)
        c->accept = dbx_asprintf("Accept: %s", call->accept);
    c->timeout_ms = call->timeout_ms ? call->timeout_ms : ONE_TRY_MS;
    c->max_answer = call->save ? SIZE_MAX : call->max_answer;
    c->save = call->save;
    c->save_fd = call->save_fd;
    dbx_buf_init(&c->body, call->body_len);
    int r = dbx_buf_append(&c->body, call->body, call->body_len);
    dbx_assert(r == 0); /* it has just so much room */
    c->deadline_ms = dbx_now_ms() + call->patience_ms;
    c->again = dbx_timer_new(api->loop, on_again, c);
    dbx_list_push(&api->calls, &c->node);
    try(c);
}
