-- needs: 14
-- What is to be sent because of a change, such as a mail. A row is written in the transaction of the change and deleted once it is sent.
-- It holds no secret: the text is made when it is sent.
CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    channel    TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    user_id    INTEGER,
    address    TEXT    NOT NULL,
    data       TEXT    NOT NULL,
    language   TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    due_at     INTEGER,
    claims     INTEGER NOT NULL DEFAULT 0,
    failures   INTEGER NOT NULL DEFAULT 0,
    error      TEXT    NOT NULL DEFAULT '',
    died_at    INTEGER
) STRICT;

CREATE INDEX outbox_due_at ON outbox (channel, due_at) WHERE due_at IS NOT NULL;

CREATE INDEX outbox_died_at ON outbox (died_at) WHERE died_at IS NOT NULL;
