-- SPDX-License-Identifier: Apache-2.0
-- The block was stored for the namespace, was found damaged and was set aside; the metadata server
-- does not know yet. Gone when it knows, or when the block is stored for the namespace anew.
-- Serials are never used twice: what is lost while a report is under way comes after it.
CREATE TABLE lost (
    serial INTEGER PRIMARY KEY AUTOINCREMENT,
    ns INTEGER NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 33),
    UNIQUE (ns, id)
);
