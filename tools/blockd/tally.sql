-- SPDX-License-Identifier: Apache-2.0
-- How many tasks there are of each namespace and server: kept with every change, since a backlog is
-- as long as a disk is large, and is asked about every few seconds.
CREATE TABLE tally (
    ns INTEGER NOT NULL,
    server INTEGER NOT NULL,
    n INTEGER NOT NULL CHECK (n > 0),
    PRIMARY KEY (ns, server)
) WITHOUT ROWID;
INSERT INTO tally SELECT ns, server, count(*) FROM task GROUP BY ns, server;

CREATE TRIGGER task_added AFTER INSERT ON task BEGIN
    INSERT INTO tally (ns, server, n) VALUES (new.ns, new.server, 1)
        ON CONFLICT (ns, server) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER task_gone AFTER DELETE ON task BEGIN
    DELETE FROM tally WHERE ns = old.ns AND server = old.server AND n = 1;
    UPDATE tally SET n = n - 1 WHERE ns = old.ns AND server = old.server;
END;

-- Those that are due, of a server and of a namespace there; what waits is not looked at.
DROP INDEX task_of_server;
CREATE INDEX task_due ON task (server, not_before);
CREATE INDEX task_due_of_ns ON task (server, ns, not_before);
