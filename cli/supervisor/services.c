/* SPDX-License-Identifier: Apache-2.0 */
/* What one machine runs. Stages of the end: gateways first, then the shim (it drains), the keeper
 * and the registry cache, the scheduler, the database and Kafka. */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/supervisor/supervisor.h"
#include "cli/supervisor/view.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/rand.h"
#include "common/base/str.h"

#define KAFKA_PORTS 19092
#define KAFKA_PAIRS 3000
#define MAX_PROPERTIES 65536

/* Users and groups, from uid_base on. No names are needed for them: the kernel goes by numbers. */
enum {
    USER_GATEWAY,
    USER_SCHEDULER,
    USER_REGISTRY,
    USER_KEEPER,
    USER_KAFKA,
    GROUP_DATABASE,
    GROUP_LOG,
    GROUP_BLOBS
};

enum { STAGE_DATABASE, STAGE_SCHEDULER, STAGE_KEEPER, STAGE_SHIM, STAGE_GATEWAY };

struct plan {
    const struct sup_opts *o;
    struct supervisor *sup;
    const struct sup_service *scheduler, *registry, *shim;
    char run_dir[SUP_RUN_DIR_MAX], database[SUP_RUN_DIR_MAX + 8];
    char output_log[PATH_MAX + 8];
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

/* The same as a user of its own, which sees of our files what its arguments name, and its program.
 * Unlike setpriv devbox-confine says so itself when the supervisor is gone. */
static struct sup_service *add_confined(struct plan *p, const char *name, const char *instance,
                                        int stage, unsigned user)
{
    struct sup_service *sv = sup_add(p->sup, name, instance, SUP_DAEMON, stage);
    sup_user(sv, p->o->uid_base + user, p->run_dir);
    sup_see(sv, false, "%s", p->o->bin_dir);
    sup_arg(sv, "%s/devbox-%s", p->o->bin_dir, name);
    return sv;
}

static void arg2(struct sup_service *sv, const char *flag, const char *value)
{
    sup_arg(sv, "%s", flag);
    sup_arg(sv, "%s", value);
    if (sv->uid && value[0] == '/')
        sup_see(sv, false, "%s", value);
}

static void arg_path(struct sup_service *sv, const char *flag, const char *dir, const char *name)
{
    sup_arg(sv, "%s", flag);
    sup_arg(sv, "%s/%s", dir, name);
    if (sv->uid)
        sup_see(sv, false, "%s/%s", dir, name);
}

/* A folder that is the daemon's own, and something in it. */
static void arg_own(struct sup_service *sv, const char *flag, const char *dir, const char *name,
                    const char *file)
{
    sup_arg(sv, "%s", flag);
    sup_arg(sv, "%s/%s%s", dir, name, file);
    sup_see(sv, true, "%s/%s", dir, name);
}

/* ws://host:port/path of a service whose url is http://host:port. */
static void arg_link(struct sup_service *sv, const char *flag, const struct sup_service *to,
                     const char *path)
{
    sup_arg(sv, "%s", flag);
    sup_arg(sv, "ws%s%s", to->url + strlen("http"), path);
}

/* It is changed while they run, and what a daemon is shown of a file is how it was at the start. */
static int arg_ring(struct plan *p, struct sup_service *sv, struct dbx_err *err)
{
    const char *dir;
    int r = sup_ring_share(p->o->ring, p->run_dir, sv->uid, &dir, err);
    if (r < 0)
        return r;
    sup_arg(sv, "--keys=%s/" SUP_RING_FILE, dir);
    sup_see(sv, false, "%s", dir);
    return 0;
}

static void arg_database(struct plan *p, struct sup_service *sv)
{
    sup_arg(sv, "--database=host=%s user=devbox dbname=postgres", p->database);
    sv->gids[0] = p->o->uid_base + GROUP_DATABASE;
    sup_see(sv, false, "%s", p->database);
}

/* A folder of the state, unless the operator has a store of his own. It is the gateways'; the
 * scheduler reads it by its group. */
static void arg_blobs(const struct plan *p, struct sup_service *sv, bool own)
{
    const char *other = getenv("DEVBOX_GATEWAY_BLOBS");
    const char *keys = getenv("DEVBOX_GATEWAY_BLOB_KEYS_FILE");
    if (!other) {
        sup_arg(sv, "--blobs=file:%s/blobs", p->o->state_dir);
        sup_see(sv, own, "%s/blobs", p->o->state_dir);
    } else {
        sup_arg(sv, "--blobs=%s", other);
        if (dbx_starts_with(other, "file:/"))
            sup_see(sv, own, "%s", other + strlen("file:"));
    }
    if (!own)
        sv->gids[1] = p->o->uid_base + GROUP_BLOBS;
    if (keys && keys[0] == '/')
        arg2(sv, "--blob-keys-file", keys);
}

static void define_postgres(struct plan *p)
{
    struct sup_service *sv = sup_add(p->sup, "postgres", "postgres", SUP_DAEMON, STAGE_DATABASE);
    sup_arg(sv, "%s/cli/supervisor/run-postgres", p->o->source_dir);
    sup_arg(sv, "%s/postgres", p->o->state_dir);
    sup_arg(sv, "%s", p->database);
    sup_arg(sv, "%u", p->o->uid_base + GROUP_DATABASE);
    sv->stop_signal = SIGINT; /* PostgreSQL's fast shutdown */
    sv->stop_ms = 20000;
}

static bool is_free(uint16_t port)
{
    struct sockaddr_in sa = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    DBX_CLEANUP(dbx_closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
           bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0;
}

/* Kafka takes a pair of ports by number. They are looked for where the kernel gives none to
 * outgoing connections: a client that tries again and again to reach a broker that is away could
 * otherwise be given the broker's own port, and keep it. Each state begins elsewhere. */
static uint16_t free_pair(const char *state_dir)
{
    struct stat st;
    unsigned first = stat(state_dir, &st) == 0 ? (unsigned)(st.st_ino % KAFKA_PAIRS) : 0;
    for (unsigned i = 0; i < KAFKA_PAIRS; i++) {
        uint16_t port = (uint16_t)(KAFKA_PORTS + 2 * ((first + i) % KAFKA_PAIRS));
        if (is_free(port) && is_free(port + 1))
            return port;
    }
    return 0;
}

static int define_kafka(struct plan *p, struct dbx_err *err)
{
    uint16_t port = free_pair(p->o->state_dir);
    if (port == 0)
        return dbx_err_set(err, -EADDRINUSE, DBX_CONFLICT, "no port is free for Kafka");
    struct sup_service *sv = sup_add(p->sup, "kafka", "kafka", SUP_DAEMON, STAGE_DATABASE);
    sup_arg(sv, "setpriv");
    sup_arg(sv, "--pdeathsig=TERM");
    sup_arg(sv, "--");
    sup_arg(sv, "%s/cli/supervisor/run-kafka", p->o->source_dir);
    sup_arg(sv, "%s", p->o->kafka_libs);
    sup_arg(sv, "%s/kafka", p->o->state_dir);
    sup_arg(sv, "%u", port);
    sup_arg(sv, "%u", p->o->uid_base + USER_KAFKA);
    sv->stop_ms = 20000;
    snprintf(p->output_log, sizeof(p->output_log), "kafka:127.0.0.1:%u", port);
    return 0;
}

/* The operator's own, Kafka started here, or files. */
static int define_output_log(struct plan *p, struct dbx_err *err)
{
    if (p->o->kafka_libs[0])
        return define_kafka(p, err);
    if (p->o->output_log[0])
        snprintf(p->output_log, sizeof(p->output_log), "%s", p->o->output_log);
    else
        snprintf(p->output_log, sizeof(p->output_log), "file:%s/output", p->o->state_dir);
    return 0;
}

/* A gateway reads the files of the log by its group; of Kafka it may need a file of properties, and
 * what that names in turn. */
static void see_output_log(struct plan *p, struct sup_service *sv)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf buf = {0};
    char path[PATH_MAX];
    const char *at;
    if (dbx_starts_with(p->output_log, "file:")) {
        sv->gids[1] = p->o->uid_base + GROUP_LOG;
        sup_see(sv, false, "%s", p->output_log + strlen("file:"));
    } else if ((at = strstr(p->output_log, "properties="))) {
        at += strlen("properties=");
        snprintf(path, sizeof(path), "%.*s", (int)strcspn(at, "&"), at);
        sup_see(sv, false, "%s", path);
        if (dbx_fs_read(path, MAX_PROPERTIES, &buf, NULL) < 0)
            return; /* the daemon tells */
        for (char *line = strtok_r((char *)dbx_buf_cstr(&buf), "\n", (char **)&at); line;
             line = strtok_r(NULL, "\n", (char **)&at)) {
            char *value = strchr(line, '=');
            value = value ? value + 1 + strspn(value + 1, " \t") : NULL;
            if (value && value[0] == '/' && sv->n_seen < SUP_MAX_SEEN)
                sup_see(sv, false, "%.*s", (int)strcspn(value, " \t\r"), value);
        }
    }
}

static int share_output_log(struct plan *p, struct dbx_err *err)
{
    if (!dbx_starts_with(p->output_log, "file:"))
        return 0;
    return view_give(p->output_log + strlen("file:"), 0, p->o->uid_base + GROUP_LOG, 02750, true,
                     err);
}

static int share_blobs(const struct plan *p, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *own = dbx_asprintf("%s/blobs", p->o->state_dir);
    const char *other = getenv("DEVBOX_GATEWAY_BLOBS");
    if (other && !dbx_starts_with(other, "file:/"))
        return 0;
    return view_give(other ? other + strlen("file:") : own, p->o->uid_base + USER_GATEWAY,
                     p->o->uid_base + GROUP_BLOBS, 02750, true, err);
}

static int define_scheduler(struct plan *p, struct dbx_err *err)
{
    struct sup_service *sv =
        add_confined(p, "scheduler", "scheduler", STAGE_SCHEDULER, USER_SCHEDULER);
    sup_arg(sv, "--listen=fd:3");
    arg_database(p, sv);
    arg_blobs(p, sv, false);
    p->scheduler = sv;
    int r = arg_ring(p, sv, err);
    return r < 0 ? r : sup_listen(sv, "127.0.0.1", 0, false, err);
}

static int define_keeper(struct plan *p, struct dbx_err *err)
{
    struct sup_service *sv =
        add_confined(p, "shim-keeper", "shim-keeper", STAGE_KEEPER, USER_KEEPER);
    sup_arg(sv, "--listen=fd:3");
    arg_own(sv, "--socket", p->run_dir, "keeper", "/keeper.sock");
    return sup_listen(sv, "127.0.0.1", 0, false, err);
}

/* Its socket is the shim's: what a sandbox asks for comes in there. */
static int define_registry(struct plan *p, struct dbx_err *err)
{
    struct sup_service *sv =
        add_confined(p, "registry-cache", "registry-cache", STAGE_KEEPER, USER_REGISTRY);
    sup_arg(sv, "--listen=fd:3");
    arg_own(sv, "--socket", p->run_dir, "registry", "/registry.sock");
    arg_own(sv, "--dir", p->o->state_dir, "registry/store", "");
    arg_path(sv, "--upstreams", p->o->state_dir, "registry/upstreams.conf");
    arg_path(sv, "--rules", p->o->state_dir, "registry/rules.conf");
    arg_path(sv, "--keys", p->o->state_dir, "keys/layers.key");
    p->registry = sv;
    return sup_listen(sv, "127.0.0.1", 0, false, err);
}

/* This machine's cache, unless the operator names one that nodes share. It knows who may put, by a
 * ring of its own, and has no other: it speaks with strangers. */
static void arg_layers(const struct plan *p, struct sup_service *sv)
{
    arg_path(sv, "--layers-dir", p->o->state_dir, "layers");
    if (getenv("DEVBOX_SHIM_LAYERS_URL"))
        return;
    arg2(sv, "--layers-url", p->registry->url);
    arg_path(sv, "--layers-keys", p->o->state_dir, "keys/layers.key");
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
    arg_path(sv, "--keeper-socket", p->run_dir, "keeper/keeper.sock");
    arg_path(sv, "--registry-socket", p->run_dir, "registry/registry.sock");
    arg_layers(p, sv);
    arg2(sv, "--output-log", p->output_log);
    p->shim = sv;
    return 0;
}

static int define_gateway(struct plan *p, unsigned i, struct dbx_err *err)
{
    char instance[32];
    bool tls = p->o->tls_cert && p->o->tls_cert[0];
    snprintf(instance, sizeof(instance), "gateway-%u", i);
    struct sup_service *sv = add_confined(p, "gateway", instance, STAGE_GATEWAY, USER_GATEWAY);
    sup_arg(sv, "--listen=fd:3");
    arg_database(p, sv);
    arg_link(sv, "--scheduler", p->scheduler, "/gateway");
    int r = arg_ring(p, sv, err);
    if (r < 0)
        return r;
    arg_path(sv, "--templates-dir", p->o->source_dir, "bundles/templates");
    if (p->o->ide_dir && p->o->ide_dir[0])
        arg2(sv, "--ide-dir", p->o->ide_dir);
    arg_path(sv, "--admin-key-file", p->o->state_dir, "keys/admin.key");
    arg2(sv, "--output-log", p->output_log);
    see_output_log(p, sv);
    arg_blobs(p, sv, true);
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
    r = dbx_fs_mkdirs(p.database, 0700, err); /* to be seen by those that start before it does */
    if (r < 0)
        return r;

    define_postgres(&p);
    if ((r = define_output_log(&p, err)) < 0 || (r = share_output_log(&p, err)) < 0 ||
        (r = share_blobs(&p, err)) < 0 || (r = define_scheduler(&p, err)) < 0 ||
        (r = define_keeper(&p, err)) < 0 || (r = define_registry(&p, err)) < 0 ||
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
    snprintf(path, sizeof(path), "%s/keys/layers.key", state_dir);
    if ((r = make_secret(path, "1 ", "\n", err)) < 0)
        return r;
    snprintf(path, sizeof(path), "%s/keys/admin.key", state_dir);
    return make_secret(path, "dbx_", "\n", err);
}
