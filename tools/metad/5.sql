-- SPDX-License-Identifier: Apache-2.0
-- Migration 5: proofs that a block is at a block server do not outlive its bytes.

-- proof: the generation of the server's storage (a number of its own, which rises whenever it loses
-- or removes a block) in which the block was put there, from the receipt or report.
ALTER TABLE presence ADD COLUMN proof INTEGER NOT NULL DEFAULT 0;

-- The server no longer has the block for the namespace, or is to remove it: what proves that it has
-- it and is of an older generation than this one does not count, however late it comes.
CREATE TABLE gone (
    ns INTEGER NOT NULL,
    block BLOB NOT NULL,
    server INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (ns, block, server)
) WITHOUT ROWID;
