-- The users of better-auth, with their passwords. The names of its tables are put in.
SELECT users.*, accounts.password AS password
  FROM {0} AS users
  LEFT JOIN (SELECT userId, min(password) AS password
               FROM {1}
              WHERE providerId = 'credential'
              GROUP BY userId) AS accounts
    ON accounts.userId = users.id;
