/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/store.h"
#include "gateway/archived.h"
#include "gateway/archiver.h"
#include "gateway/contents.h"
#include "gateway/garbage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "common/ext/crypto.h"
#include "common/ext/pg.h"
#include "gateway/credentials.h"
#include "gateway/offload.h"
#include "gateway/people_int.h"
#include "gateway/socket_int.h"
#include "gateway/workspaces_int.h"

struct gw_store {
    struct dbx_pg *pg;
    struct dbx_pg_stmt *stmts; /* owned */
};

#define BATCH_COLUMNS                                                                              \
    "select b.id, b.status, b.template, b.isolation, b.retry, b.priority, b.max_parallel, "        \
    "b.total, b.done, b.n_completed, b.n_failed, b.n_cancelled, b.cancel_reason, "                 \
    "(extract(epoch from b.deadline_at) * 1000000)::bigint as deadline_us, "                       \
    "(extract(epoch from b.created_at) * 1000000)::bigint as created_us, "                         \
    "(extract(epoch from b.ended_at) * 1000000)::bigint as ended_us, "                             \
    "(select count(*) from processes p where p.batch_id = b.id and p.status = 'running') as "      \
    "running, (select d.status from webhook_deliveries d where d.batch_id = b.id) as hook, "       \
    "b.webhook_url is not null as has_hook from batches b "

#define PROCESS_COLUMNS(role)                                                                      \
    role " as role, p.id, p.sandbox_id, p.execution_id, p.owner, p.status, p.verdict, p.outcome, " \
         "p.log_offset, p.batch_index, p.batch_seq, p.passed, "                                    \
         "(extract(epoch from p.created_at) * 1000000)::bigint as created_us, "                    \
         "(extract(epoch from p.started_at) * 1000000)::bigint as started_us, "                    \
         "(extract(epoch from p.ended_at) * 1000000)::bigint as ended_us, s.template "             \
         "from processes p join sandboxes s on s.id = p.sandbox_id "

/* An owner is known without the function: see ROLE_OF. */
#define SEEN_ROLE                                                                                  \
    "case when s.workspace_id is null and s.owner = $2::uuid then 3 "                              \
    "else sandbox_role(p.sandbox_id, $2::uuid, $3::boolean) end"

/* When a credential was used last is known to the minute, and written behind the answer. */
#define STALE(t) "coalesce(" t ".last_used_at < now() - interval '1 minute', true)"
#define USED(table)                                                                                \
    "update " table " set last_used_at = now() where id = (select id from " table                  \
    " t where id = $1 and " STALE("t") " for update skip locked)"

static const struct dbx_pg_stmt statements[] = {
    {"user_of_key",
     "select u.id, u.role, u.guest, k.id as credential, k.scopes, 'key' as by, " STALE(
         "k") " as stale from api_keys k join users u on u.id = k.user_id where k.hash = $1 and "
              "k.revoked_at is null and (k.expires_at is null or k.expires_at > now()) and "
              "u.disabled_at is null"},
    {"key_used", USED("api_keys")},
    {"user_of_session",
     "select u.id, u.role, u.guest, s.id as credential, 'read write run account admin' as scopes, "
     "'session' as by, " STALE("s") " as stale from sessions s join users u on u.id = s.user_id "
                                    "where s.hash = $1 and s.revoked_at is null and "
                                    "s.expires_at > now() and u.disabled_at is null"},
    {"session_used", USED("sessions")},
    {"put_admin_key",
     "with u as (insert into users (id, email, role) values ($2, 'admin', 'admin') "
     "on conflict (email) do update set role = 'admin' returning id) "
     "insert into api_keys (id, user_id, hash, label) select $3, u.id, $1, 'admin key file' from u "
     "on conflict (hash) do update set revoked_at = null, expires_at = null"},
    {"accept",
     "with q as (select user_full($1::uuid) as over), "
     "i as (insert into idempotency (owner, key, request_hash, response, status) "
     "select $1::uuid, $2::text, $3::bytea, $4::text, 202 from q where not over and $2::text is "
     "not null "
     "on conflict do nothing returning 1), "
     "go as (select 1 from q where not over and ($2::text is null or exists (select 1 from i))), "
     "sb as (insert into sandboxes (id, owner, template, kind) "
     "select $5::uuid, $1::uuid, $6::text, 'run' from go), "
     "ps as (insert into processes (id, sandbox_id, execution_id, owner, retry, log_offset, "
     "request, trace) select $7::uuid, $5::uuid, $8::uuid, $1::uuid, $9::text, $10::bigint, "
     "$11::text, $12::text from go returning 1), "
     "pi as (insert into process_inputs (process_id, files, stdin) "
     "select $7::uuid, $13::bytea, $14::bytea from go) "
     "select count(*) as taken, (select over from q) as over from ps"},
    {"idempotent", "select response, request_hash = $3::bytea as same from idempotency "
                   "where owner = $1 and key = $2"},
    {"key_take", "with i as (insert into idempotency (owner, key, request_hash, response, status) "
                 "values ($1::uuid, $2::text, $3::bytea, '', 204) on conflict do nothing "
                 "returning 1) select count(*) as taken from i"},
    {"key_release", "delete from idempotency where owner = $1 and key = $2 and request_hash = $3"},
    {"execution_seen", "select " PROCESS_COLUMNS(SEEN_ROLE) "where p.execution_id = $1"},
    {"process_seen", "select " PROCESS_COLUMNS(SEEN_ROLE) "where p.id = $1"},
    {"process", "select " PROCESS_COLUMNS("0") "where p.id = $1"},
    {"processes", "select " PROCESS_COLUMNS("0") "where p.id = any ($1::uuid[])"},
    {"processes_of_sandbox",
     "select " PROCESS_COLUMNS("0") "where p.sandbox_id = $1 and (p.ended_at is null or "
                                    "p.ended_at > now() - interval '5 minutes' or p.id = any "
                                    "($2::uuid[])) order by p.created_at, "
                                    "p.id"},
    {"executions",
     "select " PROCESS_COLUMNS(
         "0") "where p.owner = $1 and p.execution_id is not null and ($2::bigint = 0 or "
              "(p.created_at, p.id) < (timestamptz 'epoch' + $2::bigint * interval '1 "
              "microsecond', $3::uuid)) order by p.created_at desc, p.id desc limit $4::int"},
    /* $5: of one sandbox, or null; $6: only those that have not ended */
    {"processes_of_owner",
     "select " PROCESS_COLUMNS(
         "0") "where p.owner = $1 and ($2::bigint = 0 or "
              "(p.created_at, p.id) < (timestamptz 'epoch' + $2::bigint * interval '1 "
              "microsecond', $3::uuid)) and ($5::uuid is null or p.sandbox_id = $5::uuid) and "
              "(not $6::boolean or p.status in ('pending', 'running')) "
              "order by p.created_at desc, p.id desc limit $4::int"},
    {"batch_create",
     "with i as (insert into idempotency (owner, key, request_hash, response, status) "
     "select $1::uuid, $2::text, $3::bytea, $4::text, 202 where $2::text is not null "
     "and not batch_full($1::uuid, $13::int) on conflict do nothing returning 1) "
     "insert into batches (id, owner, template, isolation, retry, priority, max_parallel, "
     "deadline_at, files, total, webhook_url, webhook_secret) "
     "select $5::uuid, $1::uuid, $6::text, $7::text, $8::text, $9::int, $10::int, "
     "now() + $11::bigint * interval '1 millisecond', $12::bytea, $13::int, $14::text, $15::text "
     "where not batch_full($1::uuid, $13::int) and ($2::text is null or exists (select 1 from i))"},
    {"batch_items",
     "with g as materialized (select b.id as batch, b.owner, b.template, b.retry, u.* "
     "from batches b, unnest($2::uuid[], $3::uuid[], $4::uuid[], $6::bigint[], $7::int[], "
     "$8::int[], $9::int[], $10::int[], $12::text[]) with ordinality "
     "as u(process, sandbox, execution, off, at, nreq, nfiles, nstdin, expect, n) "
     "where b.id = $1::uuid), "
     "sb as (insert into sandboxes (id, owner, template, kind) "
     "select sandbox, owner, template, 'run' from g), "
     "ps as (insert into processes (id, sandbox_id, execution_id, owner, retry, log_offset, "
     "request, trace, batch_id, batch_index, expect_sha) "
     "select process, sandbox, execution, owner, retry, off, "
     "convert_from(substring($11::bytea from at + 1 for nreq), 'UTF8'), $13::text, batch, "
     "$5::int + n - 1, decode(expect, 'hex') from g) "
     "insert into process_inputs (process_id, files, stdin) "
     "select process, substring($11::bytea from at + 1 + nreq for nfiles), "
     "substring($11::bytea from at + 1 + nreq + nfiles for nstdin) from g"},
    {"batch_taken", "select 1 from batches where id = $1::uuid"},
    {"batch", BATCH_COLUMNS "where b.id = $1::uuid and (b.owner = $2::uuid or $3::boolean)"},
    {"batches", BATCH_COLUMNS
     "where b.owner = $1::uuid and ($2::bigint = 0 or (b.created_at, b.id) < (timestamptz 'epoch' "
     "+ $2::bigint * interval '1 microsecond', $3::uuid)) "
     "order by b.created_at desc, b.id desc limit $4::int"},
    {"batch_cancel", "update batches set cancelled_at = coalesce(cancelled_at, now()), "
                     "cancel_reason = coalesce(cancel_reason, 'request') where id = $1::uuid "
                     "and (owner = $2::uuid or $3::boolean) and status = 'running' returning id"},
    {"batch_results", "select " PROCESS_COLUMNS("0") "where p.batch_id = $1::uuid and "
                                                     "p.batch_seq > $2::int order by p.batch_seq "
                                                     "limit $3::int"},
    {"batch_failures",
     "select count(*) filter (where verdict in ('CANCELLED', 'NODE_LOST', 'INTERNAL')) as errors, "
     "count(*) filter (where verdict not in ('CANCELLED', 'NODE_LOST', 'INTERNAL') and "
     "not coalesce(passed, verdict = 'OK')) as failures, count(*) as tests, "
     "coalesce(max(batch_seq), 0) as last from processes where batch_id = $1::uuid "
     "and batch_seq is not null"},
    {"hook_seen",
     "select d.status, d.attempts, d.answer, d.error, b.webhook_url as url, "
     "(extract(epoch from d.created_at) * 1000000)::bigint as created_us, "
     "(extract(epoch from d.next_at) * 1000000)::bigint as next_us, "
     "(extract(epoch from d.ended_at) * 1000000)::bigint as ended_us from batches b "
     "left join webhook_deliveries d on d.batch_id = b.id "
     "where b.id = $1::uuid and (b.owner = $2::uuid or $3::boolean) and b.webhook_url is not null"},
    {"hook_again",
     "update webhook_deliveries d set status = 'waiting', attempts = 0, next_at = now(), "
     "ended_at = null from batches b where b.id = d.batch_id and d.batch_id = $1::uuid "
     "and (b.owner = $2::uuid or $3::boolean) and d.status <> 'waiting' returning 1"},
    /* Whoever takes one has $2 ms to say how it went; then another may try. */
    {"hook_take",
     "with due as (select batch_id from webhook_deliveries where status = 'waiting' "
     "and next_at <= now() order by next_at limit $1::int for update skip locked), "
     "taken as (update webhook_deliveries d set attempts = d.attempts + 1, "
     "next_at = now() + $2::bigint * interval '1 millisecond' from due "
     "where d.batch_id = due.batch_id returning d.batch_id, d.attempts) "
     "select t.batch_id, t.attempts, b.webhook_url, b.webhook_secret, b.status, b.total, "
     "b.n_completed, b.n_failed, b.n_cancelled, "
     "(extract(epoch from b.created_at) * 1000000)::bigint as created_us, "
     "(extract(epoch from b.ended_at) * 1000000)::bigint as ended_us "
     "from taken t join batches b on b.id = t.batch_id"},
    {"hook_done",
     "update webhook_deliveries set status = $3::text, answer = $4::int, error = $5::text, "
     "next_at = now() + $6::bigint * interval '1 millisecond', "
     "ended_at = case when $3::text = 'waiting' then null else now() end "
     "where batch_id = $1::uuid and attempts = $2::int and status = 'waiting'"},
};

/* See struct dbx_pg_opts. */
static const char *const reads[] = {
    "user_of_key", "user_of_session", "execution_seen", "process_seen",       "process",
    "processes",   "executions",      "access_epoch",   "processes_of_owner", "ws_get",
    "ws_whole",    "ws_tree",         "ws_list",        "file_get",           NULL};

struct gw_store *gw_store_new(struct dbx_loop *loop, const char *conninfo, uint32_t pool)
{
    struct gw_store *st = DBX_NEW(struct gw_store);
    const struct {
        const struct dbx_pg_stmt *stmts;
        size_t n;
    } parts[] = {{statements, DBX_ARRAY_LEN(statements)}, {gw_workspace_sql, gw_workspace_sql_len},
                 {gw_bulk_sql, gw_bulk_sql_len},          {gw_sandbox_sql, gw_sandbox_sql_len},
                 {gw_people_sql, gw_people_sql_len},      {gw_socket_sql, gw_socket_sql_len},
                 {gw_contents_sql, gw_contents_sql_len},  {gw_garbage_sql, gw_garbage_sql_len},
                 {gw_archived_sql, gw_archived_sql_len},  {gw_archiver_sql, gw_archiver_sql_len},
                 {gw_offload_sql, gw_offload_sql_len}};
    size_t n = 0;
    for (size_t i = 0; i < DBX_ARRAY_LEN(parts); i++) {
        st->stmts = dbx_realloc(st->stmts, (n + parts[i].n) * sizeof(*st->stmts));
        memcpy(st->stmts + n, parts[i].stmts, parts[i].n * sizeof(*st->stmts));
        n += parts[i].n;
    }
    const struct dbx_pg_opts opts = {.loop = loop,
                                     .conninfo = conninfo,
                                     .pool = pool,
                                     .query_timeout_ms = 5000,
                                     .stmts = st->stmts,
                                     .nstmts = n,
                                     .reads = reads};
    st->pg = dbx_pg_new(&opts);
    return st;
}

struct gw_store *gw_store_free(struct gw_store *st)
{
    if (!st)
        return NULL;
    st->pg = dbx_pg_free(st->pg);
    free(st->stmts);
    free(st);
    return NULL;
}

struct dbx_pg *gw_store_pg(struct gw_store *st)
{
    return st->pg;
}

bool gw_store_ready(const struct gw_store *st)
{
    return dbx_pg_ready(st->pg);
}

/* One call on its way: the typed callback behind dbx_pg's. */
struct call {
    struct gw_store *store; /* of a credential */
    union {
        gw_user_fn *user;
        gw_done_fn *done;
        gw_accept_fn *accept;
        gw_idempotent_fn *idempotent;
        gw_processes_fn *processes;
    } fn;
    void *arg;
};

static struct call *new_call(void *arg)
{
    struct call *c = DBX_NEW(struct call);
    c->arg = arg;
    return c;
}

static struct call take_call(void *user)
{
    struct call c = *(struct call *)user;
    free(user);
    return c;
}

static bool id_of(const struct dbx_pg_result *res, size_t row, const char *column,
                  struct dbx_id *ret)
{
    const char *text = dbx_pg_text(res, row, column, NULL);
    *ret = (struct dbx_id){0};
    return text && dbx_id_parse(text, ret) == 0;
}

/* --- people --- */

static void note_used(struct gw_store *st, const struct dbx_pg_result *res,
                      enum gw_credential credential)
{
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(dbx_pg_text(res, 0, "credential", NULL))};
    if (dbx_streq(dbx_pg_text(res, 0, "stale", NULL), "t"))
        dbx_pg_query(st->pg, credential == GW_CRED_KEY ? "key_used" : "session_used", params,
                     DBX_ARRAY_LEN(params), NULL, NULL);
}

static void on_user(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct call c = take_call(arg);
    struct gw_user user = {0};
    if (err || dbx_pg_rows(res) == 0 || !id_of(res, 0, "id", &user.id) ||
        !id_of(res, 0, "credential", &user.credential) ||
        gw_scopes_parse(dbx_pg_text(res, 0, "scopes", NULL), &user.scopes) < 0) {
        c.fn.user(NULL, err, c.arg);
        return;
    }
    user.admin = dbx_streq(dbx_pg_text(res, 0, "role", NULL), "admin") &&
                 (user.scopes & GW_SCOPE_ADMIN) != 0;
    user.guest = dbx_streq(dbx_pg_text(res, 0, "guest", NULL), "t");
    user.by = dbx_streq(dbx_pg_text(res, 0, "by", NULL), "key") ? GW_CRED_KEY : GW_CRED_SESSION;
    note_used(c.store, res, user.by);
    c.fn.user(&user, NULL, c.arg);
}

static void ask_user(struct gw_store *st, const char *stmt, const uint8_t hash[static 32],
                     gw_user_fn *fn, void *arg)
{
    struct call *c = new_call(arg);
    c->store = st;
    c->fn.user = fn;
    const struct dbx_pg_param params[] = {DBX_PG_BYTES(hash, DBX_SHA256_LEN)};
    dbx_pg_query(st->pg, stmt, params, DBX_ARRAY_LEN(params), on_user, c);
}

void gw_store_user_of_key(struct gw_store *st, const uint8_t hash[static 32], gw_user_fn *fn,
                          void *arg)
{
    ask_user(st, "user_of_key", hash, fn, arg);
}

void gw_store_user_of_session(struct gw_store *st, const uint8_t hash[static 32], gw_user_fn *fn,
                              void *arg)
{
    ask_user(st, "user_of_session", hash, fn, arg);
}

static void on_done(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct call c = take_call(arg);
    (void)res;
    c.fn.done(err, c.arg);
}

void gw_store_put_admin_key(struct gw_store *st, const uint8_t hash[static 32], gw_done_fn *fn,
                            void *arg)
{
    struct dbx_id user = dbx_id_new(), key = dbx_id_new();
    char user_text[DBX_ID_TEXT], key_text[DBX_ID_TEXT];
    struct call *c = new_call(arg);
    c->fn.done = fn;
    dbx_id_format(&user, user_text);
    dbx_id_format(&key, key_text);
    const struct dbx_pg_param params[] = {DBX_PG_BYTES(hash, DBX_SHA256_LEN),
                                          DBX_PG_TEXT(user_text), DBX_PG_TEXT(key_text)};
    dbx_pg_query(st->pg, "put_admin_key", params, DBX_ARRAY_LEN(params), on_done, c);
}

/* --- acceptance --- */

static void on_accepted(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct call c = take_call(arg);
    struct dbx_err over = {0};
    if (!err && dbx_streq(dbx_pg_text(res, 0, "over", NULL), "t")) {
        (void)dbx_err_set(&over, -EDQUOT, DBX_LIMIT, "too many of your processes run or wait");
        err = &over;
    }
    c.fn.accept(!err && dbx_pg_i64(res, 0, "taken", 0) == 1, err, c.arg);
}

void gw_store_accept(struct gw_store *st, const struct gw_accept *a, gw_accept_fn *fn, void *arg)
{
    char owner[DBX_ID_TEXT], sandbox[DBX_ID_TEXT], process[DBX_ID_TEXT], execution[DBX_ID_TEXT];
    char offset[24];
    struct call *c = new_call(arg);
    c->fn.accept = fn;
    dbx_id_format(&a->owner, owner);
    dbx_id_format(&a->sandbox, sandbox);
    dbx_id_format(&a->process, process);
    dbx_id_format(&a->execution, execution);
    snprintf(offset, sizeof(offset), "%" PRId64, a->log_offset);
    const struct dbx_pg_param params[] = {
        DBX_PG_TEXT(owner),
        DBX_PG_TEXT(a->key),
        a->key ? DBX_PG_BYTES(a->hash, DBX_SHA256_LEN) : DBX_PG_TEXT(NULL),
        DBX_PG_TEXT(a->key ? a->response : NULL),
        DBX_PG_TEXT(sandbox),
        DBX_PG_TEXT(a->template),
        DBX_PG_TEXT(process),
        DBX_PG_TEXT(execution),
        DBX_PG_TEXT(a->retry_safe ? "safe" : "never"),
        DBX_PG_TEXT(offset),
        DBX_PG_TEXT(a->request),
        DBX_PG_TEXT(a->trace),
        DBX_PG_BYTES(a->files->data, a->files->len),
        DBX_PG_BYTES(a->stdin_data, a->stdin_len),
    };
    dbx_pg_query(st->pg, "accept", params, DBX_ARRAY_LEN(params), on_accepted, c);
}

static void on_idempotent(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct call c = take_call(arg);
    if (err || dbx_pg_rows(res) == 0) {
        c.fn.idempotent(NULL, false, err, c.arg);
        return;
    }
    c.fn.idempotent(dbx_pg_text(res, 0, "response", NULL),
                    dbx_streq(dbx_pg_text(res, 0, "same", NULL), "t"), NULL, c.arg);
}

static void ask_key(struct gw_store *st, const char *stmt, const struct dbx_id *owner,
                    const char *key, const uint8_t hash[static 32], dbx_pg_fn *fn, struct call *c)
{
    char owner_text[DBX_ID_TEXT];
    dbx_id_format(owner, owner_text);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(owner_text), DBX_PG_TEXT(key),
                                          DBX_PG_BYTES(hash, DBX_SHA256_LEN)};
    dbx_pg_query(st->pg, stmt, params, DBX_ARRAY_LEN(params), fn, c);
}

void gw_store_idempotent(struct gw_store *st, const struct dbx_id *owner, const char *key,
                         const uint8_t hash[static 32], gw_idempotent_fn *fn, void *arg)
{
    struct call *c = new_call(arg);
    c->fn.idempotent = fn;
    ask_key(st, "idempotent", owner, key, hash, on_idempotent, c);
}

static void on_key(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct call c = take_call(arg);
    bool rows = !err && dbx_pg_rows(res) > 0; /* a removal has none */
    c.fn.accept(rows && dbx_pg_i64(res, 0, "taken", 0) == 1, err, c.arg);
}

void gw_store_key_take(struct gw_store *st, const struct dbx_id *owner, const char *key,
                       const uint8_t hash[static 32], gw_accept_fn *fn, void *arg)
{
    struct call *c = new_call(arg);
    c->fn.accept = fn;
    ask_key(st, "key_take", owner, key, hash, on_key, c);
}

void gw_store_key_release(struct gw_store *st, const struct dbx_id *owner, const char *key,
                          const uint8_t hash[static 32], gw_accept_fn *fn, void *arg)
{
    struct call *c = new_call(arg);
    c->fn.accept = fn;
    ask_key(st, "key_release", owner, key, hash, on_key, c);
}

/* --- processes --- */

static bool read_row(const struct dbx_pg_result *res, size_t row, struct gw_process *ret)
{
    size_t len = 0;
    const char *outcome = dbx_pg_text(res, row, "outcome", &len);
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct gw_process p = {0};
    if (!id_of(res, row, "id", &p.id) || !id_of(res, row, "sandbox_id", &p.sandbox) ||
        !id_of(res, row, "owner", &p.owner))
        return false;
    (void)id_of(res, row, "execution_id", &p.execution);
    if (outcome && dbx_json_parse(outcome, len, NULL, &doc, NULL) < 0)
        doc = NULL;
    if (gw_end_read(dbx_pg_text(res, row, "status", NULL), dbx_pg_text(res, row, "verdict", NULL),
                    doc ? dbx_json_root(doc) : NULL, &p.end) < 0)
        return false;
    p.role = (enum dbx_role)dbx_pg_i64(res, row, "role", DBX_ROLE_NONE);
    p.log_offset = dbx_pg_i64(res, row, "log_offset", 0);
    p.created_us = dbx_pg_i64(res, row, "created_us", 0);
    p.started_us = dbx_pg_i64(res, row, "started_us", 0);
    p.ended_us = dbx_pg_i64(res, row, "ended_us", 0);
    (void)dbx_strcpy(p.template, sizeof(p.template), dbx_pg_text(res, row, "template", NULL));
    p.batch_index = dbx_pg_i64(res, row, "batch_index", -1);
    p.in_batch = p.batch_index >= 0;
    p.batch_seq = dbx_pg_i64(res, row, "batch_seq", 0);
    p.has_passed = dbx_pg_text(res, row, "passed", NULL) != NULL;
    p.passed = dbx_streq(dbx_pg_text(res, row, "passed", NULL), "t");
    *ret = p;
    return true;
}

static void on_processes(const struct dbx_pg_result *res, const struct dbx_err *err, void *arg)
{
    struct call c = take_call(arg);
    if (err) {
        c.fn.processes(NULL, 0, err, c.arg);
        return;
    }
    size_t n = dbx_pg_rows(res), used = 0;
    struct gw_process *rows = dbx_calloc(n + 1, sizeof(*rows));
    for (size_t i = 0; i < n; i++)
        used += read_row(res, i, &rows[used]);
    c.fn.processes(rows, used, NULL, c.arg);
    free(rows);
}

static void ask(struct gw_store *st, const char *stmt, const struct dbx_pg_param *params, size_t n,
                gw_processes_fn *fn, void *arg)
{
    struct call *c = new_call(arg);
    c->fn.processes = fn;
    dbx_pg_query(st->pg, stmt, params, n, on_processes, c);
}

static void ask_by_id(struct gw_store *st, const char *stmt, const struct dbx_id *id,
                      gw_processes_fn *fn, void *arg)
{
    char text[DBX_ID_TEXT];
    dbx_id_format(id, text);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(text)};
    ask(st, stmt, params, DBX_ARRAY_LEN(params), fn, arg);
}

void gw_store_seen(struct gw_store *st, bool execution, const struct dbx_id *id,
                   const struct gw_user *user, gw_processes_fn *fn, void *arg)
{
    char text[DBX_ID_TEXT], user_text[DBX_ID_TEXT];
    dbx_id_format(id, text);
    dbx_id_format(&user->id, user_text);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(text), DBX_PG_TEXT(user_text),
                                          DBX_PG_TEXT(user->admin ? "t" : "f")};
    ask(st, execution ? "execution_seen" : "process_seen", params, DBX_ARRAY_LEN(params), fn, arg);
}

void gw_store_process(struct gw_store *st, const struct dbx_id *process, gw_processes_fn *fn,
                      void *arg)
{
    ask_by_id(st, "process", process, fn, arg);
}

/* "{id,id}": PostgreSQL's text of an array. Caller frees. */
static char *id_array(const struct dbx_id *ids, size_t n)
{
    char *text = dbx_malloc(n * DBX_ID_TEXT + 3), *p = text;
    *p++ = '{';
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            *p++ = ',';
        dbx_id_format(&ids[i], p);
        p += DBX_ID_TEXT - 1;
    }
    *p++ = '}';
    *p = '\0';
    return text;
}

void gw_store_processes(struct gw_store *st, const struct dbx_id *ids, size_t n,
                        gw_processes_fn *fn, void *arg)
{
    DBX_CLEANUP(dbx_freep) char *array = id_array(ids, n);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(array)};
    ask(st, "processes", params, DBX_ARRAY_LEN(params), fn, arg);
}

void gw_store_processes_of_sandbox(struct gw_store *st, const struct dbx_id *sandbox,
                                   const struct dbx_id *ids, size_t n, gw_processes_fn *fn,
                                   void *arg)
{
    char text[DBX_ID_TEXT];
    DBX_CLEANUP(dbx_freep) char *array = id_array(ids, n);
    dbx_id_format(sandbox, text);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(text), DBX_PG_TEXT(array)};
    ask(st, "processes_of_sandbox", params, DBX_ARRAY_LEN(params), fn, arg);
}

void gw_store_list(struct gw_store *st, const struct gw_store_range *range, gw_processes_fn *fn,
                   void *arg)
{
    char owner_text[DBX_ID_TEXT], before_text[DBX_ID_TEXT], us[24], limit_text[12];
    char sandbox[DBX_ID_TEXT];
    dbx_id_format(range->owner, owner_text);
    dbx_id_format(&range->before, before_text);
    snprintf(us, sizeof(us), "%" PRId64, range->before_us);
    snprintf(limit_text, sizeof(limit_text), "%u", range->limit);
    if (range->sandbox)
        dbx_id_format(range->sandbox, sandbox);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(owner_text),
                                          DBX_PG_TEXT(us),
                                          DBX_PG_TEXT(before_text),
                                          DBX_PG_TEXT(limit_text),
                                          DBX_PG_TEXT(range->sandbox ? sandbox : NULL),
                                          DBX_PG_TEXT(range->open ? "t" : "f")};
    if (range->executions)
        ask(st, "executions", params, 4, fn, arg);
    else
        ask(st, "processes_of_owner", params, DBX_ARRAY_LEN(params), fn, arg);
}

void gw_store_batch_results(struct gw_store *st, const struct dbx_id *batch, int64_t after,
                            uint32_t limit, gw_processes_fn *fn, void *arg)
{
    char id[DBX_ID_TEXT], after_text[24], limit_text[12];
    dbx_id_format(batch, id);
    snprintf(after_text, sizeof(after_text), "%" PRId64, after);
    snprintf(limit_text, sizeof(limit_text), "%u", limit);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(id), DBX_PG_TEXT(after_text),
                                          DBX_PG_TEXT(limit_text)};
    ask(st, "batch_results", params, DBX_ARRAY_LEN(params), fn, arg);
}
