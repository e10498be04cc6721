-- SPDX-License-Identifier: Apache-2.0
-- Block n was taken in by its bytes alone (after the index was lost, or back from DIR/corrupt): whose
-- it is was not known then. While the row is there, a namespace that the metadata server says lacks
-- the block here may have it.
CREATE TABLE unclaimed (
    n INTEGER PRIMARY KEY REFERENCES block (n)
);
