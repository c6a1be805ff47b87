/* SPDX-License-Identifier: Apache-2.0 */
/* All of the scheduler's SQL. `lead` locks the epoch's row against a new leader until the commit:
 * whoever takes the lead waits for what is in flight, and then reads all of it; whoever lost it
 * gets lead = 0 and has changed nothing. */
#include "common/ext/pg.h"
#include "common/proto/contents.h"
#include "scheduler/store.h"

#define LEAD                                                                                       \
    "with lead as materialized (select 1 from scheduler_epoch where epoch = $1::bigint for share)"
#define IF_LEAD " exists (select 1 from lead) "
#define RESULT                                                                                     \
    " select (select count(*) from lead) as lead, d.id from (select 1) one left join done d on "   \
    "true"

#define PROCESS_COLUMNS_OF(more)                                                                   \
    "select " more "p.id, p.sandbox_id, p.owner, p.attempt, p.node_id, p.batch_id,"                \
    " p.started_at is not null as started,"                                                        \
    " (extract(epoch from p.created_at) * 1000000)::bigint as accepted_us, p.trace, p.request,"    \
    " p.created_at::text as cursor from "
#define PROCESS_COLUMNS PROCESS_COLUMNS_OF("") "processes p "

/* A process that has not ended, found by its id. Not in the words of the index of all that are
 * open: while a batch waits that has its 10,000, and the planner, who remembers when it had ten,
 * would read them all for each statement. */
#define STILL_OPEN                                                                                 \
    " p.id = any($2::uuid[]) and p.status not in ('completed', 'failed', 'cancelled') "

/* What ends (`fin`: id, batch_id, status) is counted in its batch and numbered there, in the same
 * transaction: the last one ends the batch, and its webhook is due. */
#define COUNT_BATCHES                                                                              \
    " sums as (select batch_id, count(*) as n, count(*) filter (where status = 'completed') as "   \
    "nc,"                                                                                          \
    "   count(*) filter (where status = 'failed') as nf,"                                          \
    "   count(*) filter (where status = 'cancelled') as nx"                                        \
    "   from fin where batch_id is not null group by batch_id),"                                   \
    " bs as (update batches b set done = b.done + s.n, n_completed = b.n_completed + s.nc,"        \
    "   n_failed = b.n_failed + s.nf, n_cancelled = b.n_cancelled + s.nx,"                         \
    "   ended_at = case when b.done + s.n >= b.total then now() end,"                              \
    "   status = case when b.done + s.n < b.total then b.status"                                   \
    "     when b.cancelled_at is null then 'completed' else 'cancelled' end"                       \
    "   from sums s where b.id = s.batch_id"                                                       \
    "   returning b.id, b.done - s.n as before, b.status, b.webhook_url),"                         \
    " hooks as (insert into webhook_deliveries (batch_id) select id from bs"                       \
    "   where status <> 'running' and webhook_url is not null on conflict do nothing),"            \
    " seqs as (select o.id, bs.before + row_number() over (partition by o.batch_id order by o.id)" \
    "   as seq from fin o join bs on bs.id = o.batch_id),"

/* Old rows; whoever leads may do it twice. */
#define SWEEP(table, condition)                                                                    \
    "delete from " table " where ctid = any (array(select ctid from " table " where " condition    \
    " limit 5000))"

/* Of a sandbox that is gone from its node: one that was ordered before any process, and that nobody
 * has had yet, is only to be made elsewhere. */
#define STILL_WANTED                                                                               \
    "s.standby_at is not null and s.ready_at is null and s.end_wanted_at is null"                  \
    " and not exists (select 1 from processes p where p.sandbox_id = s.id)"
#define GONE(reason)                                                                               \
    "(node_id, ended_at, end_reason) = (select case when not x.still then s.node_id end,"          \
    " case when not x.still then now() end, case when not x.still then " reason " end"             \
    " from (select " STILL_WANTED " as still) x)"

static const struct dbx_pg_stmt stmts[] = {
    {"place", LEAD
     ", given as (select * from unnest($2::uuid[], $3::text[], $4::int[]) as g(id, node, attempt)),"
     " done as (update processes p set node_id = g.node, attempt = g.attempt, epoch = $1::bigint,"
     "   placed_at = now(), started_at = null from given g"
     "   where p.id = g.id and" STILL_OPEN "and" IF_LEAD
     "   returning p.id, p.sandbox_id, p.node_id),"
     " boxes as (update sandboxes s set node_id = d.node_id from done d where s.id = "
     "d.sandbox_id)" RESULT},
    {"started", LEAD
     ", given as (select * from unnest($2::uuid[], $3::int[], $4::bigint[]) as g(id, attempt, "
     "at_us)),"
     " done as (update processes p set status = 'running', started_at ="
     "   case when g.at_us > 0 then to_timestamp(g.at_us / 1000000.0) else now() end from given g"
     "   where p.id = g.id and p.attempt = g.attempt and" STILL_OPEN
     "   and p.started_at is null and" IF_LEAD " returning p.id)" RESULT},
    {"ended", LEAD
     ", given as (select * from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::bool[],"
     "   $7::bigint[]) as g(id, status, verdict, outcome, ran, at_us)),"
     " fin as materialized (select p.id, p.batch_id, g.status, g.verdict, g.outcome, g.ran, g.at_us"
     "   from processes p join given g on g.id = p.id"
     "   where" STILL_OPEN "and" IF_LEAD " order by p.id for update of p)," COUNT_BATCHES
     " done as (update processes p set status = o.status, verdict = o.verdict, outcome = o.outcome,"
     "   ended_at = now(), batch_seq = q.seq, passed = case when p.expect_sha is not null then"
     "     o.verdict = 'OK' and coalesce(o.outcome::json #>> '{sha256,stdout}' ="
     "       encode(p.expect_sha, 'hex'), false) end,"
     "   started_at = case when o.ran then coalesce(p.started_at, case when o.at_us > 0 then"
     "     to_timestamp(o.at_us / 1000000.0) end, now()) else p.started_at end"
     "   from fin o left join seqs q on q.id = o.id where p.id = o.id"
     "   returning p.id, p.sandbox_id, p.verdict),"
     " boxes as (update sandboxes s set ended_at = now() from done d"
     "   where s.id = d.sandbox_id and (s.kind = 'run' or d.verdict = 'NODE_LOST')"
     "   and s.ended_at is null),"
     " inputs as (delete from process_inputs i where i.process_id = any($2::uuid[]) and" IF_LEAD
     ")" RESULT},
    {"batches", LEAD
     ", due as (update batches set cancelled_at = now(), cancel_reason = 'deadline'"
     "   where status = 'running' and cancelled_at is null and deadline_at <= now() and" IF_LEAD
     "   returning id)"
     " select id, priority, max_parallel, isolation, cancelled_at is not null or id in (select id "
     "from due)"
     " as stop from batches where status = 'running' order by created_at limit 4096"},
    /* What is left of a batch and was never placed. Rows that an `ended` has in hand are its. */
    {"batch_stop", LEAD
     ", fin as materialized (select p.id, p.batch_id, 'cancelled' as status from processes p"
     "   where p.batch_id = $2::uuid and p.status = 'pending' and p.placed_at is null and" IF_LEAD
     "   order by p.batch_index limit 1000 for update of p skip locked)," COUNT_BATCHES
     " done as (update processes p set status = 'cancelled', verdict = 'CANCELLED',"
     "   ended_at = now(), batch_seq = q.seq,"
     "   passed = case when p.expect_sha is not null then false end from seqs q where p.id = q.id"
     "   returning p.id, p.sandbox_id),"
     " boxes as (update sandboxes s set ended_at = now() from done d where s.id = d.sandbox_id),"
     " inputs as (delete from process_inputs i using done d where i.process_id = d.id)"
     " select (select count(*) from lead) as lead, (select count(*) from done) as n"},
    /* The next of several batches: $3 the last index that was read, $4 how many are wanted. */
    {"feed",
     PROCESS_COLUMNS_OF(
         "p.batch_index, ") "unnest($1::uuid[], $2::int[], $3::int[]) as w(batch, after, n) cross "
                            "join lateral"
                            " (select * from processes where batch_id = w.batch and status = "
                            "'pending' and placed_at is null"
                            "   and batch_index > w.after order by batch_index limit w.n) p"},
    {"nodes_up", LEAD
     " insert into nodes (id, url, version, state, sizes)"
     " select g.id, g.url, g.version, 'ready', $5::text[]"
     "   from unnest($2::text[], $3::text[], $4::text[])"
     "   as g(id, url, version) where" IF_LEAD
     " on conflict (id) do update set url = excluded.url, state = 'ready', last_seen = now(),"
     "   sizes = excluded.sizes,"
     "   version = case when excluded.version = '' then nodes.version else excluded.version end"},
    {"node_lost", LEAD ", boxes as (update sandboxes s set " GONE(
                      "'node_lost'") " where node_id = $2"
                                     "   and kind = 'workspace' and ended_at is null and" IF_LEAD
                                     ") update nodes set state = 'lost' where id = $2 and" IF_LEAD},
    /* $3: those that live at node $2. What a process is on its way to is not over. Gives those that
     * live there and are not wanted. */
    {"boxes_live",
     LEAD ", x as (update sandboxes s set " GONE(
         "coalesce(end_reason, 'lost')") " where node_id = $2 and kind = 'workspace'"
                                         " and ended_at is null and not s.id = any ($3::uuid[]) "
                                         "and not exists (select 1 from processes"
                                         " p where p.sandbox_id = s.id and p.status in ('pending', "
                                         "'running')) and" IF_LEAD ")"
                                         " select id from sandboxes where id = any ($3::uuid[])"
                                         " and (ended_at is not null or end_wanted_at is not "
                                         "null)"},
    /* Gives it when nobody wants it any more. */
    {"box_ready",
     LEAD ", x as (update sandboxes set ready_at = coalesce(ready_at, now()) where id = $2::uuid"
          " and node_id = $3 and ended_at is null and" IF_LEAD ")"
          " select id from sandboxes where id = $2::uuid"
          " and (ended_at is not null or end_wanted_at is not null)"},
    /* Those that stand nowhere, until they would have been idle for too long. */
    {"standby", "select id, template, size, idle_ms, max_ms from sandboxes s"
                " where standby_at is not null and ended_at is null and end_wanted_at is null"
                " and node_id is null and standby_at > now() - idle_ms * interval '1 millisecond'"
                " order by standby_at limit 256"},
    {"standby_place", LEAD
     " update sandboxes set node_id = $3 where id = $2::uuid and (node_id is null or node_id = $3)"
     " and ended_at is null and end_wanted_at is null and size = $4 and" IF_LEAD " returning id"},
    {"standby_unplace",
     LEAD " update sandboxes s set node_id = null where id = $2::uuid and node_id = $3 and" IF_LEAD
          " and " STILL_WANTED},
    /* What is on its way to it has it made again, unless it is wanted to end: then that is
     * cancelled, and its row may say so later. */
    {"box_ended",
     LEAD " update sandboxes s set ended_at = now(), end_reason = $3 where id = $2::uuid"
          " and ended_at is null and (end_wanted_at is not null"
          " or not exists (select 1 from processes p where p.sandbox_id = s.id"
          " and p.status = 'pending')) and" IF_LEAD},
    /* What waits for a sandbox that is to end, and that nobody announced. */
    {"box_waiting", "select id from processes where sandbox_id = $1::uuid and status = 'pending'"
                    " and placed_at is null limit 10000"},
    {"files", "select * from devbox_files_of_sandbox($1::uuid, $2, $3::text[], $4::text[],"
              " $5::bytea[], $6::text[], $7::bigint[])"},
    /* $1 workspaces whose files have changed: where their sandboxes stand. */
    {"boxes_of", "select s.id, s.node_id, w.revision from workspaces w join sandboxes s on s.id ="
                 " w.sandbox_id where w.id = any ($1::uuid[]) and s.node_id is not null"
                 " and s.ended_at is null"},
    /* What differs of the record since revision $3, -1: all of it. No type: it is gone. */
    {"files_since",
     "with w as (select w.id, w.revision from workspaces w join sandboxes s on s.id = w.sandbox_id"
     " where s.id = $1::uuid and s.node_id = $2 and s.ended_at is null),"
     " e as (select e.path, e.from_path from file_events e join w on e.workspace_id = w.id"
     "   where e.revision > $3::bigint and e.op <> 'skipped' and $3::bigint >= 0),"
     " p as (select path from e union select from_path from e where from_path is not null"
     "   union select f.path from files f join w on f.workspace_id = w.id where $3::bigint < 0)"
     " select w.revision, p.path, f.type, " DBX_CONTENT(
         "f") " from w left join p on true"
              " left join files f on f.workspace_id = w.id and f.path = p.path order by p.path"},
    {"load_boxes", "select id, node_id from sandboxes where kind = 'workspace'"
                   " and ended_at is null and node_id is not null"},
    {"load_nodes", "select id, url from nodes where state <> 'lost'"},
    {"load_placed", PROCESS_COLUMNS
     "where status in ('pending', 'running') and placed_at is not null"
     " and (created_at, id) > ($1::timestamptz, $2::uuid) order by created_at, id limit 1000"},
    {"scan", PROCESS_COLUMNS
     "where status = 'pending' and placed_at is null and batch_id is null"
     " and created_at < now() - interval '500 "
     "milliseconds'"
     " and (created_at, id) > ($1::timestamptz, $2::uuid) order by created_at, id limit 256"},
    /* $2: the batch whose shared files are not known yet, or null */
    {"input", "select i.files, i.stdin, b.files as shared from process_inputs i"
              " left join batches b on b.id = $2::uuid where i.process_id = $1::uuid"},
    {"sweep_keys", SWEEP("idempotency", "created_at < now() - interval '24 hours'")},
    /* The oldest go first: who reads on from a seq sees by the oldest that is left whether it has
     * missed any. */
    {"sweep_events", "delete from file_events where seq = any (array(select seq from file_events"
                     " where seq <= (select max(seq) from file_events where at < now()"
                     "   - interval '24 hours') order by seq limit 5000))"},
    /* $1 days: who never became an account, has not been here since, and has nothing that runs. All
     * that is his goes with him. */
    {"sweep_guests",
     "delete from users where guest and id = any (array(select u.id from users u where u.guest"
     "   and u.created_at < now() - $1::bigint * interval '1 day'"
     "   and not exists (select 1 from sessions s where s.user_id = u.id"
     "     and coalesce(s.last_used_at, s.created_at) >= now() - $1::bigint * interval '1 day')"
     "   and not exists (select 1 from api_keys k where k.user_id = u.id"
     "     and coalesce(k.last_used_at, k.created_at) >= now() - $1::bigint * interval '1 day')"
     "   and not exists (select 1 from processes p where p.owner = u.id"
     "     and p.status in ('pending', 'running'))"
     "   and not exists (select 1 from sandboxes b where b.owner = u.id and b.ended_at is null)"
     "   order by u.created_at limit 100 for update skip locked))"},
    {"sweep_audit", SWEEP("audit", "created_at < now() - $1::bigint * interval '1 day'")},
    {"sweep_logins", SWEEP("oidc_logins", "expires_at < now()")},
    {"sweep_recoveries", SWEEP("recoveries", "expires_at < now()")},
    /* $1 where the page begins, $2 the grace in milliseconds */
    {"sweep_blobs",
     "with page as (select digest from blobs where digest > $1::text order by digest limit 2000),"
     " gone as (delete from blobs b using page p where b.digest = p.digest"
     "   and b.seen_at < now() - $2::bigint * interval '1 millisecond'"
     "   and not exists (select 1 from files f where f.blob = b.digest) returning b.name),"
     " g as (insert into blob_garbage (name, due_at) select name,"
     " now() + $2::bigint * interval '1 millisecond' from gone)"
     " select max(digest) as last from page"},
    /* few at a time: they may be large */
    {"sweep_outputs",
     "delete from process_outputs where ctid = any (array(select ctid from process_outputs"
     " where at < now() - $1::bigint * interval '1 day' order by at limit 500))"},
    {"sweep_sessions", SWEEP("sessions", "expires_at < now() - interval '7 days'")},
    {"where", "select p.status, p.placed_at is not null as placed, p.node_id, n.url"
              " from processes p left join nodes n on n.id = p.node_id where p.id = $1::uuid"},
};

const struct dbx_pg_stmt *sched_sql(size_t *ret_n)
{
    *ret_n = DBX_ARRAY_LEN(stmts);
    return stmts;
}
