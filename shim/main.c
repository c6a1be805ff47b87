/* SPDX-License-Identifier: Apache-2.0 */
/* devbox-shim: the node agent. The map is in docs/architecture.md. */
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>

#include "common/base/log.h"
#include "common/base/sched.h"
#include "common/ext/confine.h"
#include "common/io/loop.h"
#include "shim/config.h"
#include "shim/shim.h"

static void on_terminate(void *user)
{
    shim_drain(user);
}

#define CAP(name) (1ull << CAP_##name)

/* What runsc needs has to stay here too: what it is started with is no more than we have. Of the
 * filter it is the same. So this is what neither ever does; what a sandbox may is runsc's to say.
 */
static int confine(struct dbx_err *err)
{
    static const uint64_t keep = CAP(SYS_ADMIN) | CAP(SETUID) | CAP(SETGID) | CAP(SETFCAP) |
                                 CAP(SYS_CHROOT) | CAP(CHOWN) | CAP(DAC_OVERRIDE) | CAP(FOWNER) |
                                 CAP(KILL) | CAP(SETPCAP);
    static const char *const refuse[] = {"io_uring_setup", NULL};
    const struct dbx_seccomp filter = {
        .refuse = refuse, .refuse_outside = true, .otherwise = DBX_SYS_ALLOW};
    int r = dbx_confine_caps(keep, err);
    if (r == 0)
        r = dbx_confine_memory(err);
    return r == 0 ? dbx_seccomp(&filter, err) : r;
}

static int run(const struct shim_config *cfg)
{
    struct dbx_err err = {0};
    struct shim *sh = NULL;
    struct dbx_loop *loop = dbx_loop_new();
    int code = 1;
    dbx_sched_short_slices();
    if (confine(&err) < 0 || shim_start(cfg, loop, &sh, &err) < 0) {
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
