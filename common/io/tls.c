/* SPDX-License-Identifier: Apache-2.0 */
/* One relay a connection: the network on one side (OpenSSL), one end of a socketpair on the other.
 * Each direction has one buffer; nothing is read before the last piece was passed on, so
 * back-pressure goes through. */
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/list.h"
#include "common/io/loop.h"
#include "common/io/tls_int.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define RELAY_MAGIC 0x544c5352
#define BLOCK 16384
#define MAX_ROUNDS 16 /* of one callback; then the others have their turn */
#define MAX_HANDSHAKES 2000
#define HANDSHAKE_MS 10000
#define CLOSE_MS 5000

struct dbx_tls_front {
    struct dbx_loop *loop;
    SSL_CTX *ctx;
    dbx_accept_fn *fn;
    void *user;
    struct dbx_list relays;
    size_t handshakes;
    uint64_t stall_ms;
};

struct block {
    size_t off, len;
    uint8_t data[BLOCK];
};

struct relay {
    uint32_t magic;
    struct dbx_list node;
    struct dbx_tls_front *front;
    SSL *ssl;
    int net, pair; /* pair: our end */
    struct dbx_watch *net_watch, *pair_watch;
    struct dbx_timer *timer;
    struct block up, down;
    int net_want, pair_want;
    uint64_t stalled_ms; /* since when the network takes nothing of `down`; 0: it does */
    bool open, net_eof, pair_eof, shut, dead;
    char peer[64];
};

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen,
                       const unsigned char *in, unsigned int inlen, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto((unsigned char **)out, outlen, ours, sizeof(ours) - 1, in, inlen) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    return SSL_TLSEXT_ERR_OK;
}

static int tls_error(struct dbx_err *err, const char *what, const char *path)
{
    char text[160];

    ERR_error_string_n(ERR_get_error(), text, sizeof(text));
    ERR_clear_error();
    return dbx_err_set(err, -EINVAL, DBX_INVALID, "%s '%s': %s", what, path ? path : "", text);
}

int dbx_tls_front_new(struct dbx_loop *loop, const char *cert, const char *key, uint64_t stall_ms,
                      dbx_accept_fn *fn, void *user, struct dbx_tls_front **ret,
                      struct dbx_err *err)
{
    if (!cert || !key)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "TLS needs a certificate and a key");
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    dbx_assert(ctx);
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, NULL);
    int r = 0;
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
        r = tls_error(err, "certificate", cert);
    else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(ctx) != 1)
        r = tls_error(err, "private key", key);
    if (r < 0) {
        SSL_CTX_free(ctx);
        return r;
    }
    struct dbx_tls_front *front = DBX_NEW(struct dbx_tls_front);
    front->loop = loop;
    front->ctx = ctx;
    front->fn = fn;
    front->user = user;
    front->stall_ms = stall_ms;
    dbx_list_init(&front->relays);
    *ret = front;
    return 0;
}

static void relay_free(struct relay *r)
{
    dbx_list_remove(&r->node);
    if (!r->open)
        r->front->handshakes--;
    dbx_watch_free(r->net_watch);
    dbx_watch_free(r->pair_watch);
    dbx_timer_free(r->timer);
    SSL_free(r->ssl);
    dbx_close(r->net);
    dbx_close(r->pair);
    r->magic = 0;
    free(r);
}

/* What OpenSSL waits for. False: the connection is over. */
static bool want(struct relay *r, int result)
{
    switch (SSL_get_error(r->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        r->net_want |= DBX_READ;
        return true;
    case SSL_ERROR_WANT_WRITE:
        r->net_want |= DBX_WRITE;
        return true;
    default:
        ERR_clear_error();
        return false;
    }
}

static void on_relay_io(void *user, int events, int error);

static bool handshake(struct relay *r)
{
    int ends[2], n = SSL_accept(r->ssl);

    if (n != 1) {
        r->dead = !want(r, n);
        return false;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0) {
        r->dead = true;
        return false;
    }
    r->open = true;
    r->front->handshakes--;
    dbx_timer_stop(r->timer);
    r->pair = ends[0];
    r->pair_watch = dbx_watch_new(r->front->loop, r->pair, 0, on_relay_io, r);
    r->front->fn(ends[1], r->peer, r->front->user);
    return true;
}

/* Network to server. Returns whether anything moved. */
static bool pump_up(struct relay *r)
{
    struct block *b = &r->up;

    if (b->off == b->len && !r->net_eof) {
        int n = SSL_read(r->ssl, b->data, BLOCK);
        b->off = 0;
        b->len = n > 0 ? (size_t)n : 0;
        if (n <= 0 && !want(r, n)) {
            r->net_eof = true;
            (void)shutdown(r->pair, SHUT_WR);
        }
    }
    if (b->off == b->len)
        return false;
    ssize_t n = send(r->pair, b->data + b->off, b->len - b->off, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN)
        r->pair_want |= DBX_WRITE;
    else if (n < 0)
        r->dead = true;
    else
        b->off += (size_t)n;
    return n > 0;
}

/* Server to network. */
static bool pump_down(struct relay *r)
{
    struct block *b = &r->down;

    if (b->off == b->len && !r->pair_eof) {
        ssize_t n = recv(r->pair, b->data, BLOCK, 0);
        b->off = 0;
        b->len = n > 0 ? (size_t)n : 0;
        if (n < 0 && errno == EAGAIN)
            r->pair_want |= DBX_READ;
        else if (n <= 0)
            r->pair_eof = true;
    }
    if (b->off == b->len) {
        if (r->pair_eof && !r->shut) {
            r->shut = true;
            (void)SSL_shutdown(r->ssl);
            (void)shutdown(r->net, SHUT_WR);
            dbx_timer_start(r->timer, CLOSE_MS, 0);
        }
        return false;
    }
    int n = SSL_write(r->ssl, b->data + b->off, (int)(b->len - b->off));
    if (n > 0) {
        b->off += (size_t)n;
        r->stalled_ms = 0;
    } else {
        r->dead = !want(r, n);
        r->stalled_ms = r->stalled_ms ? r->stalled_ms : dbx_now_ms();
    }
    return n > 0;
}

static uint64_t stall_left(const struct relay *r)
{
    uint64_t now = dbx_now_ms(), end = r->stalled_ms + r->front->stall_ms;

    return end > now ? end - now : 0;
}

static void pump(struct relay *r)
{
    bool moved = true;
    int rounds = 0;

    r->net_want = r->pair_want = 0;
    ERR_clear_error();
    if (!r->open && !handshake(r))
        moved = false;
    for (; moved && !r->dead && rounds < MAX_ROUNDS; rounds++) {
        r->net_want = r->pair_want = 0;
        moved = pump_up(r);
        if (!r->dead)
            moved |= pump_down(r);
    }
    if (r->dead || (r->net_eof && r->pair_eof)) {
        relay_free(r);
        return;
    }
    if (rounds == MAX_ROUNDS) /* OpenSSL may hold what epoll does not know of: come again */
        dbx_timer_start(r->timer, 0, 0);
    else if (r->stalled_ms && !r->shut) /* the server may be done with it already, and not mind */
        dbx_timer_start(r->timer, stall_left(r), 0);
    dbx_watch_set(r->net_watch, r->net_want);
    if (r->pair_watch)
        dbx_watch_set(r->pair_watch, r->pair_want);
}

static void on_relay_io(void *user, int events, int error)
{
    struct relay *r = DBX_CAST(struct relay, RELAY_MAGIC, user);

    (void)events;
    if (error)
        relay_free(r);
    else
        pump(r);
}

static void on_relay_timer(void *user)
{
    struct relay *r = DBX_CAST(struct relay, RELAY_MAGIC, user);

    if (r->open && !r->shut && !(r->stalled_ms && stall_left(r) == 0))
        pump(r);
    else
        relay_free(r);
}

void dbx_tls_front_take(struct dbx_tls_front *front, int fd, const char *peer)
{
    SSL *ssl = front->handshakes < MAX_HANDSHAKES ? SSL_new(front->ctx) : NULL;

    if (!ssl || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        dbx_close(fd);
        return;
    }
    struct relay *r = DBX_NEW(struct relay);
    r->magic = RELAY_MAGIC;
    r->front = front;
    r->ssl = ssl;
    r->net = fd;
    r->pair = -1;
    memcpy(r->peer, peer, strnlen(peer, sizeof(r->peer) - 1));
    front->handshakes++;
    dbx_list_push(&front->relays, &r->node);
    r->net_watch = dbx_watch_new(front->loop, fd, DBX_READ, on_relay_io, r);
    r->timer = dbx_timer_new(front->loop, on_relay_timer, r);
    dbx_timer_start(r->timer, HANDSHAKE_MS, 0);
}

struct dbx_tls_front *dbx_tls_front_free(struct dbx_tls_front *front)
{
    if (!front)
        return NULL;
    while (!dbx_list_empty(&front->relays))
        relay_free(dbx_list_first(&front->relays, struct relay, node));
    SSL_CTX_free(front->ctx);
    free(front);
    return NULL;
}
