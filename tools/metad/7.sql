-- SPDX-License-Identifier: Apache-2.0
-- Migration 7: the namespaces of one block server are found without reading those of all.

CREATE INDEX assignment_of_server ON assignment (server, ns);
