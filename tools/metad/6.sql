-- SPDX-License-Identifier: Apache-2.0
-- Migration 6: blocks that nothing refers to any more, and their removal.

-- refs: rows of extent and extent_past that refer to the block. unused_ms: since when none does, as
-- far as was noticed; 0: some do, or it was not noticed yet.
ALTER TABLE block ADD COLUMN refs INTEGER NOT NULL DEFAULT 0;
ALTER TABLE block ADD COLUMN unused_ms INTEGER NOT NULL DEFAULT 0;
UPDATE block SET refs = counted.n
    FROM (SELECT ns, block, count(*) AS n
              FROM (SELECT ns, block FROM extent UNION ALL SELECT ns, block FROM extent_past)
              GROUP BY ns, block) AS counted
    WHERE counted.ns = block.ns AND counted.block = block.block;
CREATE INDEX block_unused ON block (ns, unused_ms) WHERE refs = 0;

-- due 1: the server is to remove the block; 2: it was told so, and may be doing it: what it has of an
-- older generation than the row's. 0: it has removed it, or lost it, or has it by a later proof.
ALTER TABLE gone ADD COLUMN due INTEGER NOT NULL DEFAULT 0;
CREATE INDEX gone_due ON gone (server, ns, block) WHERE due > 0;
CREATE INDEX gone_old ON gone (at_ms) WHERE due = 0;
