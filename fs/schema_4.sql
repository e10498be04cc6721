-- SPDX-License-Identifier: Apache-2.0
-- The local tree, version 4: a directory that has no name here may get one again.

-- links: of a directory without a name here that the server has, what the server counts; otherwise 0. Its own
-- count (nlink) is 0 then, and what is pending in it is not in this one.
ALTER TABLE node ADD COLUMN links INTEGER NOT NULL DEFAULT 0;
