-- The users of better-auth, with their passwords. The names of its tables are put in.
SELECT users.*,
       (SELECT password
          FROM {1} AS accounts
         WHERE accounts.userId = users.id AND accounts.providerId = 'credential'
         LIMIT 1) AS password
  FROM {0} AS users;
