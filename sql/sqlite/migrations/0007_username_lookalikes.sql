-- What usernames look like that hold more than ASCII: other keys than their own, as UTS 39 has it. The function `lookalikes` is the
-- program's own, and gives a JSON array. Names that look alike already stay as they are.
CREATE TABLE username_lookalikes (
    lookalike TEXT    NOT NULL,
    user_id   INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (lookalike, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX username_lookalikes_user_id ON username_lookalikes (user_id);

INSERT INTO username_lookalikes (lookalike, user_id)
SELECT found.value, users.id
  FROM users, json_each(lookalikes(users.username)) AS found
 WHERE users.username GLOB '*[^ -~]*';
