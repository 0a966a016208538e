-- Adds a key, unless an earlier line had it, and returns the line that had it first.
INSERT INTO keys (key, line)
VALUES (:key, :line)
    ON CONFLICT (key) DO UPDATE SET line = line
RETURNING line;
