-- Users that are imported.

-- name: update(id, password_hash, email_verified_at, disabled_at)!
-- A user without a hash in the file keeps the password.
UPDATE users
   SET password_hash = coalesce(:password_hash, password_hash),
       password_version = password_version + 1,
       email_verified_at = coalesce(email_verified_at, :email_verified_at),
       disabled_at = :disabled_at
 WHERE id = :id;
