-- SPDX-License-Identifier: Apache-2.0
-- The local tree, version 7: what is not known yet is found at once.

-- Directories of which names are missing here. The literal is NODE_DIR (types.h).
CREATE INDEX node_unknown ON node(ns, id) WHERE complete = 0 AND type = 2 AND gone = 0;
