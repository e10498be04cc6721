-- SPDX-License-Identifier: Apache-2.0
-- Migration 15: what began anew is not let go before it could tell what it has.

-- The server's storage began anew while the namespace was assigned to it, and it has not told since that it
-- lacks nothing. When it leaves the namespace, `lack` and `fill` go on for it: for what nobody has.
CREATE TABLE anew (
    ns INTEGER NOT NULL,
    server INTEGER NOT NULL,
    PRIMARY KEY (ns, server)
) WITHOUT ROWID;

-- Of a database of before nobody knows.
INSERT INTO anew (ns, server) SELECT ns, server FROM fill;
