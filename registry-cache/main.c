/* SPDX-License-Identifier: Apache-2.0 */
/* devbox-registry-cache: packages from npm, PyPI, Go and crates, kept. Only wiring here. */
#include "common/base/config.h"
#include "common/base/map.h"
#include "common/ext/confine.h"
#include "common/io/http_client.h"
#include "common/io/httpd.h"
#include "common/io/loop.h"
#include "common/proto/token.h"
#include "registry-cache/call.h"
#include "registry-cache/server.h"

#include <inttypes.h>
#include <stdio.h>

#define HOST_CONNECTIONS 24
#define ALL_CONNECTIONS 64

#define F(name) offsetof(struct rc_config, name)
static const struct dbx_config_field fields[] = {
    {"listen", DBX_CONFIG_STRING, F(listen), "127.0.0.1:7080", 0, 0, "",
     "Where the admin side listens: HOST:PORT, unix:PATH or fd:N. Loopback: who reaches it may "
     "read "
     "everything."},
    {"socket", DBX_CONFIG_PATH, F(socket), "", 0, 0, "",
     "Unix socket for sandboxes: packages only. The shim connects it."},
    {"dir", DBX_CONFIG_PATH, F(dir), "/var/lib/devbox/registry", 0, 0, "",
     "Where packages are kept."},
    {"upstreams", DBX_CONFIG_PATH, F(upstreams), "", 0, 0, "",
     "File of the upstreams: \"npm URL\", \"pypi URL\", \"go URL ...\", \"crates URL\"; "
     "credentials "
     "in the URL, or \"npm-token TOKEN\"."},
    {"rules", DBX_CONFIG_PATH, F(rules), "", 0, 0, "",
     "File of rules: \"allow npm:NAME\", \"deny ...\", \"private ...\" (never asked for upstream); "
     "* stands for anything."},
    {"keys", DBX_CONFIG_PATH, F(keys), "", 0, 0, "",
     "The keyring of the daemons that may put blobs; nobody may when empty."},
    {"public_base", DBX_CONFIG_STRING, F(public_base), "", 0, 0, "",
     "What the URLs in metadata begin with; otherwise http:// and the request's Host."},
    {"max_bytes", DBX_CONFIG_U64, F(max_bytes), "21474836480", 1 << 20, 0, "bytes",
     "Size of all that is kept; the least recently used goes."},
    {"max_refs", DBX_CONFIG_U64, F(max_refs), "500000", 100, 10000000, "",
     "Names that are kept, in memory."},
    {"max_object", DBX_CONFIG_U64, F(max_object), "2147483648", 1024, 0, "bytes",
     "Size of one file."},
    {"max_document", DBX_CONFIG_U64, F(max_document), "268435456", 1024, 0, "bytes",
     "Size of one piece of metadata, packed and unpacked."},
    {"max_fills", DBX_CONFIG_U64, F(max_fills), "512", 1, 100000, "",
     "What is fetched at a time; more: 503."},
    {"max_connections", DBX_CONFIG_U64, F(max_connections), "4096", 1, 100000, "",
     "Clients at a time, on each side."},
    {"fresh_s", DBX_CONFIG_U64, F(fresh_s), "0", 0, 86400, "s",
     "Metadata counts for at least so long, whatever the upstream says."},
    {"swr_s", DBX_CONFIG_U64, F(swr_s), "3600", 0, 31536000, "s",
     "Older metadata is shown for so long while it is asked for anew behind."},
    {"sie_s", DBX_CONFIG_U64, F(sie_s), "31536000", 0, 315360000, "s",
     "Older metadata is shown for so long when the upstream fails."},
    {"negative_ms", DBX_CONFIG_U64, F(negative_ms), "10000", 0, 600000, "ms",
     "What upstream does not have is not asked for again for so long."},
    {"stall_ms", DBX_CONFIG_U64, F(stall_ms), "20000", 1000, 600000, "ms",
     "An upstream that sends next to nothing for so long is given up."},
    {"document_ms", DBX_CONFIG_U64, F(document_ms), "60000", 100, 3600000, "ms",
     "Metadata must be here within."},
    {"object_ms", DBX_CONFIG_U64, F(object_ms), "1800000", 100, 86400000, "ms",
     "A file must be here within."},
    {"offline", DBX_CONFIG_BOOL, F(offline), "false", 0, 0, "",
     "Ask no upstream: what is here, however old, and nothing else."},
    {"fsck", DBX_CONFIG_BOOL, F(fsck), "false", 0, 0, "",
     "Check everything that is kept, remove what is not as it should be, and end (3 when there was "
     "any)."},
    {"log_level", DBX_CONFIG_STRING, F(log_level), "info", 0, 0, "", "err, warn, info or debug."},
    {"log_format", DBX_CONFIG_STRING, F(log_format), "logfmt", 0, 0, "", "logfmt or json."},
};

static void on_terminate(void *user)
{
    struct rc *rc = user;

    dbx_loop_stop(rc->loop, 0);
}

static int prepare(struct rc *rc, struct dbx_err *err)
{
    const struct rc_config *cfg = rc->cfg;
    struct rc_store_opts store = {
        .loop = rc->loop, .dir = cfg->dir, .max_bytes = cfg->max_bytes, .max_refs = cfg->max_refs};

    rc_metrics_init(&rc->metrics);
    rc->fills = dbx_map_new();
    rc->derives = dbx_map_new();
    rc->absent = dbx_map_new();
    dbx_list_init(&rc->absences);
    rc->client = dbx_http_client_new(rc->loop);
    dbx_http_client_limit(rc->client, HOST_CONNECTIONS, ALL_CONNECTIONS);
    int r = rc_upstreams_load(cfg->upstreams, &rc->ups, err);
    if (r == 0 && *cfg->keys)
        r = dbx_keyring_load(cfg->keys, &rc->keys, err);
    if (r == 0)
        r = rc_rules_load(cfg->rules, &rc->rules, err);
    if (r == 0)
        r = rc_store_open(&store, &rc->store, err);
    return r < 0 ? r : rc_server_start(rc, err);
}

static void done(struct rc *rc)
{
    rc_server_stop(rc);
    rc->client = dbx_http_client_free(rc->client);
    rc_derives_free(rc);
    rc_fills_free(rc);
    rc->store = rc_store_close(rc->store);
    dbx_map_free(rc->fills);
    dbx_map_free(rc->derives);
    dbx_map_free(rc->absent);
    rc_rules_free(rc->rules);
    dbx_keyring_free(rc->keys);
    rc_upstreams_done(&rc->ups);
    dbx_seccomp_unwatch();
    dbx_loop_free(rc->loop);
}

static void on_refused_call(const char *name, void *user)
{
    (void)user;
    dbx_log(DBX_LOG_WARN, NULL, "the system call %s is not allowed: refused", name);
}

static int confine(struct dbx_err *err)
{
    const struct dbx_seccomp filter = {.sets = DBX_SYS_BASE | DBX_SYS_NET | DBX_SYS_READ |
                                               DBX_SYS_WRITE,
                                       .otherwise = DBX_SYS_TELL};
    return dbx_confine(&filter, err);
}

static int run(struct rc *rc, struct dbx_err *err)
{
    struct rc_store_stats st;

    rc->loop = dbx_loop_new();
    int r = dbx_seccomp_watch(rc->loop, on_refused_call, NULL, err);
    if (r == 0)
        r = prepare(rc, err);
    if (r == 0) {
        rc_store_stats(rc->store, &st);
        dbx_log(DBX_LOG_INFO, NULL, "listens at %s, port %u; %" PRIu64 " blobs, %" PRIu64 " bytes",
                rc->cfg->listen, dbx_httpd_port(rc->admin), st.blobs, st.bytes);
        dbx_loop_on_terminate(rc->loop, on_terminate, rc);
        r = dbx_loop_run(rc->loop);
    }
    done(rc);
    return r;
}

static int start(struct rc *rc, struct dbx_err *err)
{
    const struct rc_config *cfg = rc->cfg;
    int level = dbx_log_level_parse(cfg->log_level);
    uint64_t bad = 0;

    if (level < 0)
        return dbx_err_field(err, "log_level", "is err, warn, info or debug");
    dbx_log_init("registry-cache", cfg->log_format, (enum dbx_log_level)level);
    int r = confine(err);
    if (r < 0 || !cfg->fsck)
        return r < 0 ? r : run(rc, err);
    r = rc_store_fsck(cfg->dir, &bad, err);
    return r == 0 && bad ? 3 : r;
}

int main(int argc, char **argv)
{
    struct rc_config cfg = {0};
    struct rc rc = {.cfg = &cfg};
    struct dbx_err err = {0};
    bool go_on = false;

    if (dbx_config_load(&cfg, fields, DBX_ARRAY_LEN(fields), "registry-cache",
                        "Keeps packages of npm, PyPI, Go and crates.", argc, argv, &go_on,
                        &err) < 0) {
        fprintf(stderr, "devbox-registry-cache: %s %s\n", err.field, err.msg);
        return 2;
    }
    int r = go_on ? start(&rc, &err) : 0;
    if (r < 0)
        dbx_log(DBX_LOG_ERR, NULL, "cannot run: %s %s", err.field, err.msg);
    dbx_config_done(&cfg, fields, DBX_ARRAY_LEN(fields));
    return r < 0 ? 1 : r;
}
