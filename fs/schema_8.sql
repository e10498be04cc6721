-- SPDX-License-Identifier: Apache-2.0
-- The local tree, version 8: which commits of our own an unclean end can have made the tree
-- forget.

-- planned: the newest number planned for the namespace. Numbers behind lost_from (what planned was at the
-- last unclean start) and below lost_to were maybe planned without the tree's knowing; what was pending then
-- is older than they. Any other that is not in `sent` was settled, or given up: what is pending is newer.
ALTER TABLE ns ADD COLUMN planned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ns ADD COLUMN lost_from INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ns ADD COLUMN lost_to INTEGER NOT NULL DEFAULT 0;
UPDATE ns SET lost_to = coalesce((SELECT value FROM meta WHERE key = 'request_limit'), 0);

-- again: new to the server, as far as is known, but it had heard of the node: whoever knows it makes it
-- again, or a commit that was given up did. So it says nothing of what the tree has forgotten.
ALTER TABLE node ADD COLUMN again INTEGER NOT NULL DEFAULT 0;
UPDATE node SET again = 1 WHERE ((pend | sent) & 1) != 0;
