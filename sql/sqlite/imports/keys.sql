-- The keys that an import has seen, in a temporary file.
CREATE TABLE keys (
    key  TEXT    PRIMARY KEY,
    line INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
