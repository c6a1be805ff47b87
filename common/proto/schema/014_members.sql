-- A member is an account, not an address: nobody proves that an address is his, so who registers one that was named before,
-- or that of an account which is gone, gets nothing by it. Named before there is an account: the role waits until it is given
-- again, or until somebody comes whose address an identity provider has verified.

alter table users add column email_verified boolean not null default false; -- by an identity provider
update users u set email_verified = true where email is not null and password is null
    and exists (select 1 from identities i where i.user_id = u.id);

alter table workspace_members add column user_id uuid references users on delete cascade; -- null: it waits
update workspace_members m set user_id = u.id from users u where u.email = m.email;
create index workspace_members_of_user on workspace_members (user_id);

create function member_account() returns trigger language plpgsql as $$
begin
    if new.user_id is null then
        new.user_id := (select id from users where email = new.email);
    end if;
    return new;
end $$;
create trigger member_account before insert or update of role on workspace_members for each row execute function member_account();

create or replace function workspace_role(ws uuid, usr uuid, adm boolean) returns integer language sql stable as $$
    select case when w.owner = usr then 3 when adm then 4 else greatest(
        case w.sharing_mode when 'edit' then 2 when 'view' then 1 else 0 end,
        (select max(role_rank(m.role)) from workspace_members m join users u on u.id = usr
            where m.workspace_id = w.id and (m.user_id = usr or (m.user_id is null and u.email_verified and m.email = u.email))),
        (select max(role_rank(l.role)) from share_links l join link_uses g on g.link_id = l.id
            where l.workspace_id = w.id and g.user_id = usr and (l.expires_at is null or l.expires_at > now()))) end
    from workspaces w where w.id = ws
$$;
