-- What is left of each budget of tries, by the generic cell rate algorithm: at `full_at` all of it is there again. `tries` are those in a
-- row since the last success. Times are microseconds since the epoch. A row without `kept_until` stays until it is cleared.
CREATE TABLE limits (
    key        TEXT    PRIMARY KEY,
    full_at    INTEGER NOT NULL,
    tries      INTEGER NOT NULL,
    kept_until INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX limits_kept_until ON limits (kept_until) WHERE kept_until IS NOT NULL;
