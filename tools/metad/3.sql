-- SPDX-License-Identifier: Apache-2.0
-- Migration 3: namespaces that never leave their premises, and servers that are being evacuated.

-- A namespace with rows here is only ever at servers of these premises.
CREATE TABLE onsite (
    ns INTEGER NOT NULL,
    premises TEXT NOT NULL,
    PRIMARY KEY (ns, premises)
) WITHOUT ROWID;

-- The assignments that count: whatever is asked about assigned servers is asked here, so that a row of
-- `assignment` alone, however it came about, brings nothing out of a namespace's premises.
CREATE VIEW placed AS
    SELECT a.ns, a.server, a.priority, a.leaving
        FROM assignment AS a JOIN server AS s ON s.id = a.server
        WHERE NOT EXISTS (SELECT 1 FROM onsite AS o WHERE o.ns = a.ns)
            OR EXISTS (SELECT 1 FROM onsite AS o WHERE o.ns = a.ns AND o.premises = s.premises);

-- evacuating: nothing is assigned to it any more.
ALTER TABLE server ADD COLUMN evacuating INTEGER NOT NULL DEFAULT 0;
