-- needs: 1
CREATE TABLE one_time_tokens (
    id         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    purpose    text   COLLATE "C" NOT NULL,
    user_id    bigint REFERENCES users (id) ON DELETE CASCADE,
    version    bigint,
    data       text   NOT NULL,
    kid        text   NOT NULL,
    nonce      text   NOT NULL,
    link_hash  text   COLLATE "C",
    code_hash  text,
    binding    text,
    tries      bigint NOT NULL DEFAULT 0,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL
);

CREATE UNIQUE INDEX one_time_tokens_link_hash ON one_time_tokens (link_hash);

CREATE INDEX one_time_tokens_user_id ON one_time_tokens (user_id, purpose);

CREATE INDEX one_time_tokens_expires_at ON one_time_tokens (expires_at);
