-- SPDX-License-Identifier: Apache-2.0
-- Migration 10: a block server's storage that was set back, copied, or taken out of use before.

-- The opening of the storage that counts: run is its random number (0: the block server does not tell
-- one), found the generation with which the storage was opened: all that was put up to then is there.
ALTER TABLE server ADD COLUMN run INTEGER NOT NULL DEFAULT 0;
ALTER TABLE server ADD COLUMN found INTEGER NOT NULL DEFAULT 0;

-- The highest generation of a proof (receipt, report) that was believed of the server's present
-- incarnation. A storage that is opened with a lower one lacks what it was believed to have.
CREATE TABLE heard (
    ns INTEGER NOT NULL,
    server INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (ns, server)
) WITHOUT ROWID;
INSERT INTO heard (ns, server, generation)
    SELECT p.ns, p.server, max(p.proof)
        FROM presence AS p JOIN server AS s ON s.id = p.server AND s.generation = p.generation
        GROUP BY p.ns, p.server;

-- Incarnations that the server had before the present one: none of them ever counts again.
CREATE TABLE given_up (
    server INTEGER NOT NULL,
    incarnation BLOB NOT NULL,
    PRIMARY KEY (server, incarnation)
) WITHOUT ROWID;

-- Openings that were followed by another one: whoever says such a number is a process that should not
-- be running. The last ones of each server.
CREATE TABLE ended (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    server INTEGER NOT NULL,
    run INTEGER NOT NULL,
    UNIQUE (server, run)
);
