-- The outbox: what is to be sent because of a change. A row is due at `due_at`, or dead where that is NULL.

-- name: insert(channel, kind, user_id, address, data, language, now, expires_at)$
INSERT INTO outbox (channel, kind, user_id, address, data, language, created_at, expires_at, due_at)
VALUES (:channel, :kind, :user_id, :address, :data, :language, :now, :expires_at, :now)
RETURNING id;

-- name: waiting(channel, at_most)$
-- How many rows wait, counted to `at_most`.
SELECT count(*)
  FROM (SELECT 1 AS one
          FROM outbox
         WHERE channel = :channel AND due_at IS NOT NULL
         LIMIT :at_most) AS counted;

-- name: first_due_at(channel)$
SELECT min(due_at)
  FROM outbox
 WHERE channel = :channel AND due_at IS NOT NULL;

-- name: claim(channel, now, until, latest, at_most)
-- Moves the rows that are due to `until`, so that nobody else takes them before. A time after `latest` comes from a clock that was set
-- back.
UPDATE outbox
   SET claims = claims + 1, due_at = :until
 WHERE id IN (SELECT id
                FROM outbox
               WHERE channel = :channel AND due_at IS NOT NULL AND (due_at <= :now OR due_at > :latest)
               ORDER BY due_at, id
               LIMIT :at_most)
RETURNING id, kind, user_id, address, data, language, created_at, expires_at, claims, failures, error;

-- name: done(id, claims)!
-- Changes nothing where the lease ran out and another process has claimed the row.
DELETE FROM outbox
 WHERE id = :id AND claims = :claims;

-- name: give_back(id, claims, due_at)!
UPDATE outbox
   SET due_at = :due_at
 WHERE id = :id AND claims = :claims AND due_at IS NOT NULL;

-- name: put_off(id, claims, due_at, error)!
UPDATE outbox
   SET due_at = :due_at, failures = failures + 1, error = :error
 WHERE id = :id AND claims = :claims AND due_at IS NOT NULL;

-- name: die(id, claims, now, error)!
UPDATE outbox
   SET due_at = NULL, died_at = :now, failures = failures + 1, error = :error
 WHERE id = :id AND claims = :claims AND due_at IS NOT NULL;

-- name: of_user(user_id)
SELECT id, kind, address, created_at
  FROM outbox
 WHERE user_id = :user_id
 ORDER BY id;

-- name: forget_dead(user_id)!
DELETE FROM outbox
 WHERE died_at IS NOT NULL AND user_id = :user_id;

-- name: page(channel, after, at_most)
SELECT id, kind, user_id, address, created_at, due_at, failures, error
  FROM outbox
 WHERE channel = :channel AND id > :after
 ORDER BY id
 LIMIT :at_most;

-- name: page_of_dead(channel, after, at_most)
SELECT id, kind, user_id, address, created_at, due_at, failures, error
  FROM outbox
 WHERE channel = :channel AND id > :after AND due_at IS NULL
 ORDER BY id
 LIMIT :at_most;

-- name: revive(id, now)^
-- It lives as long again as it did.
UPDATE outbox
   SET due_at = :now, died_at = NULL, failures = 0, claims = claims + 1, expires_at = :now + expires_at - created_at
 WHERE id = :id AND due_at IS NULL
RETURNING kind, user_id;

-- name: drop(id)^
DELETE FROM outbox
 WHERE id = :id
RETURNING kind, user_id;

-- name: prune(until, at_most)!
-- Deletes dead rows.
DELETE FROM outbox
 WHERE id IN (SELECT id
                FROM outbox
               WHERE died_at <= :until
               ORDER BY died_at
               LIMIT :at_most);

-- name: prune_expired(channel, until, at_most)!
-- Deletes rows that wait although they expired. Such a row was due before.
DELETE FROM outbox
 WHERE id IN (SELECT id
                FROM outbox
               WHERE channel = :channel AND due_at <= :until AND expires_at <= :until
               ORDER BY due_at
               LIMIT :at_most);
