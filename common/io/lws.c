/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/loop_int.h"
#include "common/io/lws_int.h"

#include <libwebsockets.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* lws allocates two tables of RLIMIT_NOFILE entries; a container may say a thousand million. */
#define MAX_FDS 131072
#define RX_SERVER 4096     /* a buffer of that size for each socket: many viewers */
#define RX_CLIENT 32768    /* few links, large messages */
#define TX_PIECE (1 << 20) /* one send(): lws copies what the kernel did not take */

struct tls_vhost {
    struct tls_vhost *next;
    char *ca_file;
    struct lws_vhost *vhost;
};

struct lws_guest {
    struct dbx_loop_guest guest;
    struct lws_context *context;
    struct lws_vhost *vhost;
    struct tls_vhost *tls;
    bool ending;
};

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                  size_t len)
{
    (void)user;
    return dbx_ws__callback(wsi, reason, in, len);
}

static const struct lws_protocols protocols[] = {
    {.name = "server", .callback = on_lws, .rx_buffer_size = RX_SERVER, .tx_packet_size = TX_PIECE},
    {.name = DBX_LWS_CLIENT_PROTOCOL,
     .callback = on_lws,
     .rx_buffer_size = RX_CLIENT,
     .tx_packet_size = TX_PIECE},
    {0},
};

/* No pings, no hang-ups of lws' own: ws.c does that. */
static const lws_retry_bo_t no_policy;

static void on_log(int level, const char *line)
{
    (void)level;
    dbx_log(DBX_LOG_DEBUG, NULL, "lws: %.*s", (int)strcspn(line, "\n"), line);
}

static void guest_stop(struct dbx_loop_guest *g)
{
    struct lws_guest *guest = dbx_container_of(g, struct lws_guest, guest);

    guest->ending = true;
    lws_context_destroy(
        guest->context); /* closes every socket; the handles go in the loop's close phase */
}

static void guest_done(struct dbx_loop_guest *g)
{
    struct lws_guest *guest = dbx_container_of(g, struct lws_guest, guest);

    lws_context_destroy(guest->context); /* with a foreign loop the second call frees */
    while (guest->tls) {
        struct tls_vhost *tv = guest->tls;
        guest->tls = tv->next;
        free(tv->ca_file);
        free(tv);
    }
    free(guest);
}

static void common_info(struct lws_context_creation_info *info)
{
    memset(info, 0, sizeof(*info));
    info->port = CONTEXT_PORT_NO_LISTEN_SERVER;
    info->protocols = protocols;
    info->alpn = "http/1.1";
    info->retry_and_idle_policy = &no_policy;
    /* Else the environment's http_proxy would be used, for our own links. Port 0 means none. */
    info->http_proxy_address = "none:0";
}

static struct lws_context *make_context(struct dbx_loop *loop)
{
    struct lws_context_creation_info info;
    struct rlimit old, capped;
    void *foreign[1] = {dbx_loop_uv(loop)};

    common_info(&info);
    info.gid = (gid_t)-1;
    info.uid = (uid_t)-1;
    info.options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
    info.foreign_loops = foreign;
    info.pt_serv_buf_size = RX_CLIENT + LWS_PRE;
    info.max_http_header_data2 = 16384; /* answers to our own handshakes */
    info.max_http_header_pool2 = 1024;  /* handshakes at the same time */
    /* Not by info.fd_limit_per_thread: below the rlimit that makes every event a linear search. */
    bool cap = getrlimit(RLIMIT_NOFILE, &old) == 0 && old.rlim_cur > MAX_FDS;
    if (cap) {
        capped = (struct rlimit){.rlim_cur = MAX_FDS, .rlim_max = old.rlim_max};
        (void)setrlimit(RLIMIT_NOFILE, &capped);
    }
    struct lws_context *context = lws_create_context(&info);
    if (cap)
        (void)setrlimit(RLIMIT_NOFILE, &old);
    return context;
}

static struct lws_guest *guest_of(struct dbx_loop *loop)
{
    struct dbx_loop_guest *g = dbx_loop__guest(loop, "lws");
    struct lws_context_creation_info info;

    if (g)
        return dbx_container_of(g, struct lws_guest, guest);
    lws_set_log_level(LLL_ERR | LLL_WARN, on_log);
    struct lws_guest *guest = DBX_NEW(struct lws_guest);
    guest->guest = (struct dbx_loop_guest){.name = "lws", .stop = guest_stop, .done = guest_done};
    guest->context = make_context(loop);
    dbx_assert(guest->context); /* the libuv plug-in is not installed, or memory is out */
    common_info(&info);
    info.vhost_name = "plain";
    guest->vhost = lws_create_vhost(guest->context, &info);
    dbx_assert(guest->vhost);
    dbx_loop__add_guest(loop, &guest->guest);
    return guest;
}

struct lws_context *dbx_lws_context(struct dbx_loop *loop)
{
    return guest_of(loop)->context;
}

struct lws_vhost *dbx_lws_vhost(struct dbx_loop *loop)
{
    return guest_of(loop)->vhost;
}

int dbx_lws_tls_vhost(struct dbx_loop *loop, const char *ca_file, struct lws_vhost **ret,
                      struct dbx_err *err)
{
    struct lws_guest *guest = guest_of(loop);
    struct lws_context_creation_info info;

    for (struct tls_vhost *tv = guest->tls; tv; tv = tv->next) {
        if (dbx_streq(tv->ca_file, ca_file)) {
            *ret = tv->vhost;
            return 0;
        }
    }
    common_info(&info);
    info.vhost_name = "tls";
    info.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
    if (ca_file)
        info.options |= LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS;
    info.client_ssl_ca_filepath = ca_file;
    struct lws_vhost *vhost = lws_create_vhost(guest->context, &info);
    if (!vhost || lws_init_vhost_client_ssl(&info, vhost)) {
        if (vhost)
            lws_vhost_destroy(vhost);
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "the CA file '%s' cannot be used",
                           ca_file ? ca_file : "(system)");
    }
    struct tls_vhost *tv = DBX_NEW(struct tls_vhost);
    tv->ca_file = ca_file ? dbx_strdup(ca_file) : NULL;
    tv->vhost = vhost;
    tv->next = guest->tls;
    guest->tls = tv;
    *ret = vhost;
    return 0;
}

void dbx_lws_kick(struct dbx_loop *loop)
{
    struct lws_guest *guest = guest_of(loop);

    if (!guest->ending)
        lws_cancel_service(guest->context);
}

bool dbx_lws_ending(struct dbx_loop *loop)
{
    return guest_of(loop)->ending;
}
