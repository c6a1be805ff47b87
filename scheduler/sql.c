/* SPDX-License-Identifier: Apache-2.0 */
/* All of the scheduler's SQL. `lead` locks the epoch's row against a new leader until the commit:
 * whoever takes the lead waits for what is in flight, and then reads all of it; whoever lost it
 * gets lead = 0 and has changed nothing. */
#include "common/ext/pg.h"
#include "scheduler/store.h"

#define LEAD                                                                                       \
    "with lead as materialized (select 1 from scheduler_epoch where epoch = $1::bigint for share)"
#define IF_LEAD " exists (select 1 from lead) "
#define RESULT                                                                                     \
    " select (select count(*) from lead) as lead, d.id from (select 1) one left join done d on "   \
    "true"

#define PROCESS_COLUMNS                                                                            \
    "select id, sandbox_id, owner, attempt, node_id, started_at is not null as started,"           \
    " (extract(epoch from created_at) * 1000000)::bigint as accepted_us, trace, request,"          \
    " created_at::text as cursor from processes "

static const struct dbx_pg_stmt stmts[] = {
    {"place", LEAD
     ", given as (select * from unnest($2::uuid[], $3::text[], $4::int[]) as g(id, node, attempt)),"
     " done as (update processes p set node_id = g.node, attempt = g.attempt, epoch = $1::bigint,"
     "   placed_at = now(), started_at = null from given g"
     "   where p.id = g.id and p.status in ('pending', 'running') and" IF_LEAD
     "   returning p.id, p.sandbox_id, p.node_id),"
     " boxes as (update sandboxes s set node_id = d.node_id from done d where s.id = "
     "d.sandbox_id)" RESULT},
    {"started", LEAD
     ", given as (select * from unnest($2::uuid[], $3::int[], $4::bigint[]) as g(id, attempt, "
     "at_us)),"
     " done as (update processes p set status = 'running', started_at ="
     "   case when g.at_us > 0 then to_timestamp(g.at_us / 1000000.0) else now() end from given g"
     "   where p.id = g.id and p.attempt = g.attempt and p.status in ('pending', 'running')"
     "   and p.started_at is null and" IF_LEAD " returning p.id)" RESULT},
    {"ended", LEAD
     ", given as (select * from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::bool[])"
     "   as g(id, status, verdict, outcome, ran)),"
     " done as (update processes p set status = g.status, verdict = g.verdict, outcome = g.outcome,"
     "   ended_at = now(), started_at ="
     "   case when g.ran then coalesce(p.started_at, now()) else p.started_at end from given g"
     "   where p.id = g.id and p.status in ('pending', 'running') and" IF_LEAD
     "   returning p.id, p.sandbox_id, p.verdict),"
     " boxes as (update sandboxes s set ended_at = now() from done d"
     "   where s.id = d.sandbox_id and (s.kind = 'run' or d.verdict = 'NODE_LOST')"
     "   and s.ended_at is null),"
     " inputs as (delete from process_inputs i using given g where i.process_id = g.id and" IF_LEAD
     ")" RESULT},
    {"nodes_up", LEAD
     " insert into nodes (id, url, version, state)"
     " select g.id, g.url, g.version, 'ready' from unnest($2::text[], $3::text[], $4::text[])"
     "   as g(id, url, version) where" IF_LEAD
     " on conflict (id) do update set url = excluded.url, state = 'ready', last_seen = now(),"
     "   version = case when excluded.version = '' then nodes.version else excluded.version end"},
    {"node_lost", LEAD ", boxes as (update sandboxes set ended_at = now() where node_id = $2"
                       "   and kind = 'workspace' and ended_at is null and" IF_LEAD
                       ") update nodes set state = 'lost' where id = $2 and" IF_LEAD},
    /* $3: those that live at node $2. What a process is on its way to is not over. */
    {"boxes_live", LEAD
     " update sandboxes s set ended_at = now() where node_id = $2 and kind = 'workspace'"
     " and ended_at is null and not s.id = any ($3::uuid[]) and not exists (select 1 from processes"
     " p where p.sandbox_id = s.id and p.status in ('pending', 'running')) and" IF_LEAD},
    {"box_ended",
     LEAD " update sandboxes s set ended_at = now() where id = $2::uuid and ended_at is null"
          " and not exists (select 1 from processes p where p.sandbox_id = s.id"
          " and p.status = 'pending') and" IF_LEAD},
    {"files", "select * from devbox_files_of_sandbox($1::uuid, $2, $3::text[], $4::text[],"
              " $5::bytea[], $6::text[], $7::bigint[])"},
    {"load_boxes", "select id, node_id from sandboxes where kind = 'workspace'"
                   " and ended_at is null and node_id is not null"},
    {"load_nodes", "select id, url from nodes where state <> 'lost'"},
    {"load_placed", PROCESS_COLUMNS
     "where status in ('pending', 'running') and placed_at is not null"
     " and (created_at, id) > ($1::timestamptz, $2::uuid) order by created_at, id limit 1000"},
    {"scan", PROCESS_COLUMNS
     "where status = 'pending' and placed_at is null and created_at < now() - interval '500 "
     "milliseconds'"
     " and (created_at, id) > ($1::timestamptz, $2::uuid) order by created_at, id limit 256"},
    {"input", "select files, stdin from process_inputs where process_id = $1::uuid"},
    {"where", "select p.status, p.placed_at is not null as placed, p.node_id, n.url"
              " from processes p left join nodes n on n.id = p.node_id where p.id = $1::uuid"},
};

const struct dbx_pg_stmt *sched_sql(size_t *ret_n)
{
    *ret_n = DBX_ARRAY_LEN(stmts);
    return stmts;
}
