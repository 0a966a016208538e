-- When each job is due again, in seconds since the epoch. The process that moves the time runs the job.
CREATE TABLE jobs (
    name   TEXT    PRIMARY KEY,
    due_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
