-- People: accounts, sessions, keys with scopes, members and links of workspaces, quotas, the audit log, login by OIDC.
-- Secrets (keys, sessions, recovery and login states) stand here as SHA-256 only, passwords as argon2id.

alter table users
    add column password text,                        -- as libsodium writes it; null: no login by password
    add column guest boolean not null default false, -- no e-mail yet; an account as soon as it has one
    add column disabled_at timestamptz,              -- may not come in any more
    add column max_workspaces integer check (max_workspaces >= 0), -- null: what user_quota says
    add column max_running integer check (max_running >= 0);

alter table api_keys
    add column scopes text not null default 'read write run account admin',
    add column hint text not null default '',        -- its first characters, to know it again
    add column last_used_at timestamptz;             -- to the minute
create index api_keys_of_user on api_keys (user_id);

create table sessions (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    hash bytea not null unique,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    last_used_at timestamptz,
    revoked_at timestamptz
);
create index sessions_of_user on sessions (user_id);

create table recoveries (
    hash bytea primary key,
    user_id uuid not null references users on delete cascade,
    expires_at timestamptz not null
);

-- A member is named by e-mail, whether there is an account of that name yet or not.
create table workspace_members (
    workspace_id uuid not null references workspaces on delete cascade,
    email text not null,
    role text not null check (role in ('viewer', 'editor')),
    created_at timestamptz not null default now(),
    primary key (workspace_id, email)
);
create index workspace_members_by_email on workspace_members (email);

create table share_links (
    id uuid primary key,
    workspace_id uuid not null references workspaces on delete cascade,
    slug text not null unique,
    role text not null check (role in ('viewer', 'editor')),
    created_at timestamptz not null default now(),
    expires_at timestamptz
);
create index share_links_of_workspace on share_links (workspace_id, created_at);

-- Who came by which link: the link's role is his for as long as the link is good.
create table link_uses (
    link_id uuid not null references share_links on delete cascade,
    user_id uuid not null references users on delete cascade,
    created_at timestamptz not null default now(),
    primary key (link_id, user_id)
);
create index link_uses_of_user on link_uses (user_id);

-- Counted up by all that may take access away; gateways look at it, and at the streams they hold when it has changed.
create table access_epoch (
    one boolean primary key default true check (one),
    n bigint not null
);
insert into access_epoch (n) values (0);
create function access_changed() returns trigger language plpgsql as $$
begin
    update access_epoch set n = n + 1;
    return null;
end $$;
create trigger access_changed after delete or update of role on workspace_members for each statement execute function access_changed();
create trigger access_changed after delete or update of role, expires_at on share_links for each statement execute function access_changed();
create trigger access_changed after update of sharing_mode or delete on workspaces for each statement execute function access_changed();
create trigger access_changed after update of revoked_at or delete on api_keys for each statement execute function access_changed();
create trigger access_changed after update of revoked_at or delete on sessions for each statement execute function access_changed();
create trigger access_changed after update of role, disabled_at or delete on users for each statement execute function access_changed();

create table audit (
    id bigint generated always as identity primary key,
    created_at timestamptz not null default now(),
    actor uuid,                 -- null: nobody who was signed in
    action text not null,
    object text not null default '',
    detail text not null default '',
    origin text not null default '' -- the peer's address and the request's id
);

create table identities (
    issuer text not null,
    subject text not null,
    user_id uuid not null references users on delete cascade,
    created_at timestamptz not null default now(),
    primary key (issuer, subject)
);

-- A login on its way through the provider; taken away by its first answer.
create table oidc_logins (
    state_hash bytea primary key,
    browser_hash bytea not null,
    nonce text not null,
    verifier text not null,
    return_to text not null,
    guest uuid references users on delete cascade,
    expires_at timestamptz not null
);

alter table sandboxes add column workspace_id uuid references workspaces on delete set null;
update sandboxes s set workspace_id = w.id from workspaces w where w.sandbox_id = s.id;
create index sandboxes_of_workspace on sandboxes (workspace_id);
create index processes_open_of_owner on processes (owner) where status in ('pending', 'running');

-- Who may do what: 0 nothing, 1 viewer, 2 editor, 3 owner, 4 administrator (the numbers of enum dbx_role). `adm`: the caller
-- acts as one. Null: there is no such thing.
create function role_rank(role text) returns integer language sql immutable as $$
    select case role when 'viewer' then 1 when 'editor' then 2 when 'owner' then 3 else 0 end
$$;

create function workspace_role(ws uuid, usr uuid, adm boolean) returns integer language sql stable as $$
    select case when w.owner = usr then 3 when adm then 4 else greatest(
        case w.sharing_mode when 'edit' then 2 when 'view' then 1 else 0 end,
        (select max(role_rank(m.role)) from workspace_members m join users u on u.email = m.email
            where m.workspace_id = w.id and u.id = usr),
        (select max(role_rank(l.role)) from share_links l join link_uses g on g.link_id = l.id
            where l.workspace_id = w.id and g.user_id = usr and (l.expires_at is null or l.expires_at > now()))) end
    from workspaces w where w.id = ws
$$;

create function sandbox_role(sb uuid, usr uuid, adm boolean) returns integer language sql stable as $$
    select case when s.workspace_id is not null then workspace_role(s.workspace_id, usr, adm)
        when s.owner = usr then 3 when adm then 4 else 0 end
    from sandboxes s where s.id = sb
$$;

create function user_quota(usr uuid, what text) returns integer language sql stable as $$
    select case when u.role = 'admin' then 2147483647
        when what = 'workspaces' then coalesce(u.max_workspaces, case when u.guest then 20 else 1000 end)
        else coalesce(u.max_running, case when u.guest then 20 else 20000 end) end
    from users u where u.id = usr
$$;

-- Whether one more process would be too many.
create function user_full(usr uuid) returns boolean language sql stable as $$
    select case when q.n = 2147483647 then false else
        (select count(*) from (select 1 from processes where owner = usr and status in ('pending', 'running') limit q.n) p) >= q.n end
    from (select user_quota(usr, 'running') as n) q
$$;
