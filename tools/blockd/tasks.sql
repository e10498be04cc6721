-- SPDX-License-Identifier: Apache-2.0
-- What replication remembers over a restart: DIR/replication.db. Losing it costs work done twice, no
-- block: the metadata server knows what every server lacks.

-- How far this server's own order of complete commits was turned into tasks.
CREATE TABLE cursor (
    ns INTEGER PRIMARY KEY,
    at BLOB NOT NULL
);

-- The block is to be offered to that server. The row goes when the server has it.
CREATE TABLE task (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ns INTEGER NOT NULL,
    server INTEGER NOT NULL,
    block BLOB NOT NULL CHECK (length(block) = 33),
    not_before INTEGER NOT NULL DEFAULT 0, -- ms, this process's clock; 0 after a start
    UNIQUE (ns, server, block)
);
CREATE INDEX task_of_server ON task (server, id);
