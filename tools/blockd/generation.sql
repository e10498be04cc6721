-- SPDX-License-Identifier: Apache-2.0
-- The storage's generation rises in every transaction that takes a block away from a namespace, and
-- at every start. A row of `held` has the one in which the block was last put for the namespace: the
-- receipts and reports that say so carry it. What is lost was put in an older one than `generation`;
-- what is put again has that one, or a later.
ALTER TABLE store ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE held ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE lost ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;

-- Files that no row names any more, below DIR/blocks: to be removed. The row goes after the file.
CREATE TABLE doomed (
    file TEXT PRIMARY KEY
) WITHOUT ROWID;
