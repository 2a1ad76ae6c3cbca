-- A drill that runs, and one that was not run to its end.
INSERT INTO kill_drills (id, due_at, asked_by, started_at) VALUES ('00000000-0000-0000-0000-000000000141', now(), 'schedule', now());
INSERT INTO kill_drills (id, asked_by, started_at, ended_at, verdict, why)
    VALUES ('00000000-0000-0000-0000-000000000142', 'user:x', now(), now(), 'NOT_RUN', 'the engine ended while it ran');
