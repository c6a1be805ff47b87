/* SPDX-License-Identifier: Apache-2.0 */
/* What one machine runs. Stages of the end: gateways first, then the shim (it drains), the keeper,
 * the scheduler, the database. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/supervisor/supervisor.h"
#include "common/base/fs.h"
#include "common/base/rand.h"
#include "common/base/str.h"

enum { STAGE_DATABASE, STAGE_SCHEDULER, STAGE_KEEPER, STAGE_SHIM, STAGE_GATEWAY };

struct plan {
    const struct sup_opts *o;
    struct supervisor *sup;
    const struct sup_service *scheduler, *shim;
    char run_dir[SUP_RUN_DIR_MAX], database[SUP_RUN_DIR_MAX + 8];
};

/* Descriptor of the parent's death: a daemon whose supervisor was killed ends too, so that the next
 * `up` finds nothing in its way. */
static struct sup_service *add_daemon(struct plan *p, const char *name, const char *instance,
                                      int stage)
{
    struct sup_service *sv = sup_add(p->sup, name, instance, SUP_DAEMON, stage);
    sup_arg(sv, "setpriv");
    sup_arg(sv, "--pdeathsig=TERM");
    sup_arg(sv, "--");
    sup_arg(sv, "%s/devbox-%s", p->o->bin_dir, name);
    return sv;
}

static void arg2(struct sup_service *sv, const char *flag, const char *value)
{
    sup_arg(sv, "%s", flag);
    sup_arg(sv, "%s", value);
}

static void arg_path(struct sup_service *sv, const char *flag, const char *dir, const char *name)
{
    sup_arg(sv, "%s", flag);
    sup_arg(sv, "%s/%s", dir, name);
}

static void arg_log(struct plan *p, struct sup_service *sv)
{
    sup_arg(sv, "--output-log");
    sup_arg(sv, "file:%s/output", p->o->state_dir);
}

/* ws://host:port/path of a service whose url is http://host:port. */
static void arg_link(struct sup_service *sv, const char *flag, const struct sup_service *to,
                     const char *path)
{
    sup_arg(sv, "%s", flag);
    sup_arg(sv, "ws%s%s", to->url + strlen("http"), path);
}

static void define_postgres(struct plan *p)
{
    struct sup_service *sv = sup_add(p->sup, "postgres", "postgres", SUP_DAEMON, STAGE_DATABASE);
    sup_arg(sv, "%s/cli/supervisor/run-postgres", p->o->source_dir);
    sup_arg(sv, "%s/postgres", p->o->state_dir);
    sup_arg(sv, "%s", p->database);
    sv->stop_signal = SIGINT; /* PostgreSQL's fast shutdown */
    sv->stop_ms = 20000;
}

static int define_scheduler(struct plan *p, struct dbx_err *err)
{
    struct sup_service *sv = add_daemon(p, "scheduler", "scheduler", STAGE_SCHEDULER);
    sup_arg(sv, "--listen=fd:3");
    sup_arg(sv, "--database=host=%s user=postgres dbname=postgres", p->database);
    arg_path(sv, "--keys", p->o->state_dir, "keys/cluster.key");
    p->scheduler = sv;
    return sup_listen(sv, "127.0.0.1", 0, false, err);
}

static int define_keeper(struct plan *p, struct dbx_err *err)
{
    struct sup_service *sv = add_daemon(p, "shim-keeper", "shim-keeper", STAGE_KEEPER);
    sup_arg(sv, "--listen=fd:3");
    arg_path(sv, "--socket", p->run_dir, "keeper.sock");
    return sup_listen(sv, "127.0.0.1", 0, false, err);
}

static int define_shim(struct plan *p, struct dbx_err *err)
{
    struct sup_service *sv = add_daemon(p, "shim", "shim", STAGE_SHIM);
    int r = sup_listen(sv, "127.0.0.1", 0, false, err);
    if (r < 0)
        return r;
    sup_arg(sv, "--listen=fd:3");
    sup_arg(sv, "--url=%s", sv->url);
    arg2(sv, "--node-id", p->o->node_id);
    arg_link(sv, "--scheduler", p->scheduler, "/node");
    arg_path(sv, "--keys", p->o->state_dir, "keys/cluster.key");
    arg_path(sv, "--state-dir", p->o->state_dir, "node");
    arg2(sv, "--cache-dir", p->o->cache_dir);
    arg_path(sv, "--templates-dir", p->o->source_dir, "bundles/templates");
    /* States live side by side, all with a node of the same name: each has cgroups of its own. */
    arg2(sv, "--cgroup-base", strrchr(p->run_dir, '/') + 1);
    arg2(sv, "--runsc", p->o->runsc);
    arg_path(sv, "--init", p->o->bin_dir, "sandbox");
    arg_path(sv, "--keeper-socket", p->run_dir, "keeper.sock");
    arg_log(p, sv);
    p->shim = sv;
    return 0;
}

static int define_gateway(struct plan *p, unsigned i, struct dbx_err *err)
{
    char instance[32];
    bool tls = p->o->tls_cert && p->o->tls_cert[0];
    snprintf(instance, sizeof(instance), "gateway-%u", i);
    struct sup_service *sv = add_daemon(p, "gateway", instance, STAGE_GATEWAY);
    sup_arg(sv, "--listen=fd:3");
    sup_arg(sv, "--database=host=%s user=postgres dbname=postgres", p->database);
    arg_link(sv, "--scheduler", p->scheduler, "/gateway");
    arg_path(sv, "--keys", p->o->state_dir, "keys/cluster.key");
    arg_path(sv, "--templates-dir", p->o->source_dir, "bundles/templates");
    arg_path(sv, "--admin-key-file", p->o->state_dir, "keys/admin.key");
    arg_log(p, sv);
    if (tls) {
        arg2(sv, "--tls-cert", p->o->tls_cert);
        arg2(sv, "--tls-key", p->o->tls_key);
    }
    return sup_listen(sv, p->o->bind, (uint16_t)(p->o->port + i), tls, err);
}

static void define_images(struct plan *p)
{
    struct sup_service *sv = sup_add(p->sup, "images", "images", SUP_JOB, STAGE_SHIM);
    sup_arg(sv, "setpriv");
    sup_arg(sv, "--pdeathsig=TERM");
    sup_arg(sv, "--");
    sup_arg(sv, "%s/bundles/build-images", p->o->source_dir);
    arg2(sv, "--cache", p->o->cache_dir);
}

int sup_run_dir(const char *state_dir, char out[static SUP_RUN_DIR_MAX], struct dbx_err *err)
{
    struct stat st;
    if (stat(state_dir, &st) < 0)
        return dbx_err_sys(err, "state folder '%s'", state_dir);
    snprintf(out, SUP_RUN_DIR_MAX, "/run/devbox-%llx-%llx", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    return 0;
}

int sup_define(struct supervisor *s, const struct sup_opts *o, struct dbx_err *err)
{
    struct plan p = {.o = o, .sup = s};
    int r = sup_run_dir(o->state_dir, p.run_dir, err);
    if (r == 0) /* the database's user passes through it */
        r = dbx_fs_mkdirs(p.run_dir, 0711, err);
    if (r < 0)
        return r;
    if (chmod(p.run_dir, 0711) < 0) /* whatever the umask */
        return dbx_err_sys(err, "set the mode of '%s'", p.run_dir);
    snprintf(p.database, sizeof(p.database), "%s/pg", p.run_dir);

    define_postgres(&p);
    if ((r = define_scheduler(&p, err)) < 0 || (r = define_keeper(&p, err)) < 0 ||
        (r = define_shim(&p, err)) < 0)
        return r;
    for (unsigned i = 0; i < o->gateways; i++)
        if ((r = define_gateway(&p, i, err)) < 0)
            return r;
    if (o->images)
        define_images(&p);
    return 0;
}

static int make_secret(const char *path, const char *prefix, const char *suffix,
                       struct dbx_err *err)
{
    uint8_t secret[32];
    char hex[2 * sizeof(secret) + 1], text[128];
    if (access(path, F_OK) == 0)
        return 0;
    dbx_random(secret, sizeof(secret));
    dbx_hex_encode(secret, sizeof(secret), hex);
    int n = snprintf(text, sizeof(text), "%s%s%s", prefix, hex, suffix);
    return dbx_fs_write_atomic(path, text, (size_t)n, 0600, err);
}

int sup_make_keys(const char *state_dir, struct dbx_err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/keys", state_dir);
    int r = dbx_fs_mkdirs(path, 0700, err);
    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "%s/keys/cluster.key", state_dir);
    if ((r = make_secret(path, "1 ", "\n", err)) < 0)
        return r;
    snprintf(path, sizeof(path), "%s/keys/admin.key", state_dir);
    return make_secret(path, "dbx_", "\n", err);
}
