/* SPDX-License-Identifier: Apache-2.0 */
/* The SQL of people. What changes something writes its line of the audit log in the same statement.
 * Those of members, links and keys are writes as workspace_write.c makes them ($1 to $4, and the
 * last parameters). */
#include "gateway/people_int.h"
#include "gateway/workspaces_int.h"

#define US(column) "(extract(epoch from " column ") * 1000000)::bigint"
#define TIME(param) "(timestamptz 'epoch' + " param "::bigint * interval '1 microsecond')"
#define AUDIT(actor, action, object, detail, origin, from)                                         \
    "au as (insert into audit (actor, action, object, detail, origin) select " actor ", " action   \
    ", " object ", " detail ", " origin " from " from ") "
#define USER                                                                                       \
    "u.id, u.email, u.role, u.guest, u.disabled_at is not null as disabled, "                      \
    "user_quota(u.id, 'workspaces') as max_workspaces, user_quota(u.id, 'running') as "            \
    "max_running, user_max_bytes(u.id) as max_bytes, u.bytes_used, " US(                           \
        "u.created_at") " as created_us "
#define SESSION(user, id, hash, ttl, from)                                                         \
    "s as (insert into sessions (id, user_id, hash, expires_at) select " id "::uuid, " user        \
    ", " hash "::bytea, now() + " ttl "::bigint * interval '1 second' from " from                  \
    " returning *), "
#define KEY                                                                                        \
    "id, label, hint, scopes, " US("created_at") " as created_us, " US(                            \
        "expires_at") " as expires_us, " US("last_used_at") " as used_us "
#define LINK                                                                                       \
    "l.id, l.slug, l.role, " US("l.created_at") " as created_us, " US(                             \
        "l.expires_at") " as expires_us "
#define GO                                                                                         \
    " i as (insert into idempotency (owner, key, request_hash, response, status)"                  \
    " select $1::uuid, $2::text, $3::bytea, $4::text, 0 from ok where $2::text is not null"        \
    " on conflict do nothing returning 1),"                                                        \
    " go as (select * from ok where $2::text is null or exists (select 1 from i)), "
#define RESULT(found, written)                                                                     \
    " select (select count(*) from " found ") as found, (select problem from p) as problem,"       \
    " (select count(*) from " written ") as taken"
#define SEEN(adm)                                                                                  \
    "w as (select w.id, w.owner, r.role from workspaces w, lateral (select workspace_role(w.id, "  \
    "$1::uuid, " adm "::boolean) as role) r where w.id = $5::uuid and r.role > 0), "
#define OWNERS "p as (select case when w.role < 3 then 'forbidden' end as problem from w), "
#define ALLOWED "ok as (select w.* from w, p where p.problem is null), "

const struct dbx_pg_stmt gw_people_sql[] = {
    /* $1 email, $2 password, $3 user, $4 session, $5 hash, $6 seconds, $7 the guest or null, $8
     * origin. No row: the address is taken. */
    {"register",
     "with g as (update users set email = $1::text, password = $2::text, guest = false where id = "
     "$7::uuid and guest and not exists (select 1 from users where email = $1::text) returning *), "
     "n as (insert into users (id, email, password) select $3::uuid, $1::text, $2::text where "
     "$7::uuid is null on conflict (email) do nothing returning *), "
     "u as (select * from g union all select * from n), "
     "old as (update sessions set revoked_at = now() where user_id in (select id from "
     "g)), " SESSION("u.id", "$4", "$5", "$6", "u")
         AUDIT("u.id", "'register'", "u.id::text",
               "case when "
               "$7::uuid is null then '' else 'was a guest' end",
               "$8::text", "u") "select " USER "from u"},
    {"login_find", "select id, password from users where email = $1::text and disabled_at is null"},
    /* $1 user, $2 session, $3 hash, $4 seconds, $5 action, $6 origin */
    {"session_create",
     "with u as (select * from users where id = $1::uuid and disabled_at is null), "
     "old as (delete from sessions where user_id = $1::uuid and (expires_at < now() or revoked_at "
     "< now() - interval '1 day')), " SESSION("u.id", "$2", "$3", "$4", "u")
         AUDIT("u.id", "$5::text", "u.id::text", "''", "$6::text", "u") "select " USER "from u"},
    /* $1 user, $2 session, $3 hash, $4 seconds, $5 origin */
    {"guest_create",
     "with u as (insert into users (id, guest) values ($1::uuid, true) returning *), " SESSION(
         "u.id", "$2", "$3", "$4", "u")
         AUDIT("u.id", "'guest'", "u.id::text", "''", "$5::text", "u") "select " USER "from u"},
    {"me", "select " USER "from users u where u.id = $1::uuid"},
    /* $1 user, $2 session, $3 origin */
    {"session_end",
     "with s as (update sessions set revoked_at = now() where id = $2::uuid and user_id = $1::uuid "
     "and revoked_at is null returning *), " AUDIT("$1::uuid", "'session_end'", "s.id::text", "''",
                                                   "$3::text", "s") "select count(*) as taken from "
                                                                    "s"},
    {"sessions",
     "select id, id = $2::uuid as current, " US("created_at") " as created_us, " US(
         "expires_at") " as expires_us, " US("last_used_at") " as used_us from sessions where "
                                                             "user_id = $1::uuid and revoked_at is "
                                                             "null and expires_at > now() order by "
                                                             "created_at desc limit 1000"},
    {"password_of", "select id, password from users where id = $1::uuid"},
    /* $1 user, $2 password, $3 the session that stays, $4 origin */
    {"password_put",
     "with u as (update users set password = $2::text where id = $1::uuid returning *), old as "
     "(update sessions set revoked_at = now() where user_id = $1::uuid and id <> $3::uuid and "
     "revoked_at is null), " AUDIT("u.id", "'password'", "u.id::text", "''", "$4::text",
                                   "u") "select " USER "from u"},

    /* --- keys: $5 id, $6 hash, $7 hint, $8 label, $9 scopes, $10 expires, $11 origin --- */
    {"key_create",
     "with p as (select case when (select count(*) from api_keys where user_id = $1::uuid and "
     "revoked_at is null) >= 100 then 'keys' end as problem), ok as (select 1 from p where problem "
     "is null)," GO "x as (insert into api_keys (id, user_id, hash, hint, label, scopes, "
     "expires_at) select $5::uuid, $1::uuid, $6::bytea, $7::text, $8::text, $9::text, " TIME(
         "$10") " from go returning *), " AUDIT("$1::uuid", "'key_create'", "x.id::text",
                                                "x.scopes", "$11::text", "x") RESULT("p", "x")},
    {"keys", "select " KEY "from api_keys where user_id = $1::uuid and revoked_at is null order by "
             "created_at desc, id"},
    {"key", "select " KEY "from api_keys where id = $2::uuid and user_id = $1::uuid and revoked_at "
            "is null"},
    {"key_delete",
     "with k as (update api_keys set revoked_at = now() where id = $2::uuid and user_id = $1::uuid "
     "and revoked_at is null returning *), " AUDIT("$1::uuid", "'key_revoke'", "k.id::text", "''",
                                                   "$3::text", "k") "select count(*) as taken from "
                                                                    "k"},

    /* --- members: $5 workspace, $6 email, $7 role; administrator; origin --- */
    {"members", "select m.email, m.role, m.user_id is null and not exists (select 1 from users u "
                "where u.email = m.email and u.email_verified) as pending, exists (select 1 from "
                "users u where u.email = m.email and u.email_verified and u.id = "
                "coalesce(m.user_id, u.id)) as verified, " US(
                    "m.created_at") " as created_us, workspace_role($1::uuid, $2::uuid, "
                                    "$3::boolean) as mine from (select 1) one left join "
                                    "workspace_members m on m.workspace_id = $1::uuid order by "
                                    "m.email"},
    {"member_put",
     "with " SEEN("$8") "p as (select case when w.role < 3 then 'forbidden' when (select count(*) "
                        "from workspace_members where workspace_id = w.id) >= 1000 then 'links' "
                        "end as problem from "
                        "w), " ALLOWED GO "x as (insert into workspace_members (workspace_id, "
                        "email, role) select go.id, $6::text, "
                        "$7::text from go on conflict (workspace_id, email) do update set role = "
                        "excluded.role "
                        "returning *), " AUDIT("$1::uuid", "'member_put'", "x.workspace_id::text",
                                               "x.email || ' ' || x.role", "$9::text", "x")
                            RESULT("w", "x")},
    /* A member may take himself out. */
    {"member_delete",
     "with " SEEN("$7") "p as (select case when w.role < 3 and not exists (select 1 from users "
                        "where id = $1::uuid and email = $6::text) then 'forbidden' when not "
                        "exists (select 1 from "
                        "workspace_members where workspace_id = w.id and email = $6::text) then "
                        "'absent' end as "
                        "problem from w), " ALLOWED GO
                        "x as (delete from workspace_members m using go where m.workspace_id = "
                        "go.id and m.email = "
                        "$6::text returning m.*), " AUDIT("$1::uuid", "'member_delete'",
                                                          "x.workspace_id::text", "x.email",
                                                          "$8::text", "x") RESULT("w", "x")},

    /* --- links: $5 workspace, $6 id, $7 slug, $8 role, $9 expires; administrator; origin --- */
    {"links", "select " LINK ", workspace_role($1::uuid, $2::uuid, $3::boolean) as mine from "
              "(select 1) one left join share_links l on l.workspace_id = $1::uuid order by "
              "l.created_at desc, l.id"},
    {"link_create",
     "with " SEEN(
         "$10") "p as (select case when w.role < 3 then 'forbidden' when (select count(*) "
                "from share_links where workspace_id = w.id) >= 1000 then 'links' end as problem "
                "from w), " ALLOWED GO
                "x as (insert into share_links (id, workspace_id, slug, role, expires_at) select "
                "$6::uuid, go.id, $7::text, $8::text, " TIME("$9") " from go returning *), " AUDIT(
                    "$1::uuid", "'link_create'", "x.workspace_id::text",
                    "x.id::text || ' ' || x.role", "$11::text", "x") RESULT("w", "x")},
    {"link_delete",
     "with " SEEN("$7") "p as (select case when w.role < 3 then 'forbidden' when not exists "
                        "(select 1 from share_links where workspace_id = w.id and id = $6::uuid) "
                        "then 'absent' end as "
                        "problem from w), " ALLOWED GO
                        "x as (delete from share_links l using go where l.workspace_id "
                        "= go.id and l.id = $6::uuid returning l.*), " AUDIT(
                            "$1::uuid", "'link_delete'", "x.workspace_id::text", "x.id::text",
                            "$8::text", "x") RESULT("w", "x")},
    /* $1 slug, $2 user. No row: no such link, or not any more. */
    {"link_use",
     "with l as (select * from share_links where slug = $1::text and (expires_at is null or "
     "expires_at > now())), x as (insert into link_uses (link_id, user_id) select l.id, $2::uuid "
     "from l on conflict do nothing) select l.workspace_id, "
     "greatest(workspace_role(l.workspace_id, $2::uuid, false), role_rank(l.role)) as role from l"},
    {"link_look", "select 1 from share_links where slug = $1::text and (expires_at is null or "
                  "expires_at > now())"},

    /* --- administrators --- */
    /* $1 email or null, $2 before (id), $3 limit */
    {"users",
     "select " USER ", u.id as cursor from users u where ($1::text is null or u.email = $1::text) "
     "and ($2::uuid is null or u.id < $2::uuid) order by u.id desc limit $3::int"},
    /* $1 actor, $2 user, $3 role, $4 disabled, $5 max_workspaces, $6 max_running, $7 origin, $8
       max_bytes */
    {"user_put",
     "with u as (update users set role = coalesce($3::text, role), disabled_at = case "
     "$4::boolean when true then coalesce(disabled_at, now()) when false then null else "
     "disabled_at "
     "end, max_workspaces = coalesce($5::int, max_workspaces), max_running = coalesce($6::int, "
     "max_running), max_bytes = coalesce($8::bigint, max_bytes) where id = $2::uuid returning "
     "*), " AUDIT(
         "$1::uuid", "'user_put'", "u.id::text",
         "concat_ws(' ', 'role=' || $3::text, 'disabled=' || $4::boolean, 'max_workspaces=' || "
         "$5::int, 'max_running=' || $6::int, 'max_bytes=' || $8::bigint)",
         "$7::text", "u") "select " USER "from u"},
    /* $1 actor, $2 user, $3 hash, $4 seconds, $5 origin */
    {"recovery_create",
     "with u as (select id from users where id = $2::uuid and email is not null), old as (delete "
     "from recoveries where user_id = $2::uuid or expires_at < now()), x as (insert into "
     "recoveries (hash, user_id, expires_at) select $3::bytea, u.id, now() + $4::bigint * interval "
     "'1 second' from u returning *), " AUDIT(
         "$1::uuid", "'recovery_create'", "x.user_id::text", "''", "$5::text",
         "x") "select " US("x.expires_at") " as expires_us from x"},
    {"recovery_find", "select 1 from recoveries where hash = $1::bytea and expires_at > now()"},
    /* $1 hash, $2 password, $3 session, $4 hash, $5 seconds, $6 origin */
    {"recovery_use",
     "with r as (delete from recoveries where hash = $1::bytea and expires_at > now() returning "
     "user_id), u as (update users set password = $2::text where id = (select user_id from r) and "
     "disabled_at is null returning *), old as (update sessions set revoked_at = now() where "
     "user_id = (select id from u) and revoked_at is null), " SESSION("u.id", "$3", "$4", "$5", "u")
         AUDIT("u.id", "'recover'", "u.id::text", "''", "$6::text", "u") "select " USER "from u"},
    /* $1 before, $2 limit */
    {"audit",
     "select id, id as cursor, actor, action, object, detail, origin, " US(
         "created_at") " as created_us from audit where $1::bigint = 0 or id < $1::bigint order by "
                       "id desc limit $2::int"},
    {"audit_add", "insert into audit (actor, action, object, detail, origin) values ($1::uuid, "
                  "$2::text, $3::text, $4::text, $5::text)"},

    /* --- login at a provider --- */
    {"oidc_begin",
     "with old as (delete from oidc_logins where expires_at < now()) insert into oidc_logins "
     "(state_hash, browser_hash, nonce, verifier, return_to, guest, expires_at) values ($1::bytea, "
     "$2::bytea, $3::text, $4::text, $5::text, $6::uuid, now() + $7::bigint * interval '1 "
     "second')"},
    {"oidc_take", "delete from oidc_logins where state_hash = $1::bytea and browser_hash = "
                  "$2::bytea and expires_at > now() returning nonce, verifier, return_to, guest"},
    /* $1 issuer, $2 subject, $3 e-mail (verified) or null, $4 user, $5 session, $6 hash, $7
     * seconds, $8 the guest or null, $9 origin. An account of the same e-mail is not taken over: no
     * row. */
    {"oidc_enter",
     "with have as (select u.* from identities i join users u on u.id = i.user_id where i.issuer = "
     "$1::text and i.subject = $2::text), "
     "free as (select 1 where not exists (select 1 from have) and not exists (select 1 from users "
     "where email = $3::text)), "
     "g as (update users set guest = false, email = $3::text, email_verified = $3::text is not "
     "null where id = $8::uuid and guest and "
     "exists (select 1 from free) returning *), "
     "n as (insert into users (id, email, email_verified) select $4::uuid, $3::text, $3::text is "
     "not null from free where $8::uuid is "
     "null or not exists (select 1 from users where id = $8::uuid and guest) returning *), "
     "u as (select * from have where disabled_at is null union all select * from g union all "
     "select * from n), "
     "x as (insert into identities (issuer, subject, user_id) select $1::text, $2::text, u.id from "
     "u where exists (select 1 from free)), "
     "old as (update sessions set revoked_at = now() where user_id in (select id from "
     "g)), " SESSION("u.id", "$5", "$6", "$7", "u")
         AUDIT("u.id", "'login_oidc'", "u.id::text", "$1::text", "$9::text", "u") "select " USER
                                                                                  "from u"},

    /* --- streams that are open --- */
    {"access_epoch", "select n from access_epoch"},
    {"access_check",
     "select case when u.id is not null and (t.cred = '' or exists (select 1 from api_keys k where "
     "left(t.cred, 2) = 'k:' and k.id::text = substr(t.cred, 3) and k.revoked_at is null and "
     "(k.expires_at is null or k.expires_at > now())) or exists (select 1 from sessions s where "
     "left(t.cred, 2) = 's:' and s.id::text = substr(t.cred, 3) and s.revoked_at is null and "
     "s.expires_at > now())) then coalesce(sandbox_role(t.sandbox, t.usr, t.adm and u.role = "
     "'admin'), 0) else 0 end as role from unnest($1::uuid[], $2::uuid[], $3::boolean[], "
     "$4::text[]) with ordinality as t(sandbox, usr, adm, cred, i) left join users u on u.id = "
     "t.usr and u.disabled_at is null order by t.i"},
};
const size_t gw_people_sql_len = sizeof(gw_people_sql) / sizeof(gw_people_sql[0]);
