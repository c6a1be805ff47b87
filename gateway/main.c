/* SPDX-License-Identifier: Apache-2.0 */
/* devbox-gateway: REST and streams for clients. Stateless; the map is in docs/architecture.md. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/sched.h"
#include "common/ext/confine.h"
#include "common/io/loop.h"
#include "gateway/config.h"
#include "gateway/server.h"
#include "gateway/unpack.h"

static void on_terminate(void *user)
{
    gw_server_drain(user);
}

static void on_refused_call(const char *name, void *user)
{
    (void)user;
    dbx_log(DBX_LOG_WARN, NULL, "the system call %s is not allowed: refused", name);
}

static int start(const struct gw_config *cfg, struct dbx_loop *loop, int unpacker, struct gw **gw)
{
    struct dbx_err err = {0};
    int r = dbx_seccomp_watch(loop, on_refused_call, NULL, &err);
    if (r == 0)
        r = gw_server_start(cfg, loop, unpacker, gw, &err);
    if (r < 0)
        dbx_log(DBX_LOG_ERR, NULL, "start: %s", err.msg);
    return r;
}

static int run(const struct gw_config *cfg, int unpacker)
{
    struct gw *gw = NULL;
    struct dbx_loop *loop = dbx_loop_new();
    int code = 1;
    if (start(cfg, loop, unpacker, &gw) == 0) {
        dbx_loop_on_terminate(loop, on_terminate, gw);
        code = dbx_loop_run(loop);
    }
    gw_server_free(gw);
    dbx_seccomp_unwatch();
    dbx_loop_free(loop);
    return code;
}

/* Nothing is started from here on, and nothing written but what is asked for over sockets. */
static int confine(int *ret_unpacker, struct dbx_err *err)
{
    static const char *const allow[] = {"mkdir",    "mkdirat", "unlink",
                                        "unlinkat", "linkat",  "fsync", /* blobs = file:DIR */
                                        NULL};
    const struct dbx_seccomp filter = {.sets = DBX_SYS_BASE | DBX_SYS_NET | DBX_SYS_READ,
                                       .allow = allow,
                                       .otherwise = DBX_SYS_TELL};
    int r = gw_unpacker_start(ret_unpacker, err);
    return r == 0 ? dbx_confine(&filter, err) : r;
}

static int confined(const struct gw_config *cfg)
{
    DBX_CLEANUP(dbx_closep) int unpacker = -1;
    struct dbx_err err = {0};
    dbx_sched_short_slices();
    if (confine(&unpacker, &err) == 0)
        return run(cfg, unpacker);
    dbx_log(DBX_LOG_ERR, NULL, "start: %s", err.msg);
    return 1;
}

int main(int argc, char **argv)
{
    struct gw_config cfg = {0};
    struct dbx_err err = {0};
    bool go = false;
    int code = 2;
    if (dbx_config_load(&cfg, gw_config_fields, gw_config_len, "gateway",
                        "REST and WebSocket for clients", argc, argv, &go, &err) < 0) {
        fprintf(stderr, "devbox-gateway: %s\n", err.msg);
    } else if (!go) {
        code = 0;
    } else if (dbx_log_level_parse(cfg.log_level) < 0) {
        fprintf(stderr, "devbox-gateway: log_level: must be err, warn, info or debug\n");
    } else {
        dbx_log_init("gateway", cfg.log_format,
                     (enum dbx_log_level)dbx_log_level_parse(cfg.log_level));
        code = confined(&cfg);
    }
    dbx_config_done(&cfg, gw_config_fields, gw_config_len);
    return code;
}
