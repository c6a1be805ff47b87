/* SPDX-License-Identifier: Apache-2.0 */
/* devbox-scheduler: assigns processes to nodes. Only wiring here. */
#include "common/base/config.h"
#include "common/base/map.h"
#include "common/base/metrics.h"
#include "common/base/sched.h"
#include "common/ext/blob.h"
#include "common/ext/confine.h"
#include "common/ext/pg.h"
#include "common/io/httpd.h"
#include "common/io/loop.h"
#include "common/proto/schema.h"
#include "common/proto/token.h"
#include "scheduler/http.h"
#include "scheduler/leader.h"
#include "scheduler/store.h"
#include <stdio.h>

#define F(name) offsetof(struct sched_config, name)
static const struct dbx_config_field fields[] = {
    {"listen", DBX_CONFIG_STRING, F(listen), "127.0.0.1:7001", 0, 0, "",
     "Where to listen: HOST:PORT, unix:PATH or fd:N."},
    {"database", DBX_CONFIG_STRING, F(database), "", 0, 0, "",
     "PostgreSQL, as a libpq connection string; passwords belong into its passfile."},
    {"keys", DBX_CONFIG_PATH, F(keys), "", 0, 0, "",
     "File of the keys that daemons' tokens are signed with."},
    {"lease_ms", DBX_CONFIG_U64, F(lease_ms), "5000", 100, 600000, "ms",
     "A node that is silent for so long is lost."},
    {"heartbeat_ms", DBX_CONFIG_U64, F(heartbeat_ms), "1000", 10, 60000, "ms",
     "How often nodes are told to report."},
    {"scan_ms", DBX_CONFIG_U64, F(scan_ms), "1000", 10, 60000, "ms",
     "How often the database is searched for processes that nobody announced."},
    {"max_queue", DBX_CONFIG_U64, F(max_queue), "100000", 1, 10000000, "",
     "How many processes wait in memory; more wait in the database."},
    {"blobs", DBX_CONFIG_STRING, F(blobs), "", 0, 0, "",
     "The blob store, as the gateways have it; it is only read."},
    {"blob_keys_file", DBX_CONFIG_PATH, F(blob_keys_file), "", 0, 0, "",
     "A file with S3's ACCESS_KEY SECRET_KEY; else AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."},
    {"ca_file", DBX_CONFIG_PATH, F(ca_file), "", 0, 0, "",
     "Certificates to trust on the way to the blob store; else the system's."},
    {"blob_grace_ms", DBX_CONFIG_U64, F(blob_grace_ms), "3600000", 1, 2592000000, "ms",
     "How long an object that nobody refers to is kept, twice."},
    {"sweep_ms", DBX_CONFIG_U64, F(sweep_ms), "60000", 10, 3600000, "ms",
     "How often what nobody asks for any more is removed."},
    {"guest_days", DBX_CONFIG_U64, F(guest_days), "30", 0, 36500, "d",
     "Guests who have not been here for so long are removed with all they made; 0: never."},
    {"audit_days", DBX_CONFIG_U64, F(audit_days), "365", 0, 36500, "d",
     "Lines of the audit log that are older are removed; 0: never."},
    {"output_days", DBX_CONFIG_U64, F(output_days), "30", 0, 36500, "d",
     "Archived output that is older is removed; 0: never."},
    {"migrate_wait_ms", DBX_CONFIG_U64, F(migrate_wait_ms), "60000", 0, 3600000, "ms",
     "How long to wait for the database at start."},
    {"log_level", DBX_CONFIG_STRING, F(log_level), "info", 0, 0, "", "err, warn, info or debug."},
    {"log_format", DBX_CONFIG_STRING, F(log_format), "logfmt", 0, 0, "", "logfmt or json."},
};

static void init_metrics(struct sched_metrics *m)
{
    m->leading = dbx_gauge("devbox_scheduler_leading", NULL, "1 while this scheduler leads.");
    m->queue = dbx_gauge("devbox_scheduler_queued", NULL, "Processes that wait for a node.");
    m->open = dbx_gauge("devbox_scheduler_open", NULL, "Processes that have not ended.");
    m->nodes = dbx_gauge("devbox_scheduler_nodes", NULL, "Nodes whose link stands.");
    m->placed = dbx_counter("devbox_scheduler_placed_total", NULL, "Placements committed.");
    m->refused = dbx_counter("devbox_scheduler_refused_total", NULL, "Starts that a node refused.");
    m->lost = dbx_counter("devbox_scheduler_lost_total", NULL,
                          "Processes ended because their node was lost.");
    m->retried =
        dbx_counter("devbox_scheduler_retried_total", NULL, "Processes run again on another node.");
    m->commits = dbx_counter("devbox_scheduler_commits_total", NULL, "Batches committed.");
    m->committed =
        dbx_counter("devbox_scheduler_committed_total", NULL, "Changes in those batches.");
    m->wait = dbx_histogram("devbox_scheduler_wait_seconds", NULL,
                            "From acceptance to the committed placement.");
    for (int v = DBX_V_OK; v <= DBX_V_INTERNAL; v++) {
        char label[64];
        (void)snprintf(label, sizeof(label), "verdict=\"%s\"",
                       dbx_verdict_name((enum dbx_verdict)v));
        m->ended[v] = dbx_counter("devbox_scheduler_ended_total", label, "Processes ended.");
    }
}

static void on_lead(int64_t epoch, void *user)
{
    sched_reign_begin(user, epoch);
}

static void on_lost(const char *why, void *user)
{
    sched_reign_end(user, why);
}

/* The lock goes with the session: the next leader need not wait for anything. */
static void on_terminate(void *user)
{
    struct sched *s = user;

    s->leader = sched_leader_free(s->leader);
    sched_reign_end(s, "asked to terminate");
    dbx_loop_stop(s->loop, 0);
}

static int prepare(struct sched *s, struct dbx_err *err)
{
    const struct sched_config *cfg = s->cfg;
    int level = dbx_log_level_parse(cfg->log_level);

    if (level < 0)
        return dbx_err_field(err, "log_level", "is err, warn, info or debug");
    dbx_log_init("scheduler", cfg->log_format, (enum dbx_log_level)level);
    int r = dbx_keyring_load(cfg->keys, &s->keys, err);
    if (r < 0)
        return r;
    r = dbx_pg_migrate(cfg->database, dbx_schema, dbx_schema_len, (uint32_t)cfg->migrate_wait_ms,
                       err);
    if (r < 0)
        return r;
    init_metrics(&s->metrics);
    dbx_list_init(&s->conns);
    s->conn_by_id = dbx_map_new();
    return 0;
}

static void on_refused_call(const char *name, void *user)
{
    (void)user;
    dbx_log(DBX_LOG_WARN, NULL, "the system call %s is not allowed: refused", name);
}

static int confine(struct dbx_err *err)
{
    static const char *const allow[] = {"unlink", "unlinkat", NULL}; /* listen = unix:PATH */
    const struct dbx_seccomp filter = {.sets = DBX_SYS_BASE | DBX_SYS_NET | DBX_SYS_READ,
                                       .allow = allow,
                                       .otherwise = DBX_SYS_TELL};
    return dbx_confine(&filter, err);
}

static void on_keys(const struct dbx_err *err, void *user)
{
    const struct sched *s = user;
    dbx_log(err ? DBX_LOG_ERR : DBX_LOG_INFO, NULL, "keys %s: %s", s->cfg->keys,
            err ? err->msg : "taken over");
}

static int open_blobs(struct sched *s, struct dbx_err *err)
{
    const struct dbx_blobs_opts opts = {.loop = s->loop,
                                        .url = s->cfg->blobs,
                                        .keys_file = s->cfg->blob_keys_file,
                                        .ca_file = s->cfg->ca_file};
    return *s->cfg->blobs ? dbx_blobs_open(&opts, &s->blobs, err) : 0;
}

static int run(struct sched *s, struct dbx_err *err)
{
    static const struct sched_leader_handlers lead = {.on_lead = on_lead, .on_lost = on_lost};
    struct dbx_pg_opts pg = {.loop = s->loop, .conninfo = s->cfg->database};
    struct dbx_httpd_opts http = {
        .loop = s->loop,
        .listen = s->cfg->listen,
        .ws = {.max_message = DBX_MAX_LINK_MSG, .ping_ms = 10000},
        .handlers = sched_http_handlers(),
        .user = s,
    };

    pg.stmts = sched_sql(&pg.nstmts);
    s->pg = dbx_pg_new(&pg);
    s->news = sched_news_new(s);
    s->leader = sched_leader_new(s->loop, s->cfg->database, &lead, s);
    int r = dbx_seccomp_watch(s->loop, on_refused_call, NULL, err);
    if (r == 0)
        r = open_blobs(s, err);
    if (r == 0)
        r = dbx_httpd_new(&http, &s->httpd, err);
    if (r < 0)
        return r;
    dbx_log(DBX_LOG_INFO, NULL, "listens at %s, port %u", s->cfg->listen, dbx_httpd_port(s->httpd));
    dbx_keyring_watch(s->keys, s->loop, on_keys, s);
    dbx_loop_on_terminate(s->loop, on_terminate, s);
    return dbx_loop_run(s->loop);
}

static void done(struct sched *s)
{
    s->leader = sched_leader_free(s->leader);
    s->news = sched_news_free(s->news);
    if (s->core)
        sched_reign_end(s, "the end");
    s->httpd = s->httpd ? dbx_httpd_free(s->httpd) : NULL;
    s->blobs = dbx_blobs_free(s->blobs);
    s->pg = s->pg ? dbx_pg_free(s->pg) : NULL;
    dbx_map_free(s->conn_by_id);
    dbx_keyring_free(s->keys);
    dbx_seccomp_unwatch();
    dbx_loop_free(s->loop);
}

int main(int argc, char **argv)
{
    struct sched_config cfg = {0};
    struct sched s = {.cfg = &cfg};
    struct dbx_err err = {0};
    bool go_on = false;

    if (dbx_config_load(&cfg, fields, DBX_ARRAY_LEN(fields), "scheduler",
                        "Assigns processes to nodes; one of several leads.", argc, argv, &go_on,
                        &err) < 0) {
        fprintf(stderr, "devbox-scheduler: %s %s\n", err.field, err.msg);
        return 2;
    }
    if (!go_on)
        return 0;
    dbx_sched_short_slices();
    int r = confine(&err);
    if (r == 0)
        r = prepare(&s, &err);
    if (r == 0) {
        s.loop = dbx_loop_new();
        r = run(&s, &err);
        done(&s);
    }
    if (r < 0)
        dbx_log(DBX_LOG_ERR, NULL, "cannot run: %s %s", err.field, err.msg);
    dbx_config_done(&cfg, fields, DBX_ARRAY_LEN(fields));
    return r < 0 ? 1 : r;
}
