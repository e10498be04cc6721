-- SPDX-License-Identifier: Apache-2.0
-- Migration 13: how much is where is known without counting it; what a namespace has left on disks; work
-- that is done in steps.

-- Different blocks of the namespace, and their bytes, that are present at the server under that
-- generation; server 0, generation 0: all that it has. Kept by the triggers below, so always exact.
CREATE TABLE held (
    ns INTEGER NOT NULL,
    server INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    blocks INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (ns, server, generation)
) WITHOUT ROWID;
INSERT INTO held (ns, server, generation, blocks, bytes)
    SELECT ns, 0, 0, count(*), sum(len) FROM block GROUP BY ns;
INSERT INTO held (ns, server, generation, blocks, bytes)
    SELECT p.ns, p.server, p.generation, count(*), sum(b.len)
        FROM presence AS p JOIN block AS b ON b.ns = p.ns AND b.block = p.block
        GROUP BY p.ns, p.server, p.generation;

-- A block's length never changes, and its row comes before presence of it and goes after.
CREATE TRIGGER block_comes AFTER INSERT ON block BEGIN
    INSERT INTO held (ns, server, generation, blocks, bytes) VALUES (NEW.ns, 0, 0, 1, NEW.len)
        ON CONFLICT DO UPDATE SET blocks = blocks + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER block_goes AFTER DELETE ON block BEGIN
    UPDATE held SET blocks = blocks - 1, bytes = bytes - OLD.len
        WHERE ns = OLD.ns AND server = 0 AND generation = 0;
END;
CREATE TRIGGER presence_comes AFTER INSERT ON presence BEGIN
    INSERT INTO held (ns, server, generation, blocks, bytes)
        SELECT NEW.ns, NEW.server, NEW.generation, 1, len FROM block
            WHERE ns = NEW.ns AND block = NEW.block
        ON CONFLICT DO UPDATE SET blocks = blocks + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER presence_goes AFTER DELETE ON presence BEGIN
    UPDATE held SET blocks = blocks - 1, bytes = bytes -
        (SELECT len FROM block WHERE ns = OLD.ns AND block = OLD.block)
        WHERE ns = OLD.ns AND server = OLD.server AND generation = OLD.generation;
END;
CREATE TRIGGER presence_changes AFTER UPDATE OF generation ON presence
WHEN OLD.generation <> NEW.generation BEGIN
    UPDATE held SET blocks = blocks - 1, bytes = bytes -
        (SELECT len FROM block WHERE ns = OLD.ns AND block = OLD.block)
        WHERE ns = OLD.ns AND server = OLD.server AND generation = OLD.generation;
    INSERT INTO held (ns, server, generation, blocks, bytes)
        SELECT NEW.ns, NEW.server, NEW.generation, 1, len FROM block
            WHERE ns = NEW.ns AND block = NEW.block
        ON CONFLICT DO UPDATE SET blocks = blocks + 1, bytes = bytes + excluded.bytes;
END;

-- The namespace has left the server, at since_ms, and there is presence of it there still, or an order to
-- remove something. A grace time later it is removed, as far as the servers that it has now have it too:
-- blocks up to `after` were looked at; kept: some had to stay.
CREATE TABLE parted (
    ns INTEGER NOT NULL,
    server INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    after BLOB NOT NULL DEFAULT x'',
    kept INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (ns, server)
) WITHOUT ROWID;
INSERT INTO parted (ns, server, since_ms)
    SELECT DISTINCT ns, server, CAST(strftime('%s', 'now') AS INTEGER) * 1000 FROM held
        WHERE server > 0 AND NOT EXISTS (SELECT 1 FROM assignment AS a
            WHERE a.ns = held.ns AND a.server = held.server);

-- What `lack` and `complete` say of the server is not to be read any more, and is being removed. (Rows of
-- `lack` are true all the same: one that is assigned again keeps those that are left.)
CREATE TABLE unlack (
    ns INTEGER NOT NULL,
    server INTEGER NOT NULL,
    PRIMARY KEY (ns, server)
) WITHOUT ROWID;

-- How far it was looked for something that keeps a leaving server: `stay` says at which others; none of
-- what they lack before (place, block) is only there. Gone when more may be lacking there.
CREATE TABLE leave_look (
    ns INTEGER NOT NULL,
    server INTEGER NOT NULL,
    stay BLOB NOT NULL,
    place INTEGER NOT NULL,
    block BLOB NOT NULL,
    PRIMARY KEY (ns, server)
) WITHOUT ROWID;
