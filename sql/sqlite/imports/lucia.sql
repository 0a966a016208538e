-- The users of Lucia 2, with their passwords and the key that they log in with. The names of its tables are put in. In SQLite a column
-- beside min() is of the same row.
SELECT users.*, keys.key_id AS key_id, keys.hashed_password AS hashed_password
  FROM {0} AS users
  LEFT JOIN (SELECT user_id, min(id) AS key_id, hashed_password
               FROM {1}
              WHERE hashed_password IS NOT NULL
              GROUP BY user_id) AS keys
    ON keys.user_id = users.id;
