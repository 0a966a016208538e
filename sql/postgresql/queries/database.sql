-- Transactions, which are PostgreSQL's own.

-- name: begin()!
BEGIN ISOLATION LEVEL READ COMMITTED;

-- name: wait_at_most(milliseconds)!
-- For each lock of this transaction.
SELECT set_config('lock_timeout', :milliseconds, true);

-- name: commit_later()!
-- The commit of this transaction does not wait for the disk. The next one that waits takes it along.
SELECT set_config('synchronous_commit', 'off', true);

-- name: wait_without_end()^
-- For migrations, in this transaction.
SELECT set_config('lock_timeout', '0', true), set_config('statement_timeout', '0', true);

-- name: isolation()$
SELECT current_setting('transaction_isolation');

-- name: lock_tables()!
-- No other node changes them until the transaction ends.
LOCK TABLE users, username_lookalikes, sessions, replaced_sessions, audit_log, root_keys IN SHARE ROW EXCLUSIVE MODE;

-- name: lock_users()!
-- Nobody else adds or changes a user until the transaction ends; sessions are opened meanwhile.
LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE;

-- name: may_make_schemas()$
SELECT has_database_privilege(current_database(), 'CREATE');

-- name: make_fresh_schema()!
-- For one transaction, which is undone.
CREATE SCHEMA authapi_fresh;

-- name: use_fresh_schema()$
SELECT set_config('search_path', 'authapi_fresh', true);
