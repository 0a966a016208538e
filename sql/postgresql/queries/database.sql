-- Transactions, which are PostgreSQL's own.

-- name: begin()!
BEGIN ISOLATION LEVEL READ COMMITTED;

-- name: wait_at_most(milliseconds)$
-- For each lock of this transaction.
SELECT set_config('lock_timeout', :milliseconds, true);

-- name: wait_without_end()^
-- For migrations, in this transaction.
SELECT set_config('lock_timeout', '0', true), set_config('statement_timeout', '0', true);

-- name: isolation()$
SELECT current_setting('transaction_isolation');
