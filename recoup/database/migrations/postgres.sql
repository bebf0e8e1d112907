-- Adds to the host's database what this service needs. Only adds, and may be run again.

-- Adding a foreign key locks the host's table for a moment; rather fail than queue behind a
-- long transaction with every other program queueing behind us.
SET LOCAL lock_timeout = '2s';

CREATE TABLE IF NOT EXISTS task_deletions (
    task_id uuid PRIMARY KEY REFERENCES scheduled_actions (id) ON DELETE CASCADE,
    token uuid NOT NULL,
    requested_by uuid,
    requested_at timestamptz NOT NULL,
    lease_expires_at timestamptz NOT NULL
);

ALTER TABLE task_deletions ADD COLUMN IF NOT EXISTS doubtful_since timestamptz;

CREATE INDEX IF NOT EXISTS task_deletions_lease_expires_at ON task_deletions (lease_expires_at);

-- Supabase grants each new table in this schema to whoever has the project's public key.
ALTER TABLE task_deletions ENABLE ROW LEVEL SECURITY;

DO $$
DECLARE
    api_role name;
BEGIN
    FOR api_role IN SELECT rolname FROM pg_roles WHERE rolname IN ('anon', 'authenticated') LOOP
        EXECUTE 'REVOKE ALL ON task_deletions FROM ' || quote_ident(api_role);
    END LOOP;

    -- The host may have indexed the column under a name of its own.
    IF NOT EXISTS (
        SELECT 1 FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = 'account_api_keys'::regclass AND a.attname = 'key_hash'
          AND i.indpred IS NULL
    ) THEN
        CREATE INDEX account_api_keys_key_hash ON account_api_keys (key_hash);
    END IF;
END
$$;
