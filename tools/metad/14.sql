-- SPDX-License-Identifier: Apache-2.0
-- Migration 14: a database that was put back to an older copy is noticed by what block servers were told.

-- tick: rises with every report of a block server that keeps it (0: it does not). It is told in the answer, and in
-- the server's next report: one that says a higher tick than stands here was told so by a newer state of this
-- database. unheard: the metadata server was started since its last report. adopt: the database was found to be
-- an older copy, and this server has not reported since: whatever tick it says is taken over, and its
-- incarnation, whichever it is, is given up.
ALTER TABLE server ADD COLUMN tick INTEGER NOT NULL DEFAULT 0;
ALTER TABLE server ADD COLUMN unheard INTEGER NOT NULL DEFAULT 0;
ALTER TABLE server ADD COLUMN adopt INTEGER NOT NULL DEFAULT 0;

-- Rows of `setting` from now on: epoch, when (milliseconds since 1970) the database was last found to be an
-- older copy; keep_until, until when nothing is removed because of that, 0: over; last_namespace and
-- last_server: numbers up to these were used.
