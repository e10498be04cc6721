-- SPDX-License-Identifier: Apache-2.0
-- Migration 4: capabilities that are good no longer, and keys that change.

-- Capabilities for namespace ns (0: any), of account (0: any) or of block server peer (0: any), at block
-- server `server` (0: at any), are refused if they end at until_ms or before: those are all that were
-- sealed before the row was made. At least one of ns and peer is not 0. A row goes when no such
-- capability can be honoured any more.
CREATE TABLE revocation (
    ns INTEGER NOT NULL,
    account INTEGER NOT NULL,
    peer INTEGER NOT NULL,
    server INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    made_ms INTEGER NOT NULL,
    PRIMARY KEY (ns, account, peer, server)
) WITHOUT ROWID;
CREATE INDEX revocation_made ON revocation (made_ms);

-- Keys of a block server beside the one that it is given capabilities under, which stands in `server`.
-- until_ms 0: the next one, which takes that place once the block server has said that it has it (at
-- most one; at_once: all before then end). Otherwise one of before, good until then.
CREATE TABLE server_key (
    server INTEGER NOT NULL,
    key_id INTEGER NOT NULL,
    key BLOB NOT NULL,
    until_ms INTEGER NOT NULL,
    at_once INTEGER NOT NULL,
    PRIMARY KEY (server, key_id)
) WITHOUT ROWID;
