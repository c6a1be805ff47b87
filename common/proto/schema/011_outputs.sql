-- What ended processes wrote, kept beyond the output log's retention: entries of the log as they were (docs/protocols.md, "The
-- archive"), in pieces, each in its row or in the blob store. Pieces count when their process is archived; until then they are
-- those of the one try whose number the process bears. What ended before this version is as good as archived: the log has it, as long as it keeps it.

create table process_outputs (
    process_id uuid not null references processes on delete cascade,
    piece integer not null,     -- from 0
    owner uuid not null references users on delete cascade,
    first_at bigint not null,   -- offsets of its first and last entry in the log
    last_at bigint not null,
    size bigint not null,
    digest text not null,       -- hex SHA-256
    content bytea not null default '',
    object text,                -- the name in the blob store, where it is not in content
    at timestamptz not null default now(),
    primary key (process_id, piece)
);
alter table process_outputs alter column content set storage external;
create index process_outputs_age on process_outputs (at);
create index process_outputs_of_owner on process_outputs (owner);

alter table processes
    add column archived_at timestamptz default now(),
    add column archive_try integer not null default 0,
    add column archive_until timestamptz; -- somebody is at it until then
alter table processes alter column archived_at drop default;
update processes set archived_at = null where status in ('pending', 'running');
create index processes_to_archive on processes (ended_at) where ended_at is not null and archived_at is null;

-- Bytes kept, an owner. Counted in rows of their own: the users' are locked by writes of files.
create table output_usage (
    owner uuid primary key references users on delete cascade,
    bytes bigint not null default 0
);
create function devbox_count_outputs() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into output_usage (owner, bytes) select owner, sum(size) from added group by owner order by owner
            on conflict (owner) do update set bytes = output_usage.bytes + excluded.bytes;
    else
        update output_usage u set bytes = u.bytes - d.n from (select owner, sum(size) as n from removed group by owner) d
            where u.owner = d.owner;
        -- Who reads it just now has an hour.
        insert into blob_garbage (name, due_at) select object, now() + interval '1 hour' from removed where object is not null
            on conflict do nothing;
    end if;
    return null;
end $$;
create trigger count_outputs_in after insert on process_outputs referencing new table as added
    for each statement execute function devbox_count_outputs();
create trigger count_outputs_out after delete on process_outputs referencing old table as removed
    for each statement execute function devbox_count_outputs();
