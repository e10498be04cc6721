-- SPDX-License-Identifier: Apache-2.0
-- The local tree, version 3: a metadata server whose database was restored from a copy is noticed.

-- Marks of the journal, as the server told them: of the newest SJIDs all, of older ones each 64th.
CREATE TABLE mark(
    ns INTEGER NOT NULL, sjid INTEGER NOT NULL, mark INTEGER NOT NULL,
    PRIMARY KEY(ns, sjid)) WITHOUT ROWID;

-- The server's journal is another one than that which the cursor is of: nothing is sent before a comparison
-- as of what both have in common.
ALTER TABLE ns ADD COLUMN other INTEGER NOT NULL DEFAULT 0;
