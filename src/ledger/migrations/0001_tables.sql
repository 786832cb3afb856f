-- One schema for SQLite and PostgreSQL. Times are milliseconds since 1970, by the clock of the store.

-- A write that names itself (request_id).
CREATE TABLE IF NOT EXISTS writes (
    id BYTEA PRIMARY KEY,     -- SHA-256 of site key and request id
    request BYTEA NOT NULL,   -- HMAC of the call, under a key that only a repeat of it can make
    token BIGINT NOT NULL,    -- the reservation that may write the outcome
    state BIGINT NOT NULL,    -- 0 pending, 1 applied, 2 unknown, 3 settled as applied by a person
    response BYTEA,           -- sealed
    began BIGINT NOT NULL,
    until BIGINT NOT NULL,    -- a pending write is of unknown fate from then on
    id_begins TEXT NOT NULL,  -- the first eight characters of the request id
    site TEXT NOT NULL,       -- the site's name in logs, not its key
    method TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS writes_by_age ON writes (began);

-- The calls that were made on a day (UTC) with an API key, or by the callers of one share with it.
CREATE TABLE IF NOT EXISTS days (
    account BYTEA NOT NULL,   -- SHA-256 of the API key, and of the share
    day BIGINT NOT NULL,      -- days since 1970
    calls BIGINT NOT NULL,
    PRIMARY KEY (account, day)
);

-- The API keys that OnboardFlow refuses for a while.
CREATE TABLE IF NOT EXISTS spent (
    account BYTEA PRIMARY KEY,
    until BIGINT NOT NULL
);
