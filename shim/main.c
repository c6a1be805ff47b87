/* SPDX-License-Identifier: Apache-2.0 */
/* devbox-shim: the node agent. The map is in docs/architecture.md. */
#include <signal.h>
#include <stdio.h>

#include "common/base/log.h"
#include "common/io/loop.h"
#include "shim/config.h"
#include "shim/shim.h"

static void on_terminate(void *user)
{
    shim_drain(user);
}

static int run(const struct shim_config *cfg)
{
    struct dbx_err err = {0};
    struct shim *sh = NULL;
    struct dbx_loop *loop = dbx_loop_new();
    int code = 1;
    if (shim_start(cfg, loop, &sh, &err) < 0) {
        dbx_log(DBX_LOG_ERR, NULL, "start: %s", err.msg);
    } else {
        dbx_loop_on_terminate(loop, on_terminate, sh);
        code = dbx_loop_run(loop);
    }
    shim_free(sh);
    dbx_loop_free(loop);
    return code;
}

int main(int argc, char **argv)
{
    struct shim_config cfg = {0};
    struct dbx_err err = {0};
    bool go = false;
    int code = 2;
    (void)signal(SIGHUP, SIG_DFL); /* ends us at once; nohup would have it ignored */
    if (dbx_config_load(&cfg, shim_config_fields, shim_config_len, "shim",
                        "Runs sandboxes on this node", argc, argv, &go, &err) < 0) {
        fprintf(stderr, "devbox-shim: %s\n", err.msg);
    } else if (!go) {
        code = 0;
    } else if (dbx_log_level_parse(cfg.log_level) < 0) {
        fprintf(stderr, "devbox-shim: log_level: must be err, warn, info or debug\n");
    } else {
        dbx_log_init("shim", cfg.log_format,
                     (enum dbx_log_level)dbx_log_level_parse(cfg.log_level));
        code = run(&cfg);
    }
    dbx_config_done(&cfg, shim_config_fields, shim_config_len);
    return code;
}
