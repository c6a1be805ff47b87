-- Guests who never came back, and old lines of the audit log, are removed (scheduler/sweep.c): what finds them, and what goes
-- with a user by its foreign key.

create index users_guests on users (created_at) where guest;
create index sandboxes_of_owner on sandboxes (owner);
create index identities_of_user on identities (user_id);
create index processes_by_batch on processes (batch_id) where batch_id is not null;
create index audit_age on audit (created_at);
