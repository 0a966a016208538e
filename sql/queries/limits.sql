-- Limits: budgets of tries. A row is kept for the window, or for `each` by the tries in a row where that is longer.

-- name: state(key, now, interval, window, each)^
-- A row that was written more than an interval ahead comes from a clock that was set back: the budget is full.
SELECT iif(kept_until > :now + max(:window, tries * :each) + :interval, 0, full_at), tries
  FROM limits
 WHERE key = :key
   AND (kept_until IS NULL OR kept_until > :now);

-- name: take(key, now, interval, window, each, in_a_row)^
-- Gives the tries in a row, this one among them, or no row where the budget has none left. A row that was written more than an
-- interval ahead, or would be full only more than an interval after the window, comes from a clock that was set back, or from a
-- longer window: it is full now. The tries in a row of a row that is no longer kept do not count.
INSERT INTO limits (key, full_at, tries, kept_until)
VALUES (:key, :now + :interval, 1, iif(:in_a_row <= 1, NULL, :now + max(:window, :each)))
    ON CONFLICT (key) DO UPDATE
   SET full_at = iif(full_at > :now + :window + :interval OR kept_until > :now + max(:window, tries * :each) + :interval,
                     :now, max(full_at, :now)) + :interval,
       tries = iif(kept_until <= :now, 0, tries) + 1,
       kept_until = iif(iif(kept_until <= :now, 0, tries) + 1 >= :in_a_row, NULL,
                        :now + max(:window, (iif(kept_until <= :now, 0, tries) + 1) * :each))
 WHERE (full_at + :interval <= :now + :window OR full_at > :now + :window + :interval
        OR kept_until > :now + max(:window, tries * :each) + :interval)
   AND (:in_a_row IS NULL OR tries < :in_a_row OR kept_until <= :now)
RETURNING tries;

-- name: give_back(key, now, interval, window, each)!
UPDATE limits
   SET full_at = full_at - :interval, tries = tries - 1, kept_until = :now + max(:window, (tries - 1) * :each)
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
