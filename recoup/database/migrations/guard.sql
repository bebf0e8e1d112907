-- Records each task whose row is deleted, by anyone, in the deleter's own transaction; see
-- `recoup.database.guard`, which also compares the function in the database with this one.

-- Making a trigger locks the host's table for a moment. Behind a long transaction this would queue,
-- and every other program behind it, so fail instead.
SET LOCAL lock_timeout = '2s';

-- It runs as its owner, so it may insert, whoever deletes. Our own deletion sets `recoup.deleting`, in
-- the statement that deletes the row.
CREATE OR REPLACE FUNCTION public.recoup_guard() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '200ms'
AS $guard$
BEGIN
    -- A row that named no schedule may be about to get one: that is looked for in a minute.
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO public.orphaned_schedules (task_id, trigger_schedule_id, due_at)
        SELECT id, trigger_schedule_id, clock_timestamp() + CASE
            WHEN trigger_schedule_id <> '' THEN interval '0' ELSE interval '1 minute' END
        FROM public.scheduled_actions;
    ELSE
        INSERT INTO public.orphaned_schedules (task_id, trigger_schedule_id, due_at)
        SELECT id, trigger_schedule_id, clock_timestamp() + CASE
            WHEN trigger_schedule_id <> '' THEN interval '0' ELSE interval '1 minute' END
        FROM gone
        WHERE id::text IS DISTINCT FROM current_setting('recoup.deleting', true);
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    -- The host's delete goes through all the same.
    RAISE WARNING USING MESSAGE = 'recoup could not record what was deleted from '
        || 'scheduled_actions, run `recoup tasks reconcile`: ' || SQLERRM;
    RETURN NULL;
END
$guard$;

REVOKE ALL ON FUNCTION public.recoup_guard() FROM PUBLIC;

DROP TRIGGER IF EXISTS recoup_guard ON public.scheduled_actions;
CREATE TRIGGER recoup_guard AFTER DELETE ON public.scheduled_actions
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION public.recoup_guard();

DROP TRIGGER IF EXISTS recoup_guard_truncate ON public.scheduled_actions;
CREATE TRIGGER recoup_guard_truncate BEFORE TRUNCATE ON public.scheduled_actions
FOR EACH STATEMENT EXECUTE FUNCTION public.recoup_guard();
