-- The root keys that the database was used with, by their ids. A start without one of them warns that secrets are lost.
CREATE TABLE root_keys (
    kid           TEXT    PRIMARY KEY,
    first_used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
