-- Accounts.

-- name: insert(username, username_key, email, email_key, password_hash, email_verified_at)^
INSERT INTO users (username, username_key, email, email_key, password_hash, email_verified_at)
VALUES (:username, :username_key, :email, :email_key, :password_hash, :email_verified_at)
RETURNING id, username, email, created_at, updated_at, email_verified_at,
          password_hash, password_version, credentials_version, disabled_at IS NOT NULL;

-- name: by_username(username_key)^
SELECT id, username, email, created_at, updated_at, email_verified_at,
       password_hash, password_version, credentials_version, disabled_at IS NOT NULL
  FROM users
 WHERE username_key = :username_key;

-- name: by_email(email_key)^
SELECT id, username, email, created_at, updated_at, email_verified_at,
       password_hash, password_version, credentials_version, disabled_at IS NOT NULL
  FROM users
 WHERE email_key = :email_key;

-- name: by_id(id)^
SELECT id, username, email, created_at, updated_at, email_verified_at,
       password_hash, password_version, credentials_version, disabled_at IS NOT NULL
  FROM users
 WHERE id = :id;

-- name: account(id)^
-- All that is kept of a user; of the password only whether there is one.
SELECT id, username, email, created_at, updated_at, email_verified_at,
       password_hash IS NOT NULL, disabled_at, roles, password_version, credentials_version
  FROM users
 WHERE id = :id;

-- name: by_session(id_hash)^
-- The user of a session that has not ended.
SELECT id, username, email, created_at, updated_at, email_verified_at,
       password_hash, password_version, credentials_version, disabled_at IS NOT NULL
  FROM users
 WHERE id = (SELECT user_id FROM sessions WHERE id_hash = :id_hash) AND disabled_at IS NULL;

-- name: is_username_taken(username_key)$
SELECT EXISTS (SELECT 1 FROM users WHERE username_key = :username_key);

-- name: is_lookalike(id, key)$
-- Whether a key is another user's username, or what that username looks like.
SELECT EXISTS (SELECT 1 FROM users WHERE username_key = :key AND id <> :id)
    OR EXISTS (SELECT 1 FROM username_lookalikes WHERE lookalike = :key AND user_id <> :id);

-- name: add_lookalike(user_id, lookalike)!
INSERT INTO username_lookalikes (lookalike, user_id)
VALUES (:lookalike, :user_id);

-- name: forget_lookalikes(user_id)!
DELETE FROM username_lookalikes
 WHERE user_id = :user_id;

-- name: is_email_taken(email_key)$
SELECT EXISTS (SELECT 1 FROM users WHERE email_key = :email_key);

-- name: rehash(id, verified_hash, new_hash)!
-- Changes nothing if the password was changed since the hash was verified.
UPDATE users
   SET password_hash = :new_hash
 WHERE id = :id AND password_hash = :verified_hash;

-- name: change_password(id, password_version, new_hash)!
-- Changes nothing if the password was changed, or the user disabled, since the password was checked.
UPDATE users
   SET password_hash = :new_hash, password_version = password_version + 1
 WHERE id = :id AND password_version = :password_version AND disabled_at IS NULL;

-- name: forget_password(id)!
UPDATE users
   SET password_hash = NULL, password_version = password_version + 1
 WHERE id = :id;

-- name: claim(id, now)!
-- The first proof of a user's address. Whoever set the password before it need not be the owner of the address.
UPDATE users
   SET email_verified_at = :now, password_hash = NULL, password_version = password_version + 1
 WHERE id = :id AND email_verified_at IS NULL AND disabled_at IS NULL;

-- name: verify_email(id, now)!
-- The owner of an address proves it in a session of the account.
UPDATE users
   SET email_verified_at = :now
 WHERE id = :id AND email_verified_at IS NULL AND disabled_at IS NULL;

-- name: change_email(id, email, email_key, verified_at)!
UPDATE users
   SET email = :email, email_key = :email_key, email_verified_at = :verified_at
 WHERE id = :id;

-- name: raise_credentials_version(id)!
UPDATE users
   SET credentials_version = credentials_version + 1
 WHERE id = :id;

-- name: rename(id, username, username_key)!
UPDATE users
   SET username = :username, username_key = :username_key
 WHERE id = :id AND username <> :username;

-- name: delete(id, password_version)!
DELETE FROM users
 WHERE id = :id AND password_version = :password_version;

-- name: skip_versions(number)!
UPDATE users
   SET password_version = password_version + :number,
       credentials_version = credentials_version + :number;
