-- Signing keys: which sessions need one.

-- name: signed(since, until, now)^
-- The live sessions whose last token was signed in this time, and when the last of these tokens expires.
SELECT count(*), max(expires_at)
  FROM sessions
 WHERE last_seen_at >= :since AND last_seen_at < :until AND expires_at > :now;
