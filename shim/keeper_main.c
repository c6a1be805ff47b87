/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/buf.h"
#include "common/base/config.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/base/sched.h"
#include "common/ext/confine.h"
#include "common/io/httpd.h"
#include "common/io/loop.h"
#include "shim/keeper.h"
#include "shim/keeper_protocol.h"

#include <string.h>
#include <sys/resource.h>

struct config {
    char *socket, *pump, *listen, *log_format, *log_level;
    uint64_t max_processes, max_sandboxes;
};

#define FIELD(name) offsetof(struct config, name)
static const struct dbx_config_field fields[] = {
    {"socket", DBX_CONFIG_PATH, FIELD(socket), "keeper.sock", 0, 0, "",
     "Unix socket on which the shim connects."},
    {"pump", DBX_CONFIG_STRING, FIELD(pump), "auto", 0, 0, "",
     "How pipes are read: uring, epoll, or auto (uring where the kernel allows it)."},
    {"listen", DBX_CONFIG_STRING, FIELD(listen), "", 0, 0, "",
     "Address of /healthz, /readyz and /metrics; empty: none."},
    {"max_processes", DBX_CONFIG_U64, FIELD(max_processes), "4096", 1, KEEPER_SLOTS, "",
     "Processes whose streams are held at a time."},
    {"max_sandboxes", DBX_CONFIG_U64, FIELD(max_sandboxes), "1024", 1, 65536, "",
     "Sandboxes whose control socket is held at a time."},
    {"log_format", DBX_CONFIG_STRING, FIELD(log_format), "logfmt", 0, 0, "", "logfmt or json."},
    {"log_level", DBX_CONFIG_STRING, FIELD(log_level), "info", 0, 0, "",
     "err, warn, info or debug."},
};

static void on_terminate(void *user)
{
    dbx_loop_stop(user, 0);
}

static void on_request(struct dbx_http_req *req, void *user)
{
    const char *path = dbx_http_path(req);
    (void)user;
    if (strcmp(path, "/metrics") == 0) {
        struct dbx_buf out;
        dbx_buf_init(&out, DBX_MAX_BODY);
        int r = dbx_metrics_print(&out);
        dbx_http_reply(req, r < 0 ? 500 : 200, "text/plain; version=0.0.4", NULL, out.data,
                       out.len);
        dbx_buf_done(&out);
        return;
    }
    bool known = strcmp(path, "/healthz") == 0 || strcmp(path, "/readyz") == 0;
    const char *body = known ? "ok\n" : "not found\n";
    dbx_http_reply(req, known ? 200 : 404, "text/plain", NULL, body, strlen(body));
}

/* Four descriptors a process: as many as we may have. */
static void raise_limits(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
}

static int serve_http(const struct config *cfg, struct dbx_loop *loop, struct dbx_httpd **ret,
                      struct dbx_err *err)
{
    static const struct dbx_httpd_handlers handlers = {.on_request = on_request};
    struct dbx_httpd_opts opts = {
        .loop = loop, .listen = cfg->listen, .max_connections = 64, .handlers = &handlers};
    return cfg->listen[0] ? dbx_httpd_new(&opts, ret, err) : 0;
}

static void on_refused_call(const char *name, void *user)
{
    (void)user;
    dbx_log(DBX_LOG_WARN, NULL, "the system call %s is not allowed: refused", name);
}

/* Once everything is open: pipes, rings and sockets that are there, or that are passed to it. It
 * can open no file (but remove its socket), connect nowhere, and make no other ring. */
static int confine(struct dbx_loop *loop, struct dbx_err *err)
{
    static const char *const allow[] = {"accept4",     "recvmsg",        "sendmsg",    "recvfrom",
                                        "sendto",      "shutdown",       "getsockopt", "setsockopt",
                                        "getsockname", "io_uring_enter", "unlink",     NULL};
    const struct dbx_seccomp filter = {
        .sets = DBX_SYS_BASE, .allow = allow, .otherwise = DBX_SYS_TELL};
    int r = dbx_seccomp_watch(loop, on_refused_call, NULL, err);
    return r == 0 ? dbx_seccomp(&filter, err) : r;
}

static int start(const struct config *cfg, struct dbx_loop *loop, struct keeper **k,
                 struct dbx_httpd **hd, struct dbx_err *err)
{
    struct keeper_opts opts = {.loop = loop,
                               .socket = cfg->socket,
                               .pump = cfg->pump,
                               .max_processes = (uint32_t)cfg->max_processes,
                               .max_sandboxes = (uint32_t)cfg->max_sandboxes};
    int r = dbx_confine_caps(0, err);
    if (r == 0)
        r = dbx_confine_memory(err);
    if (r == 0)
        r = keeper_new(&opts, k, err);
    if (r == 0)
        r = serve_http(cfg, loop, hd, err);
    return r == 0 ? confine(loop, err) : r;
}

static int run(const struct config *cfg)
{
    struct dbx_loop *loop = dbx_loop_new();
    struct dbx_err err = {0};
    struct dbx_httpd *hd = NULL;
    struct keeper *k = NULL;
    int code = 1;
    dbx_sched_short_slices();
    if (start(cfg, loop, &k, &hd, &err) < 0) {
        dbx_log(DBX_LOG_ERR, NULL, "cannot start: %s", err.msg);
    } else {
        if (keeper_pump_reason(k)->code)
            dbx_log(DBX_LOG_WARN, NULL, "reading with epoll: %s", keeper_pump_reason(k)->msg);
        dbx_log(DBX_LOG_INFO, NULL, "ready on %s, pump %s", cfg->socket, keeper_pump_name(k));
        dbx_loop_on_terminate(loop, on_terminate, loop);
        code = dbx_loop_run(loop);
    }
    if (hd)
        dbx_httpd_free(hd);
    keeper_free(k);
    dbx_seccomp_unwatch();
    dbx_loop_free(loop);
    return code;
}

int main(int argc, char **argv)
{
    struct config cfg = {0};
    struct dbx_err err = {0};
    bool go_on;
    dbx_log_init("shim-keeper", "logfmt", DBX_LOG_INFO);
    int r = dbx_config_load(
        &cfg, fields, DBX_ARRAY_LEN(fields), "shim-keeper",
        "Holds the sandboxes of a node and reads their output while the shim comes and goes.", argc,
        argv, &go_on, &err);
    if (r < 0) {
        dbx_log(DBX_LOG_ERR, NULL, "%s", err.msg);
        return 2;
    }
    int code = 0;
    if (go_on) {
        int level = dbx_log_level_parse(cfg.log_level);
        dbx_log_init("shim-keeper", cfg.log_format,
                     level < 0 ? DBX_LOG_INFO : (enum dbx_log_level)level);
        raise_limits();
        code = run(&cfg);
    }
    dbx_config_done(&cfg, fields, DBX_ARRAY_LEN(fields));
    return code;
}
