-- SPDX-License-Identifier: Apache-2.0
-- One shard of the block store, version 1. Numbers pair the two tables: a row of `block` describes the bytes of the
-- row of `data` with the same number; both are written in one transaction. The bytes are apart so that a
-- shard's list of blocks can be read without touching them.
BEGIN;
CREATE TABLE IF NOT EXISTS block (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    len INTEGER NOT NULL,
    unsynced INTEGER NOT NULL
);
-- Invariant: SHA-256 of `bytes` is the id of the block; never changed once written.
CREATE TABLE IF NOT EXISTS data (
    n INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
);
PRAGMA user_version = 1;
COMMIT;
