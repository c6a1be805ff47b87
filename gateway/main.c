/* SPDX-License-Identifier: Apache-2.0 */
/* devbox-gateway: REST and streams for clients. Stateless; the map is in docs/architecture.md. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/io/loop.h"
#include "gateway/config.h"
#include "gateway/server.h"

static void on_terminate(void *user)
{
    gw_server_drain(user);
}

static int run(const struct gw_config *cfg)
{
    struct dbx_err err = {0};
    struct gw *gw = NULL;
    struct dbx_loop *loop = dbx_loop_new();
    int code = 1;
    if (gw_server_start(cfg, loop, &gw, &err) < 0) {
        dbx_log(DBX_LOG_ERR, NULL, "start: %s", err.msg);
    } else {
        dbx_loop_on_terminate(loop, on_terminate, gw);
        code = dbx_loop_run(loop);
    }
    gw_server_free(gw);
    dbx_loop_free(loop);
    return code;
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
        code = run(&cfg);
    }
    dbx_config_done(&cfg, gw_config_fields, gw_config_len);
    return code;
}
