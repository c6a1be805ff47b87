/* SPDX-License-Identifier: Apache-2.0 */
/* devbox-supervisor: options, lock, services, run. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/supervisor/supervisor.h"
#include "common/base/config.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/io/loop.h"

struct config {
    char *state_dir, *cache_dir, *bin_dir, *source_dir, *bind, *runsc, *ide_dir, *node_id,
        *tls_cert, *tls_key, *log_format, *output_log, *kafka_libs;
    uint64_t port, gateways, uid_base;
    bool images;
};

#define FIELD(f) .offset = offsetof(struct config, f)
static const struct dbx_config_field fields[] = {
    {"state_dir", DBX_CONFIG_PATH, FIELD(state_dir), .def = "",
     .doc = "Where everything that must last is kept."},
    {"cache_dir", DBX_CONFIG_PATH, FIELD(cache_dir), .def = "",
     .doc = "Images and runsc; shared by states, made anew when lost."},
    {"bin_dir", DBX_CONFIG_PATH, FIELD(bin_dir), .def = "",
     .doc = "Where the daemons' programs are."},
    {"source_dir", DBX_CONFIG_PATH, FIELD(source_dir), .def = "",
     .doc = "The checkout: templates and scripts."},
    {"bind", DBX_CONFIG_STRING, FIELD(bind), .def = "127.0.0.1",
     .doc = "Address the gateways listen on."},
    {"port", DBX_CONFIG_U64, FIELD(port), .def = "7070", .min = 1, .max = 65500,
     .doc = "Port of the first gateway."},
    {"gateways", DBX_CONFIG_U64, FIELD(gateways), .def = "2", .min = 1, .max = 16,
     .doc = "How many gateways run, on ports that follow."},
    {"runsc", DBX_CONFIG_PATH, FIELD(runsc), .def = "", .doc = "The runsc program."},
    {"ide_dir", DBX_CONFIG_PATH, FIELD(ide_dir), .def = "", .doc = "The built IDE."},
    {"node_id", DBX_CONFIG_STRING, FIELD(node_id), .def = "local",
     .doc = "Name of this machine's node."},
    {"images", DBX_CONFIG_BOOL, FIELD(images), .def = "true",
     .doc = "Build the images that are missing."},
    {"tls_cert", DBX_CONFIG_PATH, FIELD(tls_cert), .def = "",
     .doc = "Certificate chain of the gateways (PEM)."},
    {"tls_key", DBX_CONFIG_PATH, FIELD(tls_key), .def = "", .doc = "Its private key (PEM)."},
    {"output_log", DBX_CONFIG_STRING, FIELD(output_log), .def = "",
     .doc = "An output log of your own (kafka:HOST:PORT); files in the state folder otherwise."},
    {"kafka_libs", DBX_CONFIG_PATH, FIELD(kafka_libs), .def = "",
     .doc = "Folder of Apache Kafka's jars: it is started, and is the output log."},
    {"uid_base", DBX_CONFIG_U64, FIELD(uid_base), .def = "64600", .min = 1000, .max = 2000000000,
     .doc = "The daemons run as this user and those after it (docs/operations.md)."},
    {"log_format", DBX_CONFIG_STRING, FIELD(log_format), .def = "logfmt", .doc = "logfmt or json."},
};

/* One supervisor a state folder. The lock file holds its pid; who holds the lock lives. */
static int take_lock(const char *state_dir, struct dbx_err *err)
{
    char path[PATH_MAX], pid[32];
    snprintf(path, sizeof(path), "%s/supervisor.pid", state_dir);
    DBX_CLEANUP(dbx_closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return dbx_err_sys(err, "open '%s'", path);
    /* ./devbox asks whether we run by taking the lock for a moment. */
    struct timespec pause = {.tv_nsec = 20000000};
    int r = flock(fd, LOCK_EX | LOCK_NB);
    for (int i = 0; i < 50 && r < 0 && errno == EWOULDBLOCK; i++) {
        (void)nanosleep(&pause, NULL);
        r = flock(fd, LOCK_EX | LOCK_NB);
    }
    if (r < 0)
        return dbx_err_set(err, -EBUSY, DBX_CONFLICT,
                           "DevBox already runs with the state folder '%s'", state_dir);
    int n = snprintf(pid, sizeof(pid), "%d\n", getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)n, 0) != n)
        return dbx_err_sys(err, "write '%s'", path);
    return DBX_TAKE_FD(fd);
}

static void raise_nofile(void)
{
    struct rlimit rl;
    if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
        rl.rlim_cur = rl.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &rl);
    }
}

static void on_terminate(void *user)
{
    sup_stop(user);
}

/* Sockets, and the empty cgroups that the shim and runsc leave in every hierarchy. */
static void clean_up(const char *state_dir)
{
    char run_dir[SUP_RUN_DIR_MAX];
    struct dbx_err ignored;
    glob_t found;
    if (sup_run_dir(state_dir, run_dir, &ignored) < 0)
        return;
    DBX_CLEANUP(dbx_freep)
    char *groups = dbx_asprintf("/sys/fs/cgroup/{,*/}%s{,.background}", strrchr(run_dir, '/') + 1);
    if (glob(groups, GLOB_BRACE | GLOB_NOSORT, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++)
            (void)rmdir(found.gl_pathv[i]);
        globfree(&found);
    }
    (void)!dbx_fs_remove_tree(run_dir, &ignored);
}

static int run(const struct config *cfg, struct dbx_err *err)
{
    char path[PATH_MAX];
    DBX_CLEANUP(dbx_closep) int lock = -1;
    int r;
    snprintf(path, sizeof(path), "%s/logs", cfg->state_dir);
    if ((r = dbx_fs_mkdirs(path, 0750, err)) < 0 || (lock = take_lock(cfg->state_dir, err)) < 0)
        return r < 0 ? r : lock;
    if ((r = sup_make_keys(cfg->state_dir, err)) < 0)
        return r;
    raise_nofile();
    sup_end_leftovers(cfg->state_dir);
    struct sup_opts opts = {
        .state_dir = cfg->state_dir,
        .cache_dir = cfg->cache_dir,
        .bin_dir = cfg->bin_dir,
        .source_dir = cfg->source_dir,
        .bind = cfg->bind,
        .port = cfg->port,
        .gateways = cfg->gateways,
        .runsc = cfg->runsc,
        .ide_dir = cfg->ide_dir,
        .node_id = cfg->node_id,
        .tls_cert = cfg->tls_cert,
        .tls_key = cfg->tls_key,
        .output_log = cfg->output_log,
        .kafka_libs = cfg->kafka_libs,
        .images = cfg->images,
        .uid_base = (uint32_t)cfg->uid_base,
    };
    struct dbx_loop *loop = dbx_loop_new();
    struct supervisor *sup = sup_new(loop, cfg->state_dir, cfg->bin_dir);
    opts.ring = sup_ring_new(loop, cfg->state_dir);
    if ((r = sup_define(sup, &opts, err)) == 0) {
        dbx_loop_on_terminate(loop, on_terminate, sup);
        sup_start(sup);
        r = dbx_loop_run(loop);
    }
    sup_close(sup);
    sup_ring_free(opts.ring);
    dbx_loop_free(loop);
    sup_free(sup);
    snprintf(path, sizeof(path), "%s/status.json", cfg->state_dir);
    (void)unlink(path);
    clean_up(cfg->state_dir);
    return r;
}

/* The caller's own descriptors are none of the daemons'. */
static void drop_inherited(void)
{
    (void)close_range(3, ~0u, 0);
    (void)umask(022);
}

int main(int argc, char **argv)
{
    struct config cfg = {0};
    struct dbx_err err = {0};
    bool go = false;
    drop_inherited();
    int r = dbx_config_load(&cfg, fields, DBX_ARRAY_LEN(fields), "supervisor",
                            "keeps the daemons of one machine running", argc, argv, &go, &err);
    if (r == 0 && go) {
        dbx_log_init("supervisor", cfg.log_format, DBX_LOG_INFO);
        r = run(&cfg, &err);
    }
    if (r < 0)
        dbx_log(DBX_LOG_ERR, NULL, "%s", err.msg);
    dbx_config_done(&cfg, fields, DBX_ARRAY_LEN(fields));
    return r == 0 ? 0 : 1;
}
