-- SPDX-License-Identifier: Apache-2.0
-- The local tree, version 5: how long what is under way has been pending.

-- since: when the oldest change that the commit carries was made (ns); 0: not known.
ALTER TABLE sent ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
