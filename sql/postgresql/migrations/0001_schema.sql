-- The tables. What they hold is described in the migrations for SQLite. Keys are compared by their bytes, whatever the database's
-- locale, because a newer C library that sorts otherwise would damage an index.

-- Seconds since the epoch, as SQLite's function of this name returns them.
CREATE FUNCTION unixepoch() RETURNS bigint
    LANGUAGE sql STABLE
    AS 'SELECT floor(extract(epoch FROM now()))::bigint';

CREATE TABLE users (
    id                  bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    username            text   NOT NULL,
    username_key        text   COLLATE "C" NOT NULL,
    email               text   NOT NULL,
    email_key           text   COLLATE "C" NOT NULL,
    password_hash       text,
    password_version    bigint NOT NULL DEFAULT 1,
    credentials_version bigint NOT NULL DEFAULT 1,
    email_verified_at   bigint,
    roles               text   NOT NULL DEFAULT '',
    disabled_at         bigint,
    created_at          bigint NOT NULL DEFAULT unixepoch(),
    updated_at          bigint NOT NULL DEFAULT unixepoch()
);

-- The names of these indexes are the table's and the column's: the service tells by them which value is taken.
CREATE UNIQUE INDEX users_username_key ON users (username_key);

CREATE UNIQUE INDEX users_email_key ON users (email_key);

-- A rehash at login is no change that the user made, so password_hash does not count.
CREATE FUNCTION users_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := unixepoch();
    RETURN NEW;
END;
$$;

CREATE TRIGGER users_updated_at
    BEFORE UPDATE OF username, username_key, email, email_key, disabled_at ON users
    FOR EACH ROW EXECUTE FUNCTION users_updated_at();

CREATE TABLE username_lookalikes (
    lookalike text   COLLATE "C" NOT NULL,
    user_id   bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT username_lookalikes_lookalike PRIMARY KEY (lookalike, user_id)
);

CREATE INDEX username_lookalikes_user_id ON username_lookalikes (user_id);

CREATE TABLE sessions (
    id               bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    id_hash          text   COLLATE "C" NOT NULL CHECK (length(id_hash) = 64),
    user_id          bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at       bigint NOT NULL,
    authenticated_at bigint NOT NULL,
    last_seen_at     bigint NOT NULL,
    expires_at       bigint NOT NULL,
    ip               text   NOT NULL,
    user_agent       text   NOT NULL,
    methods          text   NOT NULL DEFAULT 'pwd',
    second_factor_at bigint
);

CREATE UNIQUE INDEX sessions_id_hash ON sessions (id_hash);

CREATE INDEX sessions_user_id ON sessions (user_id);

CREATE INDEX sessions_expires_at ON sessions (expires_at);

-- A user who is locked out has no session any more, and none of the old ones when they are let in again.
CREATE FUNCTION users_disabled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM sessions WHERE user_id = NEW.id;
    RETURN NULL;
END;
$$;

CREATE TRIGGER users_disabled
    AFTER UPDATE OF disabled_at ON users
    FOR EACH ROW WHEN (NEW.disabled_at IS NOT NULL) EXECUTE FUNCTION users_disabled();

CREATE TABLE replaced_sessions (
    id_hash     text   COLLATE "C" CONSTRAINT replaced_sessions_id_hash PRIMARY KEY,
    replaced_by text   COLLATE "C" NOT NULL REFERENCES sessions (id_hash) ON DELETE CASCADE ON UPDATE CASCADE,
    replaced_at bigint NOT NULL
);

CREATE INDEX replaced_sessions_replaced_by ON replaced_sessions (replaced_by);

-- Ids are given before their transaction commits, so a reader that goes on from the last id misses rows. With `xact` it does not:
-- WHERE (xact, id) > (:xact, :id) AND xact < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xact, id.
CREATE TABLE audit_log (
    id         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY CHECK (id > 0),
    created_at bigint NOT NULL,
    event      text   NOT NULL,
    detail     text,
    user_id    bigint,
    session_id text,
    ip         text   NOT NULL,
    user_agent text   NOT NULL,
    request_id text   NOT NULL,
    xact       xid8   NOT NULL DEFAULT pg_current_xact_id()
);

CREATE INDEX audit_log_user_id ON audit_log (user_id, id);

CREATE INDEX audit_log_created_at ON audit_log (created_at);

CREATE INDEX audit_log_xact ON audit_log (xact, id);

CREATE FUNCTION audit_log_keeps_what_it_has() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_log is append-only';
END;
$$;

CREATE TRIGGER audit_log_keeps_what_it_has
    BEFORE UPDATE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION audit_log_keeps_what_it_has();

CREATE TRIGGER audit_log_is_not_emptied
    BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_keeps_what_it_has();

-- Rows go by age alone, 90 days before the newest, but for those of nobody, which anybody can cause without end.
CREATE FUNCTION audit_log_forgets_by_age() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.created_at > (SELECT max(created_at) FROM audit_log) - 7776000 THEN
        RAISE EXCEPTION 'audit_log keeps rows for 90 days';
    END IF;
    RETURN OLD;
END;
$$;

CREATE TRIGGER audit_log_forgets_by_age
    BEFORE DELETE ON audit_log
    FOR EACH ROW WHEN (OLD.user_id IS NOT NULL) EXECUTE FUNCTION audit_log_forgets_by_age();

CREATE TABLE limits (
    key        text   COLLATE "C" CONSTRAINT limits_key PRIMARY KEY,
    full_at    bigint NOT NULL,
    tries      bigint NOT NULL,
    kept_until bigint
);

CREATE INDEX limits_kept_until ON limits (kept_until) WHERE kept_until IS NOT NULL;

CREATE TABLE jobs (
    name   text   COLLATE "C" CONSTRAINT jobs_name PRIMARY KEY,
    due_at bigint NOT NULL
);

CREATE TABLE root_keys (
    kid           text   COLLATE "C" CONSTRAINT root_keys_kid PRIMARY KEY,
    first_used_at bigint NOT NULL
);
