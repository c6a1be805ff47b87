/* SPDX-License-Identifier: Apache-2.0 */
/* The pool, the session and the migrations against a real server, which the test makes, kills and
 * starts again. */
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/ext/pg.h"
#include "common/io/loop.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 30000

extern char **environ;

static const char *const schema[] = {
    "create table t (id integer primary key, v text unique, b bytea, n integer check (n > 0))",
    "create table c (t_id integer references t (id)); create index on c (t_id)",
};

static const struct dbx_pg_stmt stmts[] = {
    {"put", "insert into t (id, v, b, n) values ($1::integer, $2, $3::bytea, $4::integer)"},
    {"get", "select id, v, b, n, n > 5 as big from t where id = $1::integer"},
    {"child", "insert into c (t_id) values ($1::integer)"},
    {"echo", "select $1::bigint as x"},
    {"sleep", "select pg_sleep($1::float8)"},
    {"count", "select count(*) as n from t"},
    {"kill", "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and objid "
             "= 42 and granted"},
    {"notify", "select pg_notify('news', $1)"},
    {"sleeping", "select count(*) as x from pg_stat_activity where state = 'active' and query like "
                 "'select pg_sleep%'"},
    {"lock", "select pg_advisory_xact_lock(7), pg_notify('news', 'locked')"},
};
static const char *const reads[] = {"echo", "get", "sleeping", NULL};

static struct {
    char dir[64], conninfo[160], bin[512];
    pid_t server;
    struct dbx_loop *loop;
    struct dbx_timer *guard;
    struct dbx_pg *pg;
    size_t pending;
} t;

/* --- the server --- */

/* Output of a program, its first line. */
static bool first_line(const char *const *argv, char *out, size_t size)
{
    posix_spawn_file_actions_t actions;
    int fds[2], status;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    int r = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    dbx_close(fds[1]);
    ssize_t n = r == 0 ? read(fds[0], out, size - 1) : -1;
    dbx_close(fds[0]);
    if (r != 0 || waitpid(pid, &status, 0) != pid || n <= 0)
        return false;
    out[n] = '\0';
    out[strcspn(out, "\n")] = '\0';
    return true;
}

/* PostgreSQL refuses to be root: it and its folder belong to the user that its package makes. */
static pid_t spawn_postgres(const char *const *args)
{
    static const char *const drop[] = {"setpriv",        "--reuid=postgres", "--regid=postgres",
                                       "--clear-groups", "--pdeathsig",      "QUIT"};
    const char *argv[32];
    posix_spawn_file_actions_t actions;
    size_t n = 0;
    pid_t pid;

    for (size_t i = 0; geteuid() == 0 && i < DBX_ARRAY_LEN(drop); i++)
        argv[n++] = drop[i];
    while (*args && n < DBX_ARRAY_LEN(argv) - 1)
        argv[n++] = *args++;
    argv[n] = NULL;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    posix_spawn_file_actions_addchdir_np(&actions, t.dir);
    int r = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return r == 0 ? pid : -1;
}

static void server_start(void)
{
    char program[600], data[128];
    struct dbx_err err = {0};

    snprintf(program, sizeof(program), "%s/postgres", t.bin);
    snprintf(data, sizeof(data), "%s/data", t.dir);
    t.server = spawn_postgres((const char *const[]){program, "-D", data, "-k", t.dir, "-c",
                                                    "listen_addresses=", "-c", "fsync=off", "-c",
                                                    "max_connections=20", NULL});
    CHECK(t.server > 0);
    CHECK_EQ(dbx_pg_migrate(t.conninfo, NULL, 0, WAIT_MS, &err), 0); /* waits until it serves */
}

static void server_stop(void)
{
    int status;

    kill(t.server, SIGQUIT);
    CHECK_EQ(waitpid(t.server, &status, 0), t.server);
}

static bool server_make(void)
{
    const char *base = getenv("TMPDIR");
    char program[600], data[128];
    int status = -1;

    if (!first_line((const char *const[]){"pg_config", "--bindir", NULL}, t.bin, sizeof(t.bin)))
        return false;
    snprintf(program, sizeof(program), "%s/initdb", t.bin);
    if (access(program, X_OK) < 0)
        return false;
    snprintf(t.dir, sizeof(t.dir), "%s/dbx-pg-XXXXXX", base && strlen(base) < 40 ? base : "/tmp");
    CHECK(mkdtemp(t.dir) != NULL);
    struct passwd *pw = getpwnam("postgres");
    if (geteuid() == 0 && (!pw || chown(t.dir, pw->pw_uid, pw->pw_gid) < 0))
        return false;
    snprintf(data, sizeof(data), "%s/data", t.dir);
    snprintf(t.conninfo, sizeof(t.conninfo), "host=%s user=postgres dbname=postgres", t.dir);
    pid_t pid =
        spawn_postgres((const char *const[]){program, "-D", data, "-N", "-A", "trust", "-U",
                                             "postgres", "-E", "UTF8", "--locale=C.UTF-8", NULL});
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
    return status == 0;
}

/* --- the loop --- */

static void on_guard(void *user)
{
    (void)user;
    CHECK(!"deadline passed");
    dbx_loop_stop(t.loop, -1);
}

static void begin(const char *conninfo, struct dbx_pg_opts opts)
{
    t.loop = opts.loop = dbx_loop_new();
    t.guard = dbx_timer_new(t.loop, on_guard, NULL);
    dbx_timer_start(t.guard, 60000, 0);
    opts.conninfo = conninfo;
    if (!opts.stmts) {
        opts.stmts = stmts;
        opts.nstmts = DBX_ARRAY_LEN(stmts);
    }
    t.pg = dbx_pg_new(&opts);
}

static void end(void)
{
    t.pg = dbx_pg_free(t.pg);
    dbx_timer_free(t.guard);
    dbx_loop_free(t.loop);
}

struct outcome {
    enum dbx_kind kind;
    int calls, code;
    size_t rows;
    uint64_t affected;
    int64_t x;
    char text[32], msg[240];
    uint8_t bytes[8];
    size_t len;
    bool null_v;
};

static void one_done(void)
{
    if (--t.pending == 0)
        dbx_loop_stop(t.loop, 0);
}

static void on_outcome(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct outcome *o = user;

    CHECK((res == NULL) != (err == NULL));
    o->calls++;
    o->kind = err ? err->kind : DBX_OK;
    o->code = err ? err->code : 0;
    snprintf(o->msg, sizeof(o->msg), "%s", err ? err->msg : "");
    o->rows = res ? dbx_pg_rows(res) : 0;
    o->affected = res ? dbx_pg_affected(res) : 0;
    one_done();
}

static void on_number(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    if (res && dbx_pg_rows(res) == 1)
        ((struct outcome *)user)->x = dbx_pg_i64(res, 0, "x", -1);
    on_outcome(res, err, user);
}

static void on_row(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct outcome *o = user;

    if (res && dbx_pg_rows(res) == 1) {
        const char *v = dbx_pg_text(res, 0, "v", NULL);
        o->null_v = v == NULL;
        snprintf(o->text, sizeof(o->text), "%s", v ? v : "");
        uint8_t *b = dbx_pg_bytes(res, 0, "b", &o->len);
        if (b)
            memcpy(o->bytes, b, o->len < sizeof(o->bytes) ? o->len : sizeof(o->bytes));
        free(b);
        CHECK_EQ(dbx_pg_i64(res, 0, "big", -1), 1);
        CHECK_EQ(dbx_pg_i64(res, 0, "n", -1), 7);
    }
    on_outcome(res, err, user);
}

static void ask(struct outcome *o, const char *stmt, dbx_pg_fn *fn, size_t n,
                const struct dbx_pg_param *params)
{
    memset(o, 0, sizeof(*o));
    t.pending++;
    dbx_pg_query(t.pg, stmt, params, n, fn, o);
    CHECK_EQ(o->calls, 0);
}

#define PARAMS(...)                                                                                \
    DBX_ARRAY_LEN(((struct dbx_pg_param[]){__VA_ARGS__})), (struct dbx_pg_param[])                 \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static void ask_put(struct outcome *o, const char *id, const char *v, const char *n)
{
    ask(o, "put", on_outcome,
        PARAMS(DBX_PG_TEXT(id), DBX_PG_TEXT(v), DBX_PG_BYTES("\0\xff", 2), DBX_PG_TEXT(n)));
}

static void run(void)
{
    dbx_loop_run(t.loop);
}

/* --- tests --- */

static void test_migrate(void)
{
    static const char *const broken[] = {
        "", "", "create table u (x integer); select nonsense from nowhere"};
    static const char *const mended[] = {"", "", "create table u (x integer)"};
    struct dbx_err err = {0};

    CHECK_EQ(dbx_pg_migrate(t.conninfo, schema, 2, WAIT_MS, &err), 0);
    CHECK_EQ(dbx_pg_migrate(t.conninfo, schema, 2, WAIT_MS, &err), 0); /* nothing is left to do */
    CHECK(dbx_pg_migrate(t.conninfo, broken, 3, WAIT_MS, &err) < 0);
    CHECK(strstr(err.msg, "migration 3") != NULL);
    CHECK_EQ(dbx_pg_migrate(t.conninfo, mended, 3, WAIT_MS, &err),
             0); /* the broken one left no trace */
    CHECK(dbx_pg_migrate("host=/no/such/folder user=x", schema, 2, 0, &err) < 0);
    CHECK_EQ(err.kind, DBX_UNAVAIL);
}

static void test_values(void)
{
    struct outcome put, nulls, get, got_null, none;

    begin(t.conninfo, (struct dbx_pg_opts){0});
    CHECK(!dbx_pg_ready(t.pg));
    ask_put(&put, "1", "one\xc3\xa4", "7");
    run();
    CHECK(dbx_pg_ready(t.pg));
    CHECK_EQ(put.kind, DBX_OK);
    CHECK_EQ(put.affected, 1);
    ask(&nulls, "put", on_outcome,
        PARAMS(DBX_PG_TEXT("2"), DBX_PG_TEXT(NULL), DBX_PG_BYTES("", 0), DBX_PG_TEXT("7")));
    run();
    ask(&get, "get", on_row, PARAMS(DBX_PG_TEXT("1")));
    ask(&got_null, "get", on_row, PARAMS(DBX_PG_TEXT("2")));
    ask(&none, "get", on_row, PARAMS(DBX_PG_TEXT("3")));
    run();
    CHECK_STR(get.text, "one\xc3\xa4");
    CHECK_EQ(get.len, 2);
    CHECK(get.bytes[0] == 0 && get.bytes[1] == 0xff);
    CHECK(got_null.null_v);
    CHECK_EQ(got_null.len, 0);
    CHECK_EQ(none.rows, 0);
    CHECK_EQ(none.kind, DBX_OK);
    end();
}

static void test_errors(void)
{
    struct outcome dup, orphan, check, text, fine, missing;

    begin(t.conninfo,
          (struct dbx_pg_opts){
              .pool = 1}); /* one connection: errors must not spread along the pipeline */
    ask_put(&dup, "1", "again", "7");
    ask(&orphan, "child", on_outcome, PARAMS(DBX_PG_TEXT("99")));
    ask_put(&check, "10", "ten", "0");
    ask(&text, "echo", on_number, PARAMS(DBX_PG_TEXT("no number")));
    ask(&fine, "echo", on_number, PARAMS(DBX_PG_TEXT("-5")));
    ask(&missing, "no such statement", on_outcome, 0, NULL);
    run();
    CHECK_EQ(dup.kind, DBX_CONFLICT);
    CHECK_EQ(orphan.kind, DBX_NOT_FOUND);
    CHECK_EQ(check.kind, DBX_INVALID);
    CHECK_EQ(text.kind, DBX_INVALID);
    CHECK_EQ(fine.kind, DBX_OK);
    CHECK_EQ(fine.x, -5);
    CHECK_EQ(missing.kind, DBX_INTERNAL);
    CHECK(strstr(dup.msg, "23505") != NULL);
    end();
}

static void test_batch(void)
{
    struct dbx_pg_call calls[3] = {
        {.stmt = "put",
         .params = {DBX_PG_TEXT("20"), DBX_PG_TEXT("b20"), DBX_PG_BYTES("", 0), DBX_PG_TEXT("1")},
         .n = 4},
        {.stmt = "child", .params = {DBX_PG_TEXT("20")}, .n = 1},
        {.stmt = "echo", .params = {DBX_PG_TEXT("77")}, .n = 1},
    };
    struct outcome bad = {0}, good = {0}, gone, there;

    begin(t.conninfo, (struct dbx_pg_opts){.pool = 2});
    calls[1].params[0] = DBX_PG_TEXT("21"); /* refers to nothing: all or nothing */
    t.pending = 1;
    dbx_pg_batch(t.pg, calls, 3, on_number, &bad);
    run();
    CHECK_EQ(bad.kind, DBX_NOT_FOUND);
    ask(&gone, "get", on_outcome, PARAMS(DBX_PG_TEXT("20")));
    run();
    CHECK_EQ(gone.rows, 0);
    calls[1].params[0] = DBX_PG_TEXT("20");
    t.pending = 1;
    dbx_pg_batch(t.pg, calls, 3, on_number, &good);
    run();
    CHECK_EQ(good.kind, DBX_OK);
    CHECK_EQ(good.x, 77); /* the last one's result */
    ask(&there, "get", on_outcome, PARAMS(DBX_PG_TEXT("20")));
    run();
    CHECK_EQ(there.rows, 1);
    end();
}

static void test_pipeline(void)
{
    static struct outcome o[3000];
    char number[24];
    int wrong = 0;

    begin(t.conninfo, (struct dbx_pg_opts){.pool = 3});
    for (size_t i = 0; i < DBX_ARRAY_LEN(o);
         i++) { /* the text is copied: the buffer is used again */
        snprintf(number, sizeof(number), "%zu", i);
        ask(&o[i], "echo", on_number, PARAMS(DBX_PG_TEXT(number)));
    }
    run();
    for (size_t i = 0; i < DBX_ARRAY_LEN(o); i++)
        wrong += o[i].calls != 1 || o[i].x != (int64_t)i;
    CHECK_EQ(wrong, 0);
    end();
}

/* Reads that are together on their way; those behind one that fails are asked again. */
static void test_reads(void)
{
    static struct outcome o[1000];
    char number[24];
    int wrong = 0;

    begin(t.conninfo, (struct dbx_pg_opts){.pool = 2, .reads = reads});
    for (size_t i = 0; i < DBX_ARRAY_LEN(o); i++) {
        snprintf(number, sizeof(number), i % 7 == 3 ? "no number" : "%zu", i);
        ask(&o[i], "echo", on_number, PARAMS(DBX_PG_TEXT(number)));
    }
    run();
    for (size_t i = 0; i < DBX_ARRAY_LEN(o); i++)
        wrong += o[i].calls != 1 || (i % 7 == 3 ? o[i].kind != DBX_INVALID
                                                : o[i].kind != DBX_OK || o[i].x != (int64_t)i);
    CHECK_EQ(wrong, 0);
    end();
}

/* What is slow holds back neither reads nor, where there is another connection, writes. */
static void test_slow(void)
{
    struct outcome both[2], up, slow, read, other, late;

    begin(t.conninfo, (struct dbx_pg_opts){.pool = 3, .reads = reads, .query_timeout_ms = 60000});
    do { /* until both connections for what is slow are up */
        ask(&both[0], "sleep", on_outcome, PARAMS(DBX_PG_TEXT("0.1")));
        ask(&both[1], "sleep", on_outcome, PARAMS(DBX_PG_TEXT("0.1")));
        ask(&up, "sleeping", on_number, 0, NULL);
        run();
    } while (up.kind == DBX_OK && up.x < 2);
    ask(&slow, "sleep", on_outcome, PARAMS(DBX_PG_TEXT("50")));
    t.pending--;
    ask(&read, "echo", on_number, PARAMS(DBX_PG_TEXT("5")));
    run();
    CHECK_EQ(read.x, 5);
    ask(&other, "sleep", on_outcome, PARAMS(DBX_PG_TEXT("0.2"))); /* the slow one is stuck then */
    run();
    for (int i = 0; i < 8; i++) { /* each second one would go behind it */
        ask(&other, "count", on_outcome, 0, NULL);
        ask(&late, "count", on_outcome, 0, NULL);
        run();
        CHECK_EQ(other.kind, DBX_OK);
        CHECK_EQ(late.kind, DBX_OK);
    }
    CHECK_EQ(slow.calls, 0);
    t.pending++;
    end();
}

static void test_limits(void)
{
    static struct outcome o[8];
    struct outcome slow, after;

    begin(t.conninfo, (struct dbx_pg_opts){.pool = 1, .query_timeout_ms = 2000, .max_waiting = 5});
    for (size_t i = 0; i < DBX_ARRAY_LEN(o); i++) /* nothing is connected yet */
        ask(&o[i], "echo", on_number, PARAMS(DBX_PG_TEXT("1")));
    run();
    CHECK_EQ(o[4].kind, DBX_OK);
    CHECK_EQ(o[5].kind, DBX_LIMIT);
    CHECK_EQ(o[7].kind, DBX_LIMIT);
    uint64_t t0 = dbx_now_ms();
    ask(&slow, "sleep", on_outcome, PARAMS(DBX_PG_TEXT("30")));
    run();
    CHECK_EQ(slow.kind, DBX_TIMEOUT);
    CHECK(dbx_now_ms() - t0 < 20000);
    ask(&after, "echo", on_number, PARAMS(DBX_PG_TEXT("3"))); /* on a new connection */
    run();
    CHECK_EQ(after.x, 3);
    end();
}

static void test_no_server(void)
{
    struct outcome lost, cancelled;

    begin("host=/no/such/folder user=postgres", (struct dbx_pg_opts){.query_timeout_ms = 200});
    ask(&lost, "echo", on_number, PARAMS(DBX_PG_TEXT("1")));
    run();
    CHECK_EQ(lost.kind, DBX_UNAVAIL);
    ask(&cancelled, "echo", on_number, PARAMS(DBX_PG_TEXT("1")));
    t.pg = dbx_pg_free(t.pg);
    CHECK_EQ(cancelled.calls, 1);
    CHECK_EQ(cancelled.code, -ECANCELED);
    end();
}

/* A schema that does not fit: the queries are told why. */
static void test_bad_statement(void)
{
    static const struct dbx_pg_stmt bad[] = {{"echo", "select * from no_such_table"}};
    struct outcome o;

    begin(t.conninfo, (struct dbx_pg_opts){.stmts = bad, .nstmts = 1, .query_timeout_ms = 2000});
    ask(&o, "echo", on_outcome, 0, NULL);
    run();
    CHECK_EQ(o.kind, DBX_UNAVAIL);
    CHECK(strstr(o.msg, "no_such_table") != NULL);
    end();
}

static void test_restart(void)
{
    struct outcome flight[6], wait, after;

    begin(t.conninfo, (struct dbx_pg_opts){.pool = 2});
    ask(&after, "echo", on_number, PARAMS(DBX_PG_TEXT("1")));
    run();
    for (size_t i = 0; i < 6; i++)
        ask(&flight[i], "sleep", on_outcome, PARAMS(DBX_PG_TEXT("20")));
    server_stop();
    run();
    for (size_t i = 0; i < 6; i++) {
        CHECK_EQ(flight[i].kind, DBX_UNAVAIL);
        CHECK_EQ(flight[i].calls, 1);
    }
    CHECK(!dbx_pg_ready(t.pg));
    ask(&wait, "echo", on_number, PARAMS(DBX_PG_TEXT("5"))); /* waits for the server to come back */
    server_start();
    run();
    CHECK_EQ(wait.kind, DBX_OK);
    CHECK_EQ(wait.x, 5);
    end();
}

/* --- sessions --- */

struct session {
    struct dbx_pg_session *s;
    int ups, downs, got;
    char news[64];
};

static void on_lock(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct session *s = user;

    CHECK(err == NULL);
    s->got = res ? (int)dbx_pg_i64(res, 0, "got", -1) : -1;
    one_done();
}

static void on_up(struct dbx_pg_session *s, void *user)
{
    ((struct session *)user)->ups++;
    dbx_pg_session_exec(s, "listen news", NULL, NULL);
    dbx_pg_session_exec(s, "select pg_try_advisory_lock(42) as got", on_lock, user);
}

static void on_down(struct dbx_pg_session *s, const struct dbx_err *err, void *user)
{
    (void)s;
    CHECK(err && err->msg[0]);
    ((struct session *)user)->downs++;
}

static void on_notify(struct dbx_pg_session *s, const char *channel, const char *payload,
                      void *user)
{
    (void)s;
    CHECK_STR(channel, "news");
    snprintf(((struct session *)user)->news, sizeof(((struct session *)user)->news), "%s", payload);
    one_done();
}

static const struct dbx_pg_session_handlers session_handlers = {on_up, on_down, on_notify};

static void test_session(void)
{
    struct session a = {0}, b = {0};
    struct outcome o, bad;

    begin(t.conninfo, (struct dbx_pg_opts){.pool = 1});
    t.pending = 1;
    a.s = dbx_pg_session_new(t.loop, t.conninfo, &session_handlers, &a);
    CHECK_EQ(a.ups, 0);
    run();
    CHECK_EQ(a.got, 1);
    t.pending = 1;
    b.s = dbx_pg_session_new(t.loop, t.conninfo, &session_handlers, &b);
    run();
    CHECK_EQ(b.got, 0); /* the other one holds it */
    t.pending = 2;
    ask(&o, "notify", on_outcome, PARAMS(DBX_PG_TEXT("hello")));
    run();
    CHECK_STR(a.news, "hello");
    CHECK_STR(b.news, "hello");
    memset(&bad, 0, sizeof(bad));
    t.pending = 1;
    dbx_pg_session_exec(b.s, "select nonsense", on_outcome, &bad);
    run();
    CHECK_EQ(bad.kind, DBX_INTERNAL);
    t.pending = 1; /* the holder's backend dies: it is told, stands anew, and has the lock again */
    ask(&o, "kill", on_outcome, 0, NULL);
    run();
    CHECK_EQ(a.downs, 1);
    CHECK_EQ(a.ups, 2);
    CHECK_EQ(a.got, 1);
    CHECK_EQ(b.downs, 0);
    a.s = dbx_pg_session_free(a.s);
    CHECK_EQ(a.downs, 1);
    memset(&bad, 0, sizeof(bad));
    t.pending = 2;
    dbx_pg_session_exec(b.s, "select pg_advisory_lock(42)", on_outcome, &bad);
    dbx_pg_session_exec(b.s, "select 1 as got", on_lock, &b);
    run();
    CHECK_EQ(bad.kind, DBX_OK);
    CHECK_EQ(b.got, 1);
    memset(&bad, 0, sizeof(bad));
    t.pending = 1;
    dbx_pg_session_exec(b.s, "select pg_sleep(30)", on_outcome, &bad);
    CHECK_EQ(bad.calls, 0);
    b.s = dbx_pg_session_free(b.s);
    CHECK_EQ(bad.calls, 1);
    CHECK_EQ(bad.code, -ECANCELED);
    end();
}

static void ignore(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    (void)res, (void)err, (void)user;
}

static void on_up_lock(struct dbx_pg_session *s, void *user)
{
    dbx_pg_session_exec(s, "listen news", ignore, NULL);
    dbx_pg_session_exec(s, "select pg_advisory_lock(7)", on_outcome, user);
}

static void on_locked_news(struct dbx_pg_session *s, const char *channel, const char *payload,
                           void *user)
{
    (void)s, (void)channel;
    ((struct outcome *)user)->x += strcmp(payload, "locked") == 0;
}

/* Who waits for a lock is told in time, and what he wanted is not done later. */
static void test_lock(void)
{
    static const struct dbx_pg_session_handlers holder = {on_up_lock, on_down, on_locked_news};
    struct outcome held = {0}, waits, behind, unlocked = {0}, after;

    begin(t.conninfo, (struct dbx_pg_opts){.pool = 1, .query_timeout_ms = 10000});
    t.pending = 1;
    struct dbx_pg_session *s = dbx_pg_session_new(t.loop, t.conninfo, &holder, &held);
    run();
    ask(&waits, "lock", on_outcome, 0, NULL);
    ask(&behind, "echo", on_number, PARAMS(DBX_PG_TEXT("6")));
    run();
    CHECK_EQ(waits.kind, DBX_UNAVAIL);
    CHECK(strstr(waits.msg, "lock timeout") != NULL);
    CHECK_EQ(behind.x, 6); /* on the same connection */
    t.pending = 1;
    dbx_pg_session_exec(s, "select pg_advisory_unlock(7)", on_outcome, &unlocked);
    run();
    CHECK_EQ(held.x, 0);
    ask(&after, "lock", on_outcome, 0, NULL);
    run();
    CHECK_EQ(after.kind, DBX_OK);
    s = dbx_pg_session_free(s);
    end();
}

int main(void)
{
    struct dbx_err err = {0};

    if (!server_make()) {
        fprintf(stderr, "skipped: no PostgreSQL server programs (pg_config --bindir)\n");
        return 77;
    }
    server_start();
    test_migrate();
    test_values();
    test_errors();
    test_batch();
    test_pipeline();
    test_reads();
    test_slow();
    test_limits();
    test_no_server();
    test_bad_statement();
    test_restart();
    test_session();
    test_lock();
    server_stop();
    CHECK_EQ(dbx_fs_remove_tree(t.dir, &err), 0);
    return check_result();
}
