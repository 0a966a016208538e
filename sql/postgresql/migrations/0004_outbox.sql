-- needs: 1
-- What is to be sent because of a change, such as a mail. The migration for SQLite says more.
CREATE TABLE outbox (
    id         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    channel    text   COLLATE "C" NOT NULL,
    kind       text   NOT NULL,
    user_id    bigint,
    address    text   NOT NULL,
    data       text   NOT NULL,
    language   text   NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    due_at     bigint,
    claims     bigint NOT NULL DEFAULT 0,
    failures   bigint NOT NULL DEFAULT 0,
    error      text   NOT NULL DEFAULT '',
    died_at    bigint
);

CREATE INDEX outbox_due_at ON outbox (channel, due_at) WHERE due_at IS NOT NULL;

CREATE INDEX outbox_died_at ON outbox (died_at) WHERE died_at IS NOT NULL;
