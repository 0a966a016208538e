-- Limits: budgets of tries.

-- name: state(key, now, interval, kept_for)^
-- What was written more than an interval ahead is of a clock that was set back: the budget is full.
SELECT iif(kept_until > :now + :kept_for + :interval, 0, full_at), tries
  FROM limits
 WHERE key = :key
   AND (kept_until IS NULL OR kept_until > :now);

-- name: take(key, now, interval, window, in_a_row, kept_for)^
-- Gives the tries in a row, this one among them, or no row where the budget has none left. What was written more than an interval
-- ahead, or would be full only more than an interval after the window, is of a clock that was set back, or of a longer window: it is
-- full now. What is kept no longer counts no longer.
INSERT INTO limits (key, full_at, tries, kept_until)
VALUES (:key, :now + :interval, 1, iif(:in_a_row <= 1, NULL, :now + :kept_for))
    ON CONFLICT (key) DO UPDATE
   SET full_at = iif(full_at > :now + :window + :interval OR kept_until > :now + :kept_for + :interval,
                     :now, max(full_at, :now)) + :interval,
       tries = iif(kept_until <= :now, 0, tries) + 1,
       kept_until = iif(iif(kept_until <= :now, 0, tries) + 1 >= :in_a_row, NULL, :now + :kept_for)
 WHERE (full_at + :interval <= :now + :window OR full_at > :now + :window + :interval
        OR kept_until > :now + :kept_for + :interval)
   AND (:in_a_row IS NULL OR tries < :in_a_row OR kept_until <= :now)
RETURNING tries;

-- name: give_back(key, now, interval, kept_for)!
UPDATE limits
   SET full_at = full_at - :interval, tries = tries - 1, kept_until = :now + :kept_for
 WHERE key = :key;

-- name: clear(key)!
DELETE FROM limits
 WHERE key = :key;

-- name: prune(now, at_most)!
DELETE FROM limits
 WHERE key IN (SELECT key
                 FROM limits
                WHERE kept_until <= :now
                ORDER BY kept_until
                LIMIT :at_most);
