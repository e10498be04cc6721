-- SPDX-License-Identifier: Apache-2.0
-- Migration 11: a database that was restored from a copy is noticed by those who saw more of it.

-- mark: of the journal up to sjid, made of the record and the mark before it. Two journals that have the
-- same one at an SJID are the same up to there. Rows from the floor to the head, and below the floor
-- so many as prune.c says; none for commits of before this migration.
CREATE TABLE mark (
    ns INTEGER NOT NULL,
    sjid INTEGER NOT NULL,
    mark INTEGER NOT NULL,
    PRIMARY KEY (ns, sjid)
) WITHOUT ROWID;
