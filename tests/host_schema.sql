-- The host's tables as they are on its Supabase, before `recoup db upgrade`.

-- Roles belong to the whole server and outlive a test's database.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['anon', 'authenticated', 'service_role'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
    ALTER ROLE service_role BYPASSRLS;
END
$$;

GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;

-- Supabase's trap: whoever adds a table gives it to everyone who holds the public key.
ALTER DEFAULT PRIVILEGES IN SCHEMA public
    GRANT ALL ON TABLES TO anon, authenticated, service_role;

CREATE TABLE accounts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text
);

CREATE TABLE account_emails (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid,
    email text,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX account_emails_account_id_idx ON account_emails (account_id);

-- No index on key_hash: the upgrade adds it.
CREATE TABLE account_api_keys (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    account uuid,
    key_hash text,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used timestamp,
    expires_at timestamptz
);

CREATE TABLE account_organization_ids (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (account_id, organization_id)
);

CREATE TABLE scheduled_actions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    title text NOT NULL,
    prompt text NOT NULL,
    schedule text NOT NULL,
    account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    artist_account_id uuid NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    enabled boolean NOT NULL DEFAULT true,
    last_run timestamptz,
    next_run timestamptz,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    trigger_schedule_id text,
    model text,
    -- A column that nobody told us of.
    "hostOnly" jsonb DEFAULT '{"kept": true}'
);
