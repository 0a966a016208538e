-- Many keys at once, as JSON, whose functions each engine has its own.

-- name: states(keys, now)
SELECT key, full_at, tries, kept_until
  FROM limits
 WHERE key IN (SELECT value FROM json_each(:keys))
   AND (kept_until IS NULL OR kept_until > :now);

-- name: clear(keys)!
DELETE FROM limits
 WHERE key IN (SELECT value FROM json_each(:keys));
