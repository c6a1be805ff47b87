/* SPDX-License-Identifier: Apache-2.0 */
/* Requests as the application sees them, and the answers it gives. */
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/httpd_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define REQ_MAGIC 0x52657171
#define MAX_ANSWER_HEAD (64u << 10)

static struct dbx_http_req *cast(const struct dbx_http_req *req)
{
    return DBX_CAST(struct dbx_http_req, REQ_MAGIC, (struct dbx_http_req *)req);
}

struct dbx_http_req *dbx_http__req_new(struct conn *c)
{
    struct dbx_http_req *req = DBX_NEW(struct dbx_http_req);

    req->magic = REQ_MAGIC;
    req->conn = c;
    req->left = -1;
    dbx_buf_init(&req->body, 0);
    return req;
}

void dbx_http__req_free(struct dbx_http_req *req)
{
    while (req->joined) {
        struct joined *j = req->joined;
        req->joined = j->next;
        free(j->name);
        free(j->value);
        free(j);
    }
    free(req->query);
    free(req->query_text);
    req->conn->hd->body_bytes -= req->body.len;
    dbx_buf_done(&req->body);
    dbx_http1_done(&req->head);
    req->magic = 0;
    free(req);
}

/* --- reading it --- */

const char *dbx_http_method(const struct dbx_http_req *req)
{
    return cast(req)->head.method;
}

const char *dbx_http_path(const struct dbx_http_req *req)
{
    return cast(req)->head.path;
}

const char *dbx_http_raw_query(const struct dbx_http_req *req)
{
    return cast(req)->head.query;
}

const uint8_t *dbx_http_body(const struct dbx_http_req *req, size_t *ret_len)
{
    *ret_len = cast(req)->body.len;
    return req->body.data ? req->body.data : (const uint8_t *)"";
}

const char *dbx_http_peer(const struct dbx_http_req *req)
{
    return cast(req)->conn->peer;
}

void dbx_http_set_user(struct dbx_http_req *req, void *user)
{
    cast(req)->user = user;
}

void *dbx_http_user(const struct dbx_http_req *req)
{
    return cast(req)->user;
}

void dbx_http_on_abort(struct dbx_http_req *req, void (*fn)(struct dbx_http_req *req, void *user),
                       void *user)
{
    cast(req)->on_abort = fn;
    req->abort_user = user;
}

/* RFC 9110 5.3: several lines of one name are one list; cookies join with "; ". */
static const char *join(struct dbx_http_req *req, const char *name)
{
    const char *separator = strcmp(name, "cookie") == 0 ? "; " : ", ", *value;
    struct dbx_buf out;

    for (struct joined *j = req->joined; j; j = j->next)
        if (strcmp(j->name, name) == 0)
            return j->value;
    dbx_buf_init(&out, 4 * DBX_MAX_HEADER);
    for (size_t i = 0; (value = dbx_http1_field(&req->head, name, i)); i++) {
        dbx_buf_str(&out, i ? separator : "");
        dbx_buf_str(&out, value);
    }
    struct joined *j = DBX_NEW(struct joined);
    j->name = dbx_strdup(name);
    j->value = dbx_strdup(dbx_buf_cstr(&out));
    dbx_buf_done(&out);
    j->next = req->joined;
    req->joined = j;
    return j->value;
}

const char *dbx_http_header(struct dbx_http_req *req, const char *lower_case_name)
{
    const char *value = dbx_http1_field(&cast(req)->head, lower_case_name, 0);

    if (!value || !dbx_http1_field(&req->head, lower_case_name, 1))
        return value;
    return join(req, lower_case_name);
}

static void parse_query(struct dbx_http_req *req)
{
    req->query_parsed = true;
    if (!req->head.query)
        return;
    size_t pairs = 1;
    for (const char *p = req->head.query; *p; p++)
        pairs += *p == '&';
    req->query = dbx_calloc(pairs, sizeof(*req->query));
    req->query_text = dbx_strdup(req->head.query);
    for (char *p = req->query_text, *next; p; p = next) {
        next = strchr(p, '&');
        if (next)
            *next++ = '\0';
        char *value = strchr(p, '=');
        if (value)
            *value++ = '\0';
        else
            value = p + strlen(p);
        if (!*p || !dbx_http1_unescape(p))
            continue;
        if (!dbx_http1_unescape(value))
            value = NULL;
        req->query[req->nquery++] = (struct query_pair){.name = p, .value = value};
    }
}

const char *dbx_http_query(struct dbx_http_req *req, const char *name, size_t nth)
{
    if (!cast(req)->query_parsed)
        parse_query(req);
    for (size_t i = 0; i < req->nquery; i++)
        if (strcmp(req->query[i].name, name) == 0 && nth-- == 0)
            return req->query[i].value;
    return NULL;
}

const char *dbx_http_pick_subprotocol(struct dbx_http_req *req, const char *const *served)
{
    const char *list;

    for (; *served; served++)
        for (size_t i = 0; (list = dbx_http1_field(&cast(req)->head, "sec-websocket-protocol", i));
             i++)
            if (dbx_http1_has_token(list, *served))
                return *served;
    return NULL;
}

/* --- answering it --- */

static void put_header(struct dbx_buf *head, const char *name, const char *value)
{
    /* Values are ours, but may quote a peer: no line may be smuggled into the answer. */
    if (strpbrk(name, "\r\n:") || strpbrk(value, "\r\n"))
        return;
    dbx_buf_printf(head, "%s: %s\r\n", name, value);
}

static void put_headers(struct dbx_buf *head, const struct dbx_header *headers)
{
    for (; headers && headers->name; headers++)
        put_header(head, headers->name, headers->value);
}

static void build_head(struct conn *c, struct dbx_buf *head, int status, const char *content_type,
                       const struct dbx_header *headers, int64_t length, bool chunked)
{
    dbx_buf_init(head, MAX_ANSWER_HEAD);
    dbx_buf_printf(head, "HTTP/1.1 %d %s\r\n", status, dbx_http1_reason(status));
    if (content_type)
        put_header(head, "Content-Type", content_type);
    if (chunked)
        put_header(head, "Transfer-Encoding", "chunked");
    else if (length >= 0)
        dbx_buf_printf(head, "Content-Length: %lld\r\n", (long long)length);
    if (c->close_after)
        put_header(head, "Connection", "close");
    else if (c->req && c->req->head.http10)
        put_header(head, "Connection", "keep-alive");
    put_headers(head, c->hd->opts.common_headers);
    put_headers(head, headers);
    dbx_buf_str(head, "\r\n");
}

/* The answer is queued in full: the request goes, the connection goes on or ends. */
static void finish(struct conn *c)
{
    struct dbx_http_req *req = DBX_TAKE(c->req);

    if (req)
        dbx_http__req_free(req);
    if (c->state == CONN_DEAD)
        return;
    c->state = c->close_after ? CONN_FLUSH : CONN_HEAD;
    c->since_ms = dbx_now_ms();
}

static bool bodyless(int status)
{
    return status == 204 || status == 304;
}

static void answer(struct conn *c, int status, const char *content_type,
                   const struct dbx_header *headers, const void *body, size_t len)
{
    struct dbx_buf head;
    bool is_head = c->req && strcmp(c->req->head.method, "HEAD") == 0;

    build_head(c, &head, status, content_type, headers, bodyless(status) ? -1 : (int64_t)len,
               false);
    dbx_httpd__send(c, head.data, head.len, body, is_head || bodyless(status) ? 0 : len);
    dbx_buf_done(&head);
    finish(c);
}

void dbx_http_reply(struct dbx_http_req *req, int status, const char *content_type,
                    const struct dbx_header *headers, const void *body, size_t len)
{
    struct conn *c = cast(req)->conn;

    dbx_assert(c->state != CONN_STREAM);
    if (c->req != req) /* in its on_abort: there is nobody to answer */
        return;
    if (!req->body_complete) /* what is left of the body would be taken for a request */
        c->close_after = c->close_after || req->head.length || req->head.chunked;
    answer(c, status, content_type, headers, body, len);
    dbx_httpd__touched(c);
}

void dbx_http__error(struct conn *c, int status, enum dbx_kind kind, const char *code,
                     const char *message)
{
    static const struct dbx_header version[] = {{"Sec-WebSocket-Version", "13"}, {NULL, NULL}};
    static const struct dbx_header allow[] = {
        {"Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}, {NULL, NULL}};
    char body[512];

    /* All words are ours and need no escaping. */
    int n = snprintf(body, sizeof(body),
                     "{\"error\":{\"type\":\"%s\",\"code\":\"%s\",\"message\":\"%s\",\"field\":"
                     "null,\"request_id\":null}}",
                     dbx_kind_name(kind), code, message);
    dbx_assert(n > 0 && (size_t)n < sizeof(body));
    c->close_after = true;
    answer(c, status, "application/json",
           status == 426   ? version
           : status == 405 ? allow
                           : NULL,
           body, (size_t)n);
}

/* --- streamed --- */

void dbx_http_begin(struct dbx_http_req *req, int status, const char *content_type,
                    const struct dbx_header *headers, int64_t length)
{
    struct conn *c = cast(req)->conn;
    struct dbx_buf head;

    dbx_assert(c->state != CONN_STREAM);
    if (c->req != req)
        return;
    if (!req->body_complete)
        c->close_after = c->close_after || req->head.length || req->head.chunked;
    req->no_body = bodyless(status) || strcmp(req->head.method, "HEAD") == 0;
    req->left = length;
    req->chunk_answer = length < 0 && !req->head.http10 && !bodyless(status);
    req->until_close = length < 0 && req->head.http10;
    if (req->until_close)
        c->close_after = true;
    build_head(c, &head, status, content_type, headers, bodyless(status) ? -1 : length,
               req->chunk_answer);
    dbx_httpd__send(c, head.data, head.len, NULL, 0);
    dbx_buf_done(&head);
    if (c->state != CONN_DEAD)
        c->state = CONN_STREAM;
    dbx_httpd__touched(c);
}

void dbx_http_chunk(struct dbx_http_req *req, const void *data, size_t len)
{
    struct conn *c = cast(req)->conn;
    char size[24];

    if (c->state != CONN_STREAM || c->req != req || !len || req->no_body)
        return;
    if (req->chunk_answer) {
        int n = snprintf(size, sizeof(size), "%zx\r\n", len);
        dbx_httpd__send(c, size, (size_t)n, data, len);
        dbx_httpd__send(c, "\r\n", 2, NULL, 0);
    } else if (req->left >= 0 && (uint64_t)req->left < len) {
        dbx_httpd__kill(
            c); /* more than was announced: the client would take it for the next answer */
    } else {
        if (req->left >= 0)
            req->left -= (int64_t)len;
        dbx_httpd__send(c, data, len, NULL, 0);
    }
    dbx_httpd__touched(c);
}

void dbx_http_chunk_file(struct dbx_http_req *req, int fd, uint64_t off, uint64_t len)
{
    struct conn *c = cast(req)->conn;
    char size[24];

    if (c->state != CONN_STREAM || c->req != req || !len || req->no_body)
        return;
    if (req->left >= 0 && (uint64_t)req->left < len) {
        dbx_httpd__kill(c);
        return;
    }
    if (req->left >= 0)
        req->left -= (int64_t)len;
    if (req->chunk_answer) {
        int n = snprintf(size, sizeof(size), "%llx\r\n", (unsigned long long)len);
        dbx_httpd__send(c, size, (size_t)n, NULL, 0);
    }
    dbx_httpd__send_file(c, fd, off, len);
    if (req->chunk_answer)
        dbx_httpd__send(c, "\r\n", 2, NULL, 0);
    dbx_httpd__touched(c);
}

void dbx_http_reply_file(struct dbx_http_req *req, int status, const char *content_type,
                         const struct dbx_header *headers, int fd, uint64_t off, uint64_t len)
{
    struct conn *c = cast(req)->conn;
    struct dbx_buf head;

    dbx_assert(c->state != CONN_STREAM);
    if (c->req != req)
        return;
    if (!req->body_complete)
        c->close_after = c->close_after || req->head.length || req->head.chunked;
    build_head(c, &head, status, content_type, headers, bodyless(status) ? -1 : (int64_t)len,
               false);
    dbx_httpd__send(c, head.data, head.len, NULL, 0);
    dbx_buf_done(&head);
    if (!bodyless(status) && strcmp(req->head.method, "HEAD") != 0)
        dbx_httpd__send_file(c, fd, off, len);
    finish(c);
    dbx_httpd__touched(c);
}

size_t dbx_http_pending(const struct dbx_http_req *req)
{
    return cast(req)->conn->out_bytes;
}

void dbx_http_on_drain(struct dbx_http_req *req, void (*fn)(struct dbx_http_req *req, void *user),
                       void *user)
{
    cast(req)->on_drain = fn;
    req->drain_user = user;
}

void dbx_http_end(struct dbx_http_req *req)
{
    struct conn *c = cast(req)->conn;

    if (c->req != req)
        return;
    if (c->state == CONN_STREAM && req->chunk_answer && !req->no_body)
        dbx_httpd__send(c, "0\r\n\r\n", 5, NULL, 0);
    if (req->left > 0 && !req->no_body)
        dbx_httpd__kill(c); /* less than was announced */
    finish(c);
    dbx_httpd__touched(c);
}

void dbx_http_fail(struct dbx_http_req *req)
{
    struct conn *c = cast(req)->conn;
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    if (c->req != req)
        return;
    /* A reset, so that an answer that ends with the connection is not taken for whole. */
    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    dbx_httpd__kill(c);
    finish(c);
    dbx_httpd__touched(c);
}
