-- Records each task whose row is deleted, by anyone. A row that named no schedule may be about to
-- get one, so that is tried in a minute.
CREATE TRIGGER recoup_guard AFTER DELETE ON scheduled_actions
BEGIN
    INSERT INTO orphaned_schedules (task_id, trigger_schedule_id, orphaned_at, due_at, attempts)
    VALUES (
        OLD.id,
        OLD.trigger_schedule_id,
        strftime('%Y-%m-%dT%H:%M:%fZ', 'now'),
        strftime(
            '%Y-%m-%dT%H:%M:%fZ',
            'now',
            CASE WHEN OLD.trigger_schedule_id <> '' THEN '0 seconds' ELSE '60 seconds' END
        ),
        0
    );
END
