-- SPDX-License-Identifier: Apache-2.0
-- Migration 9: checks that an administrator orders of block servers (audit.h).

-- The newest order of each block server, and what it has reported of it (told 1: anything). at_ms: it
-- was ordered, or got on, then.
CREATE TABLE audit (
    server INTEGER PRIMARY KEY,
    number INTEGER NOT NULL,
    read INTEGER NOT NULL,
    mend INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    told INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    blocks INTEGER NOT NULL DEFAULT 0,
    looked INTEGER NOT NULL DEFAULT 0,
    compared INTEGER NOT NULL DEFAULT 0,
    damaged INTEGER NOT NULL DEFAULT 0,
    unreadable INTEGER NOT NULL DEFAULT 0,
    not_there INTEGER NOT NULL DEFAULT 0,
    unrecorded INTEGER NOT NULL DEFAULT 0,
    unneeded INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0
);

-- Where the newest check, which was to change nothing, found another state than is recorded. there 0:
-- the block is not at the server, as far as that is proved by an older generation than this one; 1:
-- it is, and no presence says so. Gone with the order.
CREATE TABLE finding (
    ns INTEGER NOT NULL,
    block BLOB NOT NULL,
    server INTEGER NOT NULL,
    there INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (ns, block, server)
) WITHOUT ROWID;
CREATE INDEX finding_of_server ON finding (server);
