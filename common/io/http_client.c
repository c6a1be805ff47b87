/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl's multi interface on the loop: curl says which sockets to watch and when to be woken; we
 * tell it what happened, and collect what is finished. A fetch lives from dbx_fetch to the end of
 * its callback. */
#include "common/io/http_client.h"
#include "common/base/list.h"
#include "common/base/str.h"
#include "common/io/loop.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define CLIENT_MAGIC 0x48636c69
#define FETCH_MAGIC 0x46657463
#define MAX_RESPONSE (8u << 20)
#define MAX_HEADERS (64u << 10)
#define TIMEOUT_MS 30000
#define CONNECT_MS 10000
#define MAX_IDLE 16 /* kept connections */
#define STALL_BYTES 256

struct dbx_http_client {
    uint32_t magic;
    struct dbx_loop *loop;
    CURLM *multi;
    struct dbx_timer *timer; /* curl's */
    struct dbx_timer *later; /* for what failed or was cancelled: called back from the loop, never
                                from dbx_fetch */
    struct dbx_list fetches; /* struct dbx_fetch */
    struct dbx_list socks;   /* struct sock */
    int busy;                /* inside of curl: nothing may be removed from it */
    bool calling, dead;      /* on_later runs; a callback of it has freed the client */
};

struct sock {
    struct dbx_list node;
    struct dbx_http_client *client;
    struct dbx_watch *watch;
    curl_socket_t fd;
};

struct dbx_fetch {
    uint32_t magic;
    struct dbx_list node;
    struct dbx_http_client *client;
    CURL *easy; /* owned */
    struct curl_slist *headers;
    void *request_body; /* owned */
    dbx_fetch_fn *fn;
    void *user;
    int (*on_data)(struct dbx_fetch *f, const void *data, size_t len, void *user);
    bool (*may_connect)(const struct sockaddr *addr, void *user);
    uint64_t received; /* by on_data */
    int refused;       /* what on_data returned, or -EACCES of may_connect */
    struct dbx_buf body, head;
    bool finished; /* err and status stand; the callback is due */
    bool too_large;
    int status;
    struct dbx_err err;
    char curl_error[CURL_ERROR_SIZE];
};

/* --- the end of a fetch --- */

static void fetch_free(struct dbx_fetch *f)
{
    curl_easy_cleanup(f->easy);
    curl_slist_free_all(f->headers);
    free(f->request_body);
    dbx_buf_done(&f->body);
    dbx_buf_done(&f->head);
    f->magic = 0;
    free(f);
}

/* f is out of curl and out of the list. */
static void fetch_call(struct dbx_fetch *f)
{
    struct dbx_fetch_result result = {.status = f->err.code ? 0 : f->status,
                                      .body = &f->body,
                                      .err = f->err.code ? &f->err : NULL};

    f->fn(f, &result, f->user);
    fetch_free(f);
}

static void fail_later(struct dbx_fetch *f)
{
    f->finished = true;
    dbx_timer_start(f->client->later, 0, 0);
}

static void detach(struct dbx_fetch *f)
{
    curl_multi_remove_handle(f->client->multi, f->easy); /* harmless when it was never added */
    dbx_list_remove(&f->node);
}

static void on_later(void *user)
{
    struct dbx_http_client *c = DBX_CAST(struct dbx_http_client, CLIENT_MAGIC, user);

    c->calling = true;
    while (!c->dead) {
        struct dbx_list *it, *tmp;
        struct dbx_fetch *due = NULL;
        dbx_list_each(it, tmp, &c->fetches)
        {
            struct dbx_fetch *f = dbx_list_entry(it, struct dbx_fetch, node);
            if (f->finished && !due)
                due = f;
        }
        if (!due) {
            c->calling = false;
            return;
        }
        detach(due);
        fetch_call(due); /* may start and cancel others: begin anew */
    }
    free(c);
}

static enum dbx_kind kind_of(CURLcode code)
{
    switch (code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return DBX_INVALID;
    case CURLE_OPERATION_TIMEDOUT:
        return DBX_TIMEOUT;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return DBX_DENIED;
    case CURLE_OUT_OF_MEMORY:
        return DBX_LIMIT;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
        return DBX_UNAVAIL;
    default:
        return DBX_INTERNAL;
    }
}

static void set_curl_error(struct dbx_fetch *f, CURLcode code)
{
    static const int errnos[] = {
        [DBX_INVALID] = EINVAL, [DBX_TIMEOUT] = ETIMEDOUT,    [DBX_DENIED] = EACCES,
        [DBX_LIMIT] = ENOMEM,   [DBX_UNAVAIL] = ECONNREFUSED, [DBX_INTERNAL] = EIO};
    enum dbx_kind kind = kind_of(code);
    const char *words = f->curl_error[0] ? f->curl_error : curl_easy_strerror(code);

    if (f->too_large)
        dbx_err_set(&f->err, -E2BIG, DBX_LIMIT, "the answer is larger than %zu bytes", f->body.max);
    else if (f->refused == -EACCES)
        dbx_err_set(&f->err, -EACCES, DBX_DENIED, "this address may not be connected to");
    else if (f->refused)
        dbx_err_set(&f->err, f->refused, DBX_INTERNAL, "given up by the receiver");
    else
        dbx_err_set(&f->err, -errnos[kind], kind, "%s", words);
}

/* What curl has finished is marked first and called back after: a callback may free or start
 * others. */
static void collect(struct dbx_http_client *c)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(c->multi, &left))) {
        if (msg->msg != CURLMSG_DONE)
            continue;
        CURL *easy = msg->easy_handle;
        CURLcode code = msg->data.result;
        void *priv = NULL;
        long status = 0;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &priv);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        struct dbx_fetch *f = DBX_CAST(struct dbx_fetch, FETCH_MAGIC, priv);
        if (f->finished) /* cancelled */
            continue;
        f->status = (int)status;
        if (code != CURLE_OK)
            set_curl_error(f, code);
        fail_later(f);
    }
}

/* --- curl's hooks --- */

static void act(struct dbx_http_client *c, curl_socket_t fd, int mask)
{
    int running;

    c->busy++;
    curl_multi_socket_action(c->multi, fd, mask, &running);
    c->busy--;
    collect(c);
}

static void on_curl_timer(void *user)
{
    act(DBX_CAST(struct dbx_http_client, CLIENT_MAGIC, user), CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long ms, void *user)
{
    struct dbx_http_client *c = user;

    (void)multi;
    if (ms < 0)
        dbx_timer_stop(c->timer);
    else
        dbx_timer_start(c->timer, (uint64_t)ms, 0);
    return 0;
}

static void on_sock(void *user, int events, int error)
{
    struct sock *s = user;
    int mask = error ? CURL_CSELECT_ERR : 0;

    mask |= events & DBX_READ ? CURL_CSELECT_IN : 0;
    mask |= events & DBX_WRITE ? CURL_CSELECT_OUT : 0;
    act(s->client, s->fd, mask); /* s may be gone after */
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *sock)
{
    struct dbx_http_client *c = user;
    struct sock *s = sock;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (s) {
            dbx_list_remove(&s->node);
            dbx_watch_free(s->watch);
            free(s);
            curl_multi_assign(c->multi, fd, NULL);
        }
        return 0;
    }
    int events = (what & CURL_POLL_IN ? DBX_READ : 0) | (what & CURL_POLL_OUT ? DBX_WRITE : 0);
    if (s) {
        dbx_watch_set(s->watch, events);
        return 0;
    }
    s = DBX_NEW(struct sock);
    s->client = c;
    s->fd = fd;
    s->watch = dbx_watch_new(c->loop, fd, events, on_sock, s);
    dbx_list_push(&c->socks, &s->node);
    curl_multi_assign(c->multi, fd, s);
    return 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *user)
{
    struct dbx_fetch *f = user;

    if (f->on_data) {
        f->received += size * n;
        if (f->received > f->body.max)
            f->too_large = true;
        else
            f->refused = f->on_data(f, data, size * n, f->user);
        return f->too_large || f->refused ? 0 : size * n;
    }
    if (dbx_buf_append(&f->body, data, size * n) == 0)
        return size * n;
    f->too_large = true;
    return 0;
}

/* Only the last answer's head counts (a 100 Continue has one of its own). */
static size_t on_head(char *data, size_t size, size_t n, void *user)
{
    struct dbx_fetch *f = user;
    size_t len = size * n;

    if (len >= 5 && memcmp(data, "HTTP/", 5) == 0)
        dbx_buf_clear(&f->head);
    if (dbx_buf_append(&f->head, data, len) == 0)
        return len;
    f->too_large = true;
    return 0;
}

int dbx_fetch_status(const struct dbx_fetch *f)
{
    long status = 0;

    curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
    return (int)status;
}

/* Called with every address that is about to be tried. */
static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *addr)
{
    struct dbx_fetch *f = user;

    (void)purpose;
    if (!f->may_connect(&addr->addr, f->user)) {
        f->refused = -EACCES;
        return CURL_SOCKET_BAD;
    }
    f->refused = 0;
    return socket(addr->family, addr->socktype | SOCK_CLOEXEC, addr->protocol);
}

const char *dbx_fetch_header(const struct dbx_fetch *f, const char *name)
{
    size_t want = strlen(name);
    char *line = (char *)f->head.data;

    while (line && *line) {
        char *end = strchr(line, '\n');
        if (strncasecmp(line, name, want) == 0 && line[want] == ':') {
            char *value = line + want + 1 + strspn(line + want + 1, " \t");
            value[strcspn(value, "\r\n")] = '\0'; /* the buffer is this fetch's own */
            return value;
        }
        /* A value that was asked for before has been cut off by a NUL: go on behind it. */
        line = end ? end + 1 : line + strlen(line) + 1;
        if ((uint8_t *)line >= f->head.data + f->head.len)
            return NULL;
    }
    return NULL;
}

/* --- starting --- */

static void set_method(struct dbx_fetch *f, const struct dbx_fetch_opts *opts)
{
    const char *method = opts->method ? opts->method : "GET";

    if (strcmp(method, "HEAD") == 0)
        curl_easy_setopt(f->easy, CURLOPT_NOBODY, 1L);
    else if (opts->body_len || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 ||
             strcmp(method, "PATCH") == 0) {
        f->request_body = dbx_malloc(opts->body_len + 1);
        if (opts->body_len)
            memcpy(f->request_body, opts->body, opts->body_len);
        curl_easy_setopt(f->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(f->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)opts->body_len);
        curl_easy_setopt(f->easy, CURLOPT_POSTFIELDS, f->request_body);
    }
    curl_easy_setopt(f->easy, CURLOPT_CUSTOMREQUEST, strcmp(method, "HEAD") == 0 ? NULL : method);
}

static bool set_headers(struct dbx_fetch *f, const char *const *headers)
{
    /* No waiting for a 100 Continue, and no type that nobody asked for. */
    f->headers = curl_slist_append(f->headers, "Expect:");
    f->headers = curl_slist_append(f->headers, "Content-Type:");
    for (; headers && *headers; headers++) {
        if (strpbrk(*headers, "\r\n"))
            return false;
        if (strncasecmp(*headers, "content-type:", 13) == 0) {
            free(f->headers->next->data);
            f->headers->next->data = strdup(*headers);
        } else {
            f->headers = curl_slist_append(f->headers, *headers);
        }
    }
    curl_easy_setopt(f->easy, CURLOPT_HTTPHEADER, f->headers);
    return true;
}

static bool set_options(struct dbx_fetch *f, const struct dbx_fetch_opts *opts)
{
    long timeout = opts->timeout_ms ? (long)opts->timeout_ms : TIMEOUT_MS;

    curl_easy_setopt(f->easy, CURLOPT_PRIVATE, f);
    curl_easy_setopt(f->easy, CURLOPT_ERRORBUFFER, f->curl_error);
    curl_easy_setopt(f->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(f->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(f->easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(f->easy, CURLOPT_PROXY, ""); /* the environment decides nothing */
    curl_easy_setopt(f->easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(f->easy, CURLOPT_TIMEOUT_MS, timeout);
    curl_easy_setopt(f->easy, CURLOPT_CONNECTTIMEOUT_MS,
                     timeout < CONNECT_MS ? timeout : CONNECT_MS);
    curl_easy_setopt(f->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(f->easy, CURLOPT_WRITEDATA, f);
    curl_easy_setopt(f->easy, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(f->easy, CURLOPT_HEADERDATA, f);
    if (opts->stall_ms) {
        curl_easy_setopt(f->easy, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES);
        curl_easy_setopt(f->easy, CURLOPT_LOW_SPEED_TIME, (long)(opts->stall_ms + 999) / 1000);
    }
    if (opts->may_connect) {
        curl_easy_setopt(f->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
        curl_easy_setopt(f->easy, CURLOPT_OPENSOCKETDATA, f);
    }
    if (opts->unix_socket)
        curl_easy_setopt(f->easy, CURLOPT_UNIX_SOCKET_PATH, opts->unix_socket);
    if (opts->ca_file)
        curl_easy_setopt(f->easy, CURLOPT_CAINFO, opts->ca_file);
    if (opts->insecure) {
        curl_easy_setopt(f->easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(f->easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    set_method(f, opts);
    return curl_easy_setopt(f->easy, CURLOPT_URL, opts->url) == CURLE_OK &&
           set_headers(f, opts->headers);
}

struct dbx_fetch *dbx_fetch(struct dbx_http_client *c, const struct dbx_fetch_opts *opts,
                            dbx_fetch_fn *fn, void *user)
{
    struct dbx_fetch *f = DBX_NEW(struct dbx_fetch);

    f->magic = FETCH_MAGIC;
    f->client = DBX_CAST(struct dbx_http_client, CLIENT_MAGIC, c);
    f->fn = fn;
    f->user = user;
    f->on_data = opts->on_data;
    f->may_connect = opts->may_connect;
    f->easy = curl_easy_init();
    dbx_assert(f->easy);
    dbx_buf_init(&f->body, opts->max_response ? opts->max_response : MAX_RESPONSE);
    dbx_buf_init(&f->head, MAX_HEADERS);
    dbx_list_push(&c->fetches, &f->node);
    if (!set_options(f, opts)) {
        dbx_err_set(&f->err, -EINVAL, DBX_INVALID, "the URL or a header is malformed");
        fail_later(f);
    } else if (curl_multi_add_handle(c->multi, f->easy) != CURLM_OK) {
        dbx_err_set(&f->err, -EIO, DBX_INTERNAL, "curl refused the request");
        fail_later(f);
    }
    return f;
}

void dbx_fetch_cancel(struct dbx_fetch *f)
{
    if (DBX_CAST(struct dbx_fetch, FETCH_MAGIC, f)->finished && f->err.code == -ECANCELED)
        return;
    dbx_err_set(&f->err, -ECANCELED, DBX_UNAVAIL, "cancelled");
    if (!f->finished && !f->client->busy)
        curl_multi_remove_handle(f->client->multi, f->easy);
    fail_later(f);
}

struct dbx_http_client *dbx_http_client_new(struct dbx_loop *loop)
{
    struct dbx_http_client *c = DBX_NEW(struct dbx_http_client);

    dbx_assert(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    c->magic = CLIENT_MAGIC;
    c->loop = loop;
    c->timer = dbx_timer_new(loop, on_curl_timer, c);
    c->later = dbx_timer_new(loop, on_later, c);
    dbx_list_init(&c->fetches);
    dbx_list_init(&c->socks);
    c->multi = curl_multi_init();
    dbx_assert(c->multi);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)MAX_IDLE);
    return c;
}

void dbx_http_client_limit(struct dbx_http_client *c, uint32_t per_host, uint32_t total)
{
    curl_multi_setopt(c->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)per_host);
    curl_multi_setopt(c->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)total);
    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)total);
}

struct dbx_http_client *dbx_http_client_free(struct dbx_http_client *c)
{
    if (!c)
        return NULL;
    while (!dbx_list_empty(&c->fetches)) {
        struct dbx_fetch *f = dbx_list_first(&c->fetches, struct dbx_fetch, node);
        detach(f);
        dbx_err_set(&f->err, -ECANCELED, DBX_UNAVAIL, "cancelled");
        fetch_call(f);
    }
    curl_multi_cleanup(c->multi);
    while (!dbx_list_empty(&c->socks)) {
        struct sock *s = dbx_list_first(&c->socks, struct sock, node);
        dbx_list_remove(&s->node);
        dbx_watch_free(s->watch);
        free(s);
    }
    dbx_timer_free(c->timer);
    dbx_timer_free(c->later);
    c->magic = 0;
    if (c->calling)
        c->dead = true;
    else
        free(c);
    curl_global_cleanup();
    return NULL;
}
