-- Jobs: when each is due again.

-- name: times()
SELECT name, due_at
  FROM jobs;

-- name: claim(name, now, every)!
-- Changes nothing where another process has claimed the job, so that it is not due. A time further ahead than two runs comes from
-- a clock that was set back.
INSERT INTO jobs (name, due_at)
VALUES (:name, :now + :every)
    ON CONFLICT (name) DO UPDATE
   SET due_at = excluded.due_at
 WHERE jobs.due_at <= :now OR jobs.due_at > :now + 2 * :every;
