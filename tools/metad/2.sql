-- SPDX-License-Identifier: Apache-2.0
-- Migration 2: what each block server still lacks of its namespaces, and the order in which commits
-- became complete there.

-- born: the SJID of the commit that first referred to the block; 0 where none did.
ALTER TABLE block ADD COLUMN born INTEGER NOT NULL DEFAULT 0;
UPDATE block SET born = first.sjid
    FROM (SELECT ns, block, min(from_sjid) AS sjid
              FROM (SELECT ns, block, from_sjid FROM extent
                    UNION ALL SELECT ns, block, from_sjid FROM extent_past)
              GROUP BY ns, block) AS first
    WHERE first.ns = block.ns AND first.block = block.block;
CREATE INDEX block_born ON block (ns, born);

-- leaving: no commit may go there any more; the row goes when every block that is present there has
-- enough other copies.
ALTER TABLE assignment ADD COLUMN leaving INTEGER NOT NULL DEFAULT 0;

-- Commit sjid refers to the block, which is not present (under the server's generation) at this
-- assigned server. Gone in the transaction that records the presence. What is lost again comes back
-- under the SJID where the block was born.
CREATE TABLE lack (
    ns INTEGER NOT NULL,
    server INTEGER NOT NULL,
    block BLOB NOT NULL,
    sjid INTEGER NOT NULL,
    PRIMARY KEY (ns, server, block, sjid)
) WITHOUT ROWID;
CREATE INDEX lack_by_sjid ON lack (ns, server, sjid);

-- A server that was assigned, or whose storage is new, while the namespace had blocks: what it lacks
-- is being written into `lack`, newest first, a slice at a time. Blocks born at `below` or later are
-- done. No row: all are.
CREATE TABLE fill (
    ns INTEGER NOT NULL,
    server INTEGER NOT NULL,
    below INTEGER NOT NULL,
    PRIMARY KEY (ns, server)
) WITHOUT ROWID;
INSERT INTO fill (ns, server, below)
    SELECT ns, server, head + 1 FROM assignment JOIN namespace ON id = ns;

-- Commits in the order in which all their blocks were present at the server: numbers
-- seq … seq + n - 1 are the commits sjid … sjid + n - 1. Every commit stands in at most one run, and
-- keeps its number whatever is lost later. The run with seq 0 begins at SJID 0 and has all up to the
-- server's assignment: they have numbers, but are not told of.
CREATE TABLE complete (
    ns INTEGER NOT NULL,
    server INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    sjid INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (ns, server, seq)
) WITHOUT ROWID;
CREATE UNIQUE INDEX complete_by_sjid ON complete (ns, server, sjid);
INSERT INTO complete (ns, server, seq, sjid, n)
    SELECT ns, server, 0, 0, head + 1 FROM assignment JOIN namespace ON id = ns;
