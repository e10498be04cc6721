-- SPDX-License-Identifier: Apache-2.0
-- The local tree, version 6: of a file with tens of thousands of names those of which something is to be told
-- are found without the others. A name that is another one's at the server is among them.

CREATE INDEX entry_pending_node ON entry(node) WHERE node != 0 AND (pend != 0 OR request != 0);
