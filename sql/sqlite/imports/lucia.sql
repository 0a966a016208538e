-- The users of Lucia 2, with their passwords and the key that they log in with. The names of its tables are put in.
SELECT users.*, keys.id AS key_id, keys.hashed_password AS hashed_password
  FROM {0} AS users
  LEFT JOIN {1} AS keys
    ON keys.id = (SELECT min(id)
                    FROM {1} AS others
                   WHERE others.user_id = users.id AND others.hashed_password IS NOT NULL);
