-- SHA-256 of the request id: a person who has the whole id settles its own write, and not another one that begins alike.
-- Rows that an older gateway made have none.
ALTER TABLE writes ADD COLUMN whole_id BYTEA;
