-- Adds to the host's database what this service needs. Only adds, and may be run again.

-- Adding a foreign key locks the host's table for a moment; rather fail than queue behind a
-- long transaction with every other program queueing behind us.
SET LOCAL lock_timeout = '2s';

DO $$
DECLARE
    api_role name;
BEGIN
    -- Each step asks the catalogue first: it would lock its table even with nothing to do, and
    -- fail beside a backup that runs or hold up a deletion.
    IF to_regclass('task_deletions') IS NULL THEN
        CREATE TABLE task_deletions (
            task_id uuid PRIMARY KEY REFERENCES scheduled_actions (id) ON DELETE CASCADE,
            token uuid NOT NULL,
            requested_by uuid,
            requested_at timestamptz NOT NULL,
            lease_expires_at timestamptz NOT NULL
        );
    END IF;

    IF NOT EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = 'task_deletions'::regclass AND attname = 'doubtful_since'
    ) THEN
        ALTER TABLE task_deletions ADD COLUMN doubtful_since timestamptz;
    END IF;

    IF to_regclass('task_deletions_lease_expires_at') IS NULL THEN
        CREATE INDEX task_deletions_lease_expires_at ON task_deletions (lease_expires_at);
    END IF;

    -- Supabase grants each new table in this schema to whoever has the project's public key.
    IF NOT (SELECT relrowsecurity FROM pg_class WHERE oid = 'task_deletions'::regclass) THEN
        ALTER TABLE task_deletions ENABLE ROW LEVEL SECURITY;
    END IF;

    FOR api_role IN
        SELECT r.rolname FROM pg_roles r
        WHERE r.rolname IN ('anon', 'authenticated') AND EXISTS (
            SELECT FROM pg_class c, aclexplode(c.relacl) granted
            WHERE c.oid = 'task_deletions'::regclass AND granted.grantee = r.oid
            UNION ALL
            SELECT FROM pg_attribute a, aclexplode(a.attacl) granted
            WHERE a.attrelid = 'task_deletions'::regclass AND granted.grantee = r.oid
        )
    LOOP
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
