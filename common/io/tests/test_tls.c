/* SPDX-License-Identifier: Apache-2.0 */
/* The server behind TLS: HTTP by our client, WebSockets by ours, and clients that do not speak TLS
 * at all. */
#include "common/base/log.h"
#include "common/io/http_client.h"
#include "common/io/httpd.h"
#include "common/io/tests/peer.h"
#include "common/io/ws.h"

#include <dirent.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

static struct {
    struct dbx_loop *loop;
    struct dbx_httpd *hd;
    struct dbx_http_client *client;
    struct dbx_timer *guard;
    char cert[64], key[64], url[64];
    uint16_t port;
    size_t done, expected, got, fds;
    bool asked;
    uint8_t *big;
} t;

#define BIG (3u << 20)

static void on_request(struct dbx_http_req *req, void *user)
{
    size_t len;
    const uint8_t *body = dbx_http_body(req, &len);
    (void)user;
    CHECK_STR(dbx_http_peer(req), "127.0.0.1");
    if (strcmp(dbx_http_path(req), "/big") == 0) {
        t.asked = true;
        dbx_http_reply(req, 200, NULL, NULL, t.big, BIG);
        return;
    }
    dbx_http_reply(req, 200, NULL, NULL, len ? (const void *)body : "hi", len ? len : 2);
}

static void s_message(struct dbx_ws *ws, bool binary, const uint8_t *data, size_t len, void *user)
{
    (void)user;
    CHECK_EQ(dbx_ws_send(ws, binary, data, len), 0);
}

static void s_close(struct dbx_ws *ws, int code, int http_status, const char *reason, void *user)
{
    (void)ws;
    (void)http_status;
    (void)reason;
    (void)user;
    CHECK_EQ(code, 1000);
}

static int on_upgrade(struct dbx_http_req *req, const struct dbx_ws_handlers **ret_handlers,
                      void **ret_ws_user, const char **ret_subprotocol, void *user)
{
    static const struct dbx_ws_handlers echo = {.on_message = s_message, .on_close = s_close};
    (void)req;
    (void)ret_ws_user;
    (void)ret_subprotocol;
    (void)user;
    *ret_handlers = &echo;
    return 0;
}

static const struct dbx_httpd_handlers handlers = {.on_request = on_request,
                                                   .on_upgrade = on_upgrade};

static void finished(void)
{
    if (++t.done == t.expected)
        dbx_loop_stop(t.loop, 0);
}

static void make_cert(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509V3_CTX ctx;

    snprintf(t.cert, sizeof(t.cert), "test-tls-%d.pem", getpid());
    snprintf(t.key, sizeof(t.key), "test-tls-%d.key", getpid());
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"localhost", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *ext =
        X509V3_EXT_conf_nid(NULL, &ctx, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
    CHECK(X509_sign(cert, key, EVP_sha256()) > 0);
    FILE *f = fopen(t.cert, "we");
    PEM_write_X509(f, cert);
    fclose(f);
    f = fopen(t.key, "we");
    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void on_fetched(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    int *ret = user;
    (void)f;
    *ret = result->err ? -(int)result->err->kind : result->status;
    t.got += result->body->len;
    finished();
}

static void c_open(struct dbx_ws *ws, void *user)
{
    (void)user;
    CHECK_EQ(dbx_ws_send(ws, true, t.big, BIG), 0);
    CHECK_EQ(dbx_ws_send(ws, false, "end", 3), 0);
}

static void c_message(struct dbx_ws *ws, bool binary, const uint8_t *data, size_t len, void *user)
{
    (void)user;
    if (binary)
        CHECK(len == BIG && memcmp(data, t.big, BIG) == 0);
    else
        dbx_ws_close(ws, 1000, "");
}

static void c_close(struct dbx_ws *ws, int code, int http_status, const char *reason, void *user)
{
    (void)ws;
    (void)http_status;
    if (code != 1000)
        fprintf(stderr, "closed with %d: %s\n", code, reason);
    *(int *)user = code;
    finished();
}

static const struct dbx_ws_handlers client_handlers = {
    .on_open = c_open, .on_message = c_message, .on_close = c_close};

static void on_guard(void *user)
{
    (void)user;
    CHECK(!"deadline passed");
    dbx_loop_stop(t.loop, -1);
}

static void *strangers(void *arg)
{
    static const char *const words[] = {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "\x16\x03\x01\xff\xff",
                                        "", "\x80\x2e\x01"};
    (void)arg;
    for (size_t i = 0; i < DBX_ARRAY_LEN(words); i++) {
        int fd = peer_connect(t.port);
        peer_say(fd, words[i]);
        shutdown(fd, SHUT_WR);
        CHECK(peer_closed(fd));
        close(fd);
    }
    return NULL;
}

static void test_all(void)
{
    int get = 0, post = 0, untrusted = 0, open = 0, wrong = 0;
    pthread_t thread;
    char wss[64];

    t.expected = 5;
    dbx_fetch(t.client, &(struct dbx_fetch_opts){.url = t.url, .ca_file = t.cert}, on_fetched,
              &get);
    dbx_fetch(
        t.client,
        &(struct dbx_fetch_opts){
            .url = t.url, .ca_file = t.cert, .method = "POST", .body = t.big, .body_len = BIG},
        on_fetched, &post);
    dbx_fetch(t.client, &(struct dbx_fetch_opts){.url = t.url}, on_fetched, &untrusted);
    snprintf(wss, sizeof(wss), "wss://localhost:%u/ws", t.port);
    struct dbx_ws_client_opts opts = {
        .loop = t.loop, .url = wss, .ca_file = t.cert, .ws.max_message = BIG};
    dbx_ws_connect(&opts, &client_handlers, &open);
    opts.ca_file = NULL;
    dbx_ws_connect(&opts, &client_handlers, &wrong);
    CHECK_EQ(pthread_create(&thread, NULL, strangers, NULL), 0);
    dbx_loop_run(t.loop);
    CHECK_EQ(get, 200);
    CHECK_EQ(post, 200);
    CHECK_EQ(t.got, BIG + 2);
    CHECK_EQ(untrusted, -(int)DBX_DENIED);
    CHECK_EQ(open, 1000);
    CHECK_EQ(wrong, 1006);
    t.done = 0;
    t.expected = 1;
    dbx_fetch(t.client, &(struct dbx_fetch_opts){.url = t.url, .ca_file = t.cert}, on_fetched,
              &get);
    dbx_loop_run(t.loop);
    CHECK_EQ(get, 200);
    pthread_join(thread, NULL);
}

static size_t count_fds(void)
{
    size_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* Asks for a large answer and reads none of it. */
static void *ask_only(void *arg)
{
    static const char words[] = "GET /big HTTP/1.1\r\nHost: h\r\n\r\n";
    SSL *ssl = arg;
    CHECK_EQ(SSL_connect(ssl), 1);
    CHECK_EQ(SSL_write(ssl, words, sizeof(words) - 1), sizeof(words) - 1);
    return NULL;
}

static void on_look(void *user)
{
    (void)user;
    if (t.asked && count_fds() == t.fds)
        dbx_loop_stop(t.loop, 0);
}

/* Who does not read is cut off, and nothing of him stays behind, whoever of relay and server
 * notices first. */
static void test_stalled(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    struct dbx_timer *look = dbx_timer_new(t.loop, on_look, NULL);
    int fd = peer_connect(t.port), small = 4096;
    pthread_t thread;

    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    SSL_set_fd(ssl, fd);
    t.fds = count_fds();
    dbx_timer_start(look, 20, 20);
    CHECK_EQ(pthread_create(&thread, NULL, ask_only, ssl), 0);
    dbx_loop_run(t.loop);
    pthread_join(thread, NULL);
    dbx_timer_free(look);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
}

int main(void)
{
    struct dbx_err err;

    if (getenv("WS_DEBUG"))
        dbx_log_init("test", "logfmt", DBX_LOG_DEBUG);
    make_cert();
    t.big = malloc(BIG);
    for (size_t i = 0; i < BIG; i++)
        t.big[i] = (uint8_t)(i * 31 >> 3);
    t.loop = dbx_loop_new();
    struct dbx_httpd_opts opts = {.loop = t.loop,
                                  .listen = "127.0.0.1:0",
                                  .handlers = &handlers,
                                  .stall_ms = 500,
                                  .ws.max_message = BIG};
    opts.tls_cert = opts.tls_key = t.cert; /* no key in there */
    CHECK(dbx_httpd_new(&opts, &t.hd, &err) < 0);
    opts.tls_key = NULL;
    CHECK(dbx_httpd_new(&opts, &t.hd, &err) < 0);
    opts.tls_key = t.key;
    CHECK_EQ(dbx_httpd_new(&opts, &t.hd, &err), 0);
    t.port = dbx_httpd_port(t.hd);
    snprintf(t.url, sizeof(t.url), "https://localhost:%u/", t.port);
    t.client = dbx_http_client_new(t.loop);
    t.guard = dbx_timer_new(t.loop, on_guard, NULL);
    dbx_timer_start(t.guard, 60000, 0);
    test_stalled(); /* first: it counts descriptors */
    test_all();
    dbx_http_client_free(t.client);
    dbx_httpd_free(t.hd);
    dbx_timer_free(t.guard);
    dbx_loop_free(t.loop);
    free(t.big);
    unlink(t.cert);
    unlink(t.key);
    return check_result();
}
