-- SPDX-License-Identifier: Apache-2.0
-- The index of a directory storage, and the bytes of its small blocks.
-- Numbers of namespaces and lengths are stored as signed 64-bit integers.

-- One row a stored block. Its bytes are in `small`, or in the file that it names (below DIR/blocks):
-- the file is durable before the row is.
CREATE TABLE block (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 33),
    stored_len INTEGER NOT NULL,
    logical_len INTEGER NOT NULL,
    file TEXT UNIQUE
);

-- The bytes of every block without a file.
CREATE TABLE small (
    n INTEGER PRIMARY KEY REFERENCES block (n),
    bytes BLOB NOT NULL
);

-- Block n was stored for namespace ns. A block without such a row cannot be read by anybody.
CREATE TABLE held (
    ns INTEGER NOT NULL,
    n INTEGER NOT NULL REFERENCES block (n),
    PRIMARY KEY (ns, n)
) WITHOUT ROWID;
CREATE INDEX held_by_block ON held (n);

-- One row: count and sum of stored_len over `block`, kept by every transaction that changes it, and
-- the name of this content (equal to the file DIR/incarnation, else the content was lost or swapped).
CREATE TABLE store (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    blocks INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    incarnation BLOB NOT NULL CHECK (length(incarnation) = 16)
);
