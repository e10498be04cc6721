-- SPDX-License-Identifier: Apache-2.0
-- The local tree, version 2: conflicted copies are what has such a name, whoever made it, not what this
-- device remembers to have made. The literal is COPY_MARK (copyname.h).

DROP INDEX node_conflict;
ALTER TABLE node DROP COLUMN conflict;
CREATE INDEX entry_copy ON entry(ns, id)
    WHERE node != 0 AND instr(name, x'2028636f6e666c696374656420636f70792c20') > 0;

-- Where another namespace appears.
CREATE INDEX node_mount ON node(target_ns) WHERE target_ns != 0;
