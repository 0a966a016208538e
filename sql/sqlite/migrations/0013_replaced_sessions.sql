-- The sessions whose place another session took a moment ago. A login may bring several, of which a column held one.
CREATE TABLE replaced_sessions (
    id_hash     TEXT    PRIMARY KEY,
    replaced_by TEXT    NOT NULL REFERENCES sessions (id_hash) ON DELETE CASCADE ON UPDATE CASCADE,
    replaced_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX replaced_sessions_replaced_by ON replaced_sessions (replaced_by);

DROP INDEX sessions_replaced;
ALTER TABLE sessions DROP COLUMN replaced;
