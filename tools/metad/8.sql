-- SPDX-License-Identifier: Apache-2.0
-- Migration 8: two mounts of one state directory are told apart.

-- How often the device's state directory was opened, and by whom last (a random number): a second one
-- that says the same number is a copy. 0: not told yet.
ALTER TABLE device ADD COLUMN starts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE device ADD COLUMN run INTEGER NOT NULL DEFAULT 0;
