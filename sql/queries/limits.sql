-- Limits: budgets of tries. A row is kept for the window, or for `each` times the tries in a row if that is longer. All times are
-- microseconds.

-- name: take(key, now, interval, window, each, in_a_row)^
-- Returns the tries in a row, with this one, or no row if the budget has no try left. A row from more than an interval ahead comes
-- from a clock that was set back, and one that becomes full more than an interval after the window comes from a longer window: both
-- count as full. A row that is no longer kept counts no tries in a row.
INSERT INTO limits (key, full_at, tries, kept_until)
VALUES (:key, :now + :interval, 1,
        CASE WHEN CAST(:in_a_row AS BIGINT) <= 1 THEN NULL WHEN :each > :window THEN :now + :each ELSE :now + :window END)
    ON CONFLICT (key) DO UPDATE
   SET full_at = :interval
               + CASE WHEN limits.full_at > :now
                       AND limits.full_at <= :now + :window + :interval
                       AND (limits.kept_until IS NULL
                            OR limits.kept_until <= :now + :window + :interval
                            OR limits.kept_until <= :now + limits.tries * :each + :interval)
                      THEN limits.full_at ELSE :now END,
       tries = CASE WHEN limits.kept_until <= :now THEN 1 ELSE limits.tries + 1 END,
       kept_until = CASE WHEN limits.kept_until <= :now THEN excluded.kept_until
                         WHEN limits.tries + 1 >= CAST(:in_a_row AS BIGINT) THEN NULL
                         WHEN (limits.tries + 1) * :each > :window THEN :now + (limits.tries + 1) * :each
                         ELSE :now + :window END
 WHERE (limits.full_at + :interval <= :now + :window
        OR limits.full_at > :now + :window + :interval
        OR (limits.kept_until > :now + :window + :interval AND limits.kept_until > :now + limits.tries * :each + :interval))
   AND (CAST(:in_a_row AS BIGINT) IS NULL
        OR limits.tries < CAST(:in_a_row AS BIGINT)
        OR limits.kept_until <= :now)
RETURNING tries;

-- name: give_back(key, now, interval, window, each)!
UPDATE limits
   SET full_at = full_at - :interval,
       tries = tries - 1,
       kept_until = :now + CASE WHEN (tries - 1) * :each > :window THEN (tries - 1) * :each ELSE :window END
 WHERE key = :key;

-- name: prune(now, at_most)!
DELETE FROM limits
 WHERE key IN (SELECT key
                 FROM limits
                WHERE kept_until <= :now
                ORDER BY kept_until
                LIMIT :at_most);
