-- SPDX-License-Identifier: Apache-2.0
-- Migration 1 of the metadata server's database. Later ones are 2.sql, 3.sql, …, each listed in
-- store_sqlite_open.c; an applied one is never edited.
--
-- Conventions. The namespace id leads every table of a namespace. SJIDs, node ids and times are 64-bit
-- integers. A row of the tree lives in the half-open interval [from_sjid, to_sjid); open rows (to_sjid
-- infinite, the current state) are in the table NAME, closed ones in NAME_past, so that what is read
-- and changed all the time stays small however long the history grows. For one key no two intervals
-- overlap, and no closed row has from_sjid = to_sjid.

-- Small values of the installation. Holds: next_device, next_root (node counters of device 0).
CREATE TABLE setting (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- Administrators. Only the SHA-256 of a credential's secret is kept, here and everywhere below.
CREATE TABLE admin (
    id INTEGER PRIMARY KEY,
    secret_hash BLOB NOT NULL
);

-- version rises with every change of memberships, mounts or assignments that the account can see.
CREATE TABLE account (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    root_ns INTEGER NOT NULL,
    version INTEGER NOT NULL
);

-- id is the device number (23 bits), never used twice. incarnation: of the state directory, recorded
-- by the first session. revoked_ms: 0 while it may work.
CREATE TABLE device (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL,
    name TEXT NOT NULL,
    secret_hash BLOB NOT NULL,
    incarnation BLOB,
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX device_of_account ON device (account);
CREATE INDEX device_revoked ON device (revoked_ms) WHERE revoked_ms > 0;

-- Unused one-time tokens: a row is removed when its token is used. kind 1: login of a device under
-- account; 2: join of a block server at premises.
CREATE TABLE token (
    hash BLOB PRIMARY KEY,
    kind INTEGER NOT NULL,
    account INTEGER NOT NULL,
    premises TEXT NOT NULL,
    expires_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- Block servers. generation rises with every new incarnation (a storage loss): presence recorded under
-- an older one does not count.
CREATE TABLE server (
    id INTEGER PRIMARY KEY,
    premises TEXT NOT NULL,
    url TEXT NOT NULL,
    secret_hash BLOB NOT NULL,
    mac_key BLOB NOT NULL,
    key_id INTEGER NOT NULL,
    incarnation BLOB NOT NULL,
    generation INTEGER NOT NULL,
    blocks INTEGER NOT NULL DEFAULT 0,
    used_bytes INTEGER NOT NULL DEFAULT 0,
    free_bytes INTEGER NOT NULL DEFAULT 0,
    beat_ms INTEGER NOT NULL DEFAULT 0
);

-- head: newest SJID (0: only the root exists). Every SJID in [floor, head] can be read. used_bytes: sum
-- of len of the open extents; used_nodes: open inodes without the root. 0 in a quota: none.
CREATE TABLE namespace (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    root INTEGER NOT NULL,
    head INTEGER NOT NULL DEFAULT 0,
    floor INTEGER NOT NULL DEFAULT 0,
    quota_bytes INTEGER NOT NULL DEFAULT 0,
    quota_nodes INTEGER NOT NULL DEFAULT 0,
    used_bytes INTEGER NOT NULL DEFAULT 0,
    used_nodes INTEGER NOT NULL DEFAULT 0,
    copies_min INTEGER NOT NULL DEFAULT 0,
    fixed_cuts INTEGER NOT NULL DEFAULT 0
);

-- Roles (enum role), never 0. Every namespace has an owner.
CREATE TABLE member (
    ns INTEGER NOT NULL,
    account INTEGER NOT NULL,
    role INTEGER NOT NULL,
    PRIMARY KEY (ns, account)
) WITHOUT ROWID;
CREATE INDEX member_of_account ON member (account, ns);

-- Which block servers a namespace may use; priority 0 is tried first.
CREATE TABLE assignment (
    ns INTEGER NOT NULL,
    server INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    PRIMARY KEY (ns, server)
) WITHOUT ROWID;

-- Where an account sees a shared namespace: node is the open mount node in the account's root
-- namespace ns. At most one per (account, target).
CREATE TABLE mount (
    ns INTEGER NOT NULL,
    node INTEGER NOT NULL,
    target INTEGER NOT NULL,
    PRIMARY KEY (ns, node),
    UNIQUE (ns, target)
) WITHOUT ROWID;

-- One row per version of a node. content_rev, attr_rev: SJID of the last change of that facet. nlink,
-- stored and xattrs are computed here: names (directory: 2 + subdirectories), sum of open extents'
-- len, number of open xattrs.
CREATE TABLE inode (
    ns INTEGER NOT NULL,
    node INTEGER NOT NULL,
    from_sjid INTEGER NOT NULL,
    type INTEGER NOT NULL,
    mode INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    rdev INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    ctime INTEGER NOT NULL,
    nlink INTEGER NOT NULL,
    content_rev INTEGER NOT NULL,
    attr_rev INTEGER NOT NULL,
    target BLOB,
    target_ns INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    xattrs INTEGER NOT NULL,
    PRIMARY KEY (ns, node)
) WITHOUT ROWID;
CREATE TABLE inode_past (
    ns INTEGER NOT NULL,
    node INTEGER NOT NULL,
    from_sjid INTEGER NOT NULL,
    to_sjid INTEGER NOT NULL,
    type INTEGER NOT NULL,
    mode INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    rdev INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    ctime INTEGER NOT NULL,
    nlink INTEGER NOT NULL,
    content_rev INTEGER NOT NULL,
    attr_rev INTEGER NOT NULL,
    target BLOB,
    target_ns INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    xattrs INTEGER NOT NULL,
    PRIMARY KEY (ns, node, to_sjid)
) WITHOUT ROWID;

-- Names. from_sjid is the entry's revision. An open entry's parent and node are open inodes; parent is
-- a directory; an open directory but the root has exactly one open entry.
CREATE TABLE entry (
    ns INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    name BLOB NOT NULL,
    from_sjid INTEGER NOT NULL,
    node INTEGER NOT NULL,
    type INTEGER NOT NULL,
    PRIMARY KEY (ns, parent, name)
) WITHOUT ROWID;
CREATE INDEX entry_of_node ON entry (ns, node);
CREATE TABLE entry_past (
    ns INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    name BLOB NOT NULL,
    from_sjid INTEGER NOT NULL,
    to_sjid INTEGER NOT NULL,
    node INTEGER NOT NULL,
    type INTEGER NOT NULL,
    PRIMARY KEY (ns, parent, name, to_sjid)
) WITHOUT ROWID;
-- What changed in a directory lately: a listing near the head touches only this.
CREATE INDEX entry_past_lately ON entry_past (ns, parent, to_sjid);

-- Extended attributes; from_sjid is the revision.
CREATE TABLE xattr (
    ns INTEGER NOT NULL,
    node INTEGER NOT NULL,
    name BLOB NOT NULL,
    from_sjid INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (ns, node, name)
) WITHOUT ROWID;
CREATE TABLE xattr_past (
    ns INTEGER NOT NULL,
    node INTEGER NOT NULL,
    to_sjid INTEGER NOT NULL,
    name BLOB NOT NULL,
    from_sjid INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (ns, node, to_sjid, name)
) WITHOUT ROWID;

-- What a file consists of: open rows of a node do not overlap and end at its size or before. The past
-- is ordered by the end of the interval: a read near the head touches what changed since.
CREATE TABLE extent (
    ns INTEGER NOT NULL,
    node INTEGER NOT NULL,
    off INTEGER NOT NULL,
    from_sjid INTEGER NOT NULL,
    len INTEGER NOT NULL,
    block BLOB NOT NULL,
    block_off INTEGER NOT NULL,
    PRIMARY KEY (ns, node, off)
) WITHOUT ROWID;
CREATE TABLE extent_past (
    ns INTEGER NOT NULL,
    node INTEGER NOT NULL,
    to_sjid INTEGER NOT NULL,
    off INTEGER NOT NULL,
    from_sjid INTEGER NOT NULL,
    len INTEGER NOT NULL,
    block BLOB NOT NULL,
    block_off INTEGER NOT NULL,
    PRIMARY KEY (ns, node, to_sjid, off)
) WITHOUT ROWID;

-- Blocks that the namespace refers or referred to; len is the logical length, known from a receipt.
-- Every block of an extent has a row.
CREATE TABLE block (
    ns INTEGER NOT NULL,
    block BLOB NOT NULL,
    len INTEGER NOT NULL,
    PRIMARY KEY (ns, block)
) WITHOUT ROWID;

-- Where blocks are durable for this namespace. Counts while generation is the server's.
CREATE TABLE presence (
    ns INTEGER NOT NULL,
    block BLOB NOT NULL,
    server INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (ns, block, server)
) WITHOUT ROWID;

-- The server journal: one encoded m_record per commit, SJIDs floor + 1 … head without gaps.
CREATE TABLE journal (
    ns INTEGER NOT NULL,
    sjid INTEGER NOT NULL,
    device INTEGER NOT NULL,
    request INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (ns, sjid)
);

-- Final answers (committed, conflict, refused) under their request number, until the device has
-- acknowledged them; answer is an encoded m_commit_ans, hash the SHA-256 of the encoded changes.
CREATE TABLE request (
    ns INTEGER NOT NULL,
    device INTEGER NOT NULL,
    request INTEGER NOT NULL,
    hash BLOB NOT NULL,
    status INTEGER NOT NULL,
    sjid INTEGER NOT NULL,
    answer BLOB NOT NULL,
    PRIMARY KEY (ns, device, request)
) WITHOUT ROWID;

-- Per device and namespace: what it has acknowledged (numbers below lowest_open are settled and never
-- run again), and the highest request number and node counter seen of it.
CREATE TABLE peer (
    ns INTEGER NOT NULL,
    device INTEGER NOT NULL,
    lowest_open INTEGER NOT NULL,
    highest_request INTEGER NOT NULL,
    highest_node INTEGER NOT NULL,
    PRIMARY KEY (ns, device)
) WITHOUT ROWID;

-- Parts of commits too large for one message; gone with the final answer.
CREATE TABLE stage (
    ns INTEGER NOT NULL,
    device INTEGER NOT NULL,
    request INTEGER NOT NULL,
    part INTEGER NOT NULL,
    changes BLOB NOT NULL,
    PRIMARY KEY (ns, device, request, part)
);
