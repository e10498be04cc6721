-- SPDX-License-Identifier: Apache-2.0
-- The local tree, version 1. Every known row is the namespace as of its cursor, plus what is pending.

CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- hold: nothing is sent before the cursor has reached it (after a conflict, after an unclean start).
-- unclean: nothing was planned since an unclean start.
CREATE TABLE ns(
    id INTEGER PRIMARY KEY, name BLOB NOT NULL, root INTEGER NOT NULL, role INTEGER NOT NULL,
    cursor INTEGER NOT NULL, head INTEGER NOT NULL, hold INTEGER NOT NULL DEFAULT 0,
    unclean INTEGER NOT NULL DEFAULT 0,
    fixed_cuts INTEGER NOT NULL DEFAULT 0, copies_min INTEGER NOT NULL DEFAULT 0,
    member INTEGER NOT NULL DEFAULT 1);

-- A loaded node. pend: FACET_ bits changed here and not sent; sent: those that the unanswered or
-- unsettled `request` carries. content_rev, attr_rev: the server's revisions this state is based on.
-- Directories: every name <= loaded_upto is known, all of them when complete. xattrs_known: all are here.
-- Extents not covered by `known` are those of node `src` as of SJID src_at (0: of the node itself, now; the
-- node itself: it is gone, and so are its xattrs those of then).
-- since: when the oldest pending change was made; changed: the newest (ns). parked: -errno of a refusal;
-- errno of one that was let go since.
-- gone: the server has removed it, but it lives on here: whatever is sent of it brings it a name. 2: it may have had another
-- content by then.
-- old: those of pend that were pending already at the last unclean start and not changed since: a commit of
-- our own that the tree has forgotten is newer than they.
CREATE TABLE node(
    id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, type INTEGER NOT NULL, mode INTEGER NOT NULL,
    uid INTEGER NOT NULL, gid INTEGER NOT NULL, rdev INTEGER NOT NULL, size INTEGER NOT NULL,
    mtime INTEGER NOT NULL, ctime INTEGER NOT NULL, atime INTEGER NOT NULL, nlink INTEGER NOT NULL,
    stored INTEGER NOT NULL, target BLOB, target_ns INTEGER NOT NULL,
    content_rev INTEGER NOT NULL, attr_rev INTEGER NOT NULL,
    complete INTEGER NOT NULL, loaded_upto BLOB, xattrs_known INTEGER NOT NULL,
    src INTEGER NOT NULL, src_at INTEGER NOT NULL,
    pend INTEGER NOT NULL, sent INTEGER NOT NULL, old INTEGER NOT NULL, request INTEGER NOT NULL,
    since INTEGER NOT NULL, changed INTEGER NOT NULL,
    parked INTEGER NOT NULL, conflict INTEGER NOT NULL, tries INTEGER NOT NULL,
    gone INTEGER NOT NULL);
CREATE INDEX node_pending ON node(ns, since) WHERE pend != 0;
CREATE INDEX node_request ON node(request) WHERE request != 0;
CREATE INDEX node_orphan ON node(id) WHERE nlink = 0;
CREATE INDEX node_parked ON node(ns) WHERE parked != 0;
CREATE INDEX node_conflict ON node(ns) WHERE conflict != 0;

-- A known name. Its directory is loaded, or the record that gave a loaded node this name came before it.
-- node 0: known to be absent. id is the readdir cookie. base_node, base_rev: the server's
-- as of the cursor. pend: differs from what the server has or was sent; request: sent as sent_node, based on
-- sent_base (not base_node: then others changed the name meanwhile, and the answer decides).
-- old: as in node.
CREATE TABLE entry(
    id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, parent INTEGER NOT NULL, name BLOB NOT NULL,
    node INTEGER NOT NULL, type INTEGER NOT NULL, base_node INTEGER NOT NULL, base_type INTEGER NOT NULL,
    base_rev INTEGER NOT NULL, pend INTEGER NOT NULL, old INTEGER NOT NULL, request INTEGER NOT NULL,
    sent_node INTEGER NOT NULL, sent_base INTEGER NOT NULL, since INTEGER NOT NULL);
CREATE UNIQUE INDEX entry_name ON entry(parent, name);
CREATE INDEX entry_list ON entry(parent) WHERE node != 0;
CREATE INDEX entry_node ON entry(node) WHERE node != 0;
CREATE INDEX entry_base ON entry(base_node) WHERE base_node != 0 AND base_node != node;
CREATE INDEX entry_sent ON entry(sent_node) WHERE request != 0;
CREATE INDEX entry_pending ON entry(ns, since) WHERE pend != 0;
CREATE INDEX entry_pending_parent ON entry(parent) WHERE pend != 0 OR request != 0;
CREATE INDEX entry_request ON entry(request) WHERE request != 0;

-- Extents of a file that are known; no two of a node overlap.
CREATE TABLE extent(
    node INTEGER NOT NULL, off INTEGER NOT NULL, len INTEGER NOT NULL,
    block BLOB NOT NULL, block_off INTEGER NOT NULL, PRIMARY KEY(node, off)) WITHOUT ROWID;
CREATE INDEX extent_block ON extent(block);

-- Ranges [off, end) of three kinds, none of a kind touching another: 0 changed and not sent, 1 sent and
-- not settled, 2 known (what extent says there is true, holes included).
CREATE TABLE span(
    node INTEGER NOT NULL, kind INTEGER NOT NULL, off INTEGER NOT NULL, end INTEGER NOT NULL,
    PRIMARY KEY(node, kind, off)) WITHOUT ROWID;

-- value NULL: removed here, not yet settled. old: as in node.
CREATE TABLE xattr(
    node INTEGER NOT NULL, name BLOB NOT NULL, value BLOB, rev INTEGER NOT NULL,
    pend INTEGER NOT NULL, request INTEGER NOT NULL, old INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY(node, name)) WITHOUT ROWID;
CREATE INDEX xattr_pending ON xattr(node) WHERE pend != 0 OR request != 0;

-- Commits sent and not settled: exactly what was sent under the number, planned at cursor. sjid: set once
-- committed.
CREATE TABLE sent(
    request INTEGER PRIMARY KEY, ns INTEGER NOT NULL, changes BLOB NOT NULL, sjid INTEGER NOT NULL,
    cursor INTEGER NOT NULL);
