// SPDX-License-Identifier: Apache-2.0
/* How: the damaged tree is copied so that SQLite opens it (dbrescue.h). What is pending or sent is
 * looked up by the indexes that list it, or, where one of those is damaged, by reading the table
 * from both ends. Of each such node and name its rows are copied as they are, and so are the
 * directories above it: what a tree knows is the namespace as of its cursor plus what is pending,
 * and stays true when the rest of what it knew is forgotten. So directories count as not loaded,
 * clean files have no extents, and the journal goes on from the same cursor.
 *
 * Where anything could not be read, doubt is on the side of keeping: a removal may have been half
 * of a rename, so removed names come back; what lost its name or its directory gets one in the
 * namespace's top directory. Numbers given out go on well behind every one that was seen, and the
 * start counts as unclean: the journal is read before anything is sent.
 */
#include "salvage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blocks.h"
#include "core.h"
#include "dbrescue.h"
#include "tree.h"

#define NUMBERS_AHEAD (1ll << 20)     /* beyond the limits that could be read */
#define NUMBERS_FAR_AHEAD (1ll << 32) /* … where they could not */
#define DIRS_MAX 1000
#define BLOCKS_STEP 256

enum table { T_NS, T_META, T_SENT, T_NODE, T_ENTRY, T_EXTENT, T_SPAN, T_XATTR, TABLES };
static const struct {
    const char *name, *order;
    uint64_t not_integers; /* columns that hold something else, by position */
} tables[TABLES] = {
    [T_NS] = {"ns", "id", 1u << 1},          [T_META] = {"meta", "key", ~0u},
    [T_SENT] = {"sent", "request", 1u << 2}, [T_NODE] = {"node", "id", 1u << 13 | 1u << 18},
    [T_ENTRY] = {"entry", "id", 1u << 3},    [T_EXTENT] = {"extent", "off", 1u << 3},
    [T_SPAN] = {"span", "kind, off", 0},     [T_XATTR] = {"xattr", "name", 1u << 1 | 1u << 2},
};

struct salvage {
    sqlite3 *src, *dst;
    sqlite3_stmt *insert[TABLES];
    FILE *report;
    struct salvage_result *out;
    bool doubt; /* something could not be read */
    int err;    /* of the new tree: nothing can be done about it */
};

static void note(struct salvage *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void note(struct salvage *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (s->report) {
        vfprintf(s->report, fmt, ap);
        fputc('\n', s->report);
    }
    va_end(ap);
}

static void run(struct salvage *s, const char *sql)
{
    if (!s->err && sqlite3_exec(s->dst, sql, NULL, NULL, NULL) != SQLITE_OK) {
        note(s, "%s: %s", sqlite3_errmsg(s->dst), sql);
        s->err = -EIO;
    }
}

/* A number out of the new tree; 0 if there is none. */
static int64_t value(struct salvage *s, const char *sql)
{
    sqlite3_stmt *st = NULL;
    int64_t v = 0;
    if (sqlite3_prepare_v2(s->dst, sql, -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW)
        v = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return v;
}

/* ---- rows ---- */
static bool blob_of(sqlite3_stmt *row, int col, int min, int max)
{
    int n = sqlite3_column_bytes(row, col);
    return sqlite3_column_type(row, col) == SQLITE_BLOB && n >= min && n <= max;
}

/* Whether the row can be one: a flipped bit may have made a number of a name. */
static bool row_sound(enum table t, sqlite3_stmt *row)
{
    for (int i = 0; i < sqlite3_column_count(row); i++)
        if (!(tables[t].not_integers >> i & 1) && sqlite3_column_type(row, i) != SQLITE_INTEGER)
            return false;
    switch (t) {
    case T_NS:
        return sqlite3_column_int64(row, 0) > 0 && sqlite3_column_int64(row, 2) > 0 &&
               sqlite3_column_int64(row, 4) >= 0;
    case T_NODE:
        return sqlite3_column_int64(row, 2) >= NODE_REG &&
               sqlite3_column_int64(row, 2) <= NODE_MOUNT && sqlite3_column_int64(row, 7) >= 0;
    case T_ENTRY:
        return blob_of(row, 3, 1, NAME_LEN_MAX) && sqlite3_column_int64(row, 2) > 0;
    case T_EXTENT:
        return blob_of(row, 3, BLOCK_ID_LEN, BLOCK_ID_LEN) && sqlite3_column_int64(row, 1) >= 0 &&
               sqlite3_column_int64(row, 2) > 0 && sqlite3_column_int64(row, 4) >= 0;
    case T_SPAN:
        return sqlite3_column_int64(row, 1) >= 0 && sqlite3_column_int64(row, 1) <= 2 &&
               sqlite3_column_int64(row, 2) < sqlite3_column_int64(row, 3);
    case T_XATTR:
        return blob_of(row, 1, 1, XATTR_NAME_MAX);
    default:
        return true;
    }
}

/* The statement that inserts what row has, by the names of its columns: those that this schema has
 * too. */
static int insert_prepare(struct salvage *s, enum table t, sqlite3_stmt *row)
{
    char names[1024] = "", values[512] = "", sql[1700];
    size_t a = 0, b = 0;
    for (int i = 0; i < sqlite3_column_count(row); i++) {
        const char *name = sqlite3_column_name(row, i);
        if (sqlite3_table_column_metadata(s->dst, "main", tables[t].name, name, NULL, NULL, NULL,
                                          NULL, NULL) != SQLITE_OK)
            continue;
        a += (size_t)snprintf(names + a, sizeof names - a, "%s\"%.40s\"", a ? ", " : "", name);
        b += (size_t)snprintf(values + b, sizeof values - b, "%s?%d", b ? ", " : "", i + 1);
        if (a >= sizeof names - 50 || b >= sizeof values - 10)
            return SQLITE_TOOBIG;
    }
    snprintf(sql, sizeof sql, "INSERT OR IGNORE INTO main.%s(%s) VALUES(%s)", tables[t].name, names,
             values);
    return sqlite3_prepare_v2(s->dst, sql, -1, &s->insert[t], NULL);
}

static void row_put(struct salvage *s, enum table t, sqlite3_stmt *row)
{
    if (!s->insert[t] && insert_prepare(s, t, row) != SQLITE_OK) {
        note(s, "%s: %s", tables[t].name, sqlite3_errmsg(s->dst));
        s->err = -EIO;
        return;
    }
    for (int i = 0; i < sqlite3_column_count(row); i++)
        sqlite3_bind_value(s->insert[t], i + 1, sqlite3_column_value(row, i));
    if (sqlite3_step(s->insert[t]) != SQLITE_DONE)
        s->err = sqlite3_errcode(s->dst) == SQLITE_FULL ? -ENOSPC : -EIO;
    sqlite3_reset(s->insert[t]);
}

/* A piece of the file is lost: what is left would be sent as if it were all. */
static void content_park(struct salvage *s, int64_t node)
{
    char sql[128];
    snprintf(sql, sizeof sql, "UPDATE main.node SET parked = %d WHERE id = %lld", -EIO,
             (long long)node);
    run(s, sql);
}

/* Copies the rows that `where` selects: from one end, and what lies behind a damaged place from the
 * other. Returns how many rows there were. */
static size_t rows_copy(struct salvage *s, enum table t, const char *where, int64_t key)
{
    size_t n = 0;
    int rc = SQLITE_OK;
    for (int back = 0; back < 2 && rc != SQLITE_DONE && !s->err; back++) {
        char sql[512];
        sqlite3_stmt *st = NULL;
        snprintf(sql, sizeof sql, "SELECT * FROM %s WHERE %s ORDER BY %s%s", tables[t].name, where,
                 tables[t].order, back ? " DESC" : "");
        rc = sqlite3_prepare_v2(s->src, sql, -1, &st, NULL);
        if (rc == SQLITE_OK)
            sqlite3_bind_int64(st, 1, key);
        while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW && !s->err) {
            rc = SQLITE_OK;
            if (row_sound(t, st)) {
                row_put(s, t, st);
                n++;
            } else {
                s->doubt = true;
                note(s, "a row of %s (key %lld) makes no sense", tables[t].name, (long long)key);
                if (t == T_EXTENT)
                    content_park(s, key);
            }
        }
        sqlite3_finalize(st);
        if (rc != SQLITE_DONE && !s->err) {
            s->doubt = true;
            if (!back)
                note(s, "%s (key %lld): %s", tables[t].name, (long long)key,
                     sqlite3_errmsg(s->src));
        }
    }
    return n;
}

/* ---- what is pending ---- */
/* Nodes that are to be in the new tree. */
static void want(struct salvage *s, int64_t id)
{
    char sql[96];
    if (id <= 0)
        return;
    snprintf(sql, sizeof sql, "INSERT OR IGNORE INTO want(id, done) VALUES(%lld, 0)",
             (long long)id);
    run(s, sql);
}

static bool wants_of(struct salvage *s, const char *sql)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(s->src, sql, -1, &st, NULL);
    while (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        want(s, sqlite3_column_int64(st, 0));
        rc = SQLITE_OK;
    }
    sqlite3_finalize(st);
    return rc == SQLITE_DONE;
}

#define PENDING_NODE "(pend != 0 OR request != 0 OR parked != 0)"

static void pending_find(struct salvage *s)
{
    bool changed = wants_of(s, "SELECT id FROM node WHERE pend != 0");
    bool sent = wants_of(s, "SELECT id FROM node WHERE request != 0");
    bool parked = wants_of(s, "SELECT id FROM node WHERE parked != 0");
    if (!changed || !sent || !parked) { /* an index is damaged: the table itself, from both ends */
        s->doubt = true;
        note(s, "the lists of pending changes: %s", sqlite3_errmsg(s->src));
        if (!wants_of(s, "SELECT id FROM node NOT INDEXED WHERE " PENDING_NODE " ORDER BY id"))
            wants_of(s, "SELECT id FROM node NOT INDEXED WHERE " PENDING_NODE " ORDER BY id DESC");
    }
    bool doubt = s->doubt;
    s->doubt = false;
    rows_copy(s, T_ENTRY, "pend != 0 AND ?1 = ?1", 0);
    rows_copy(s, T_ENTRY, "request != 0 AND ?1 = ?1", 0);
    s->doubt |= doubt;
    run(s, "INSERT OR IGNORE INTO want SELECT parent, 0 FROM main.entry;"
           "INSERT OR IGNORE INTO want SELECT node, 0 FROM main.entry WHERE node != 0;"
           "INSERT OR IGNORE INTO want SELECT base_node, 0 FROM main.entry WHERE base_node != 0;"
           "INSERT OR IGNORE INTO want SELECT sent_node, 0 FROM main.entry WHERE sent_node != 0");
    run(s, "INSERT OR IGNORE INTO want SELECT root, 0 FROM main.ns");
}

/* A node with what belongs to it, and the directories above. */
static void node_copy(struct salvage *s, int64_t id)
{
    char sql[256];
    if (rows_copy(s, T_NODE, "id = ?1", id) == 0)
        note(s, "node %lld is not there, or cannot be read", (long long)id);
    rows_copy(s, T_ENTRY, "node = ?1", id);
    rows_copy(s, T_ENTRY, "base_node = ?1 AND base_node != 0 AND base_node != node", id);
    snprintf(sql, sizeof sql,
             "SELECT (pend | sent) & %u FROM main.node WHERE id = %lld AND type = %d", FACET_CREATE,
             (long long)id, NODE_DIR);
    if (value(s, sql)) /* made here: all of its names are known here and nowhere else */
        rows_copy(s, T_ENTRY, "parent = ?1", id);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM main.node WHERE id = %lld AND " PENDING_NODE,
             (long long)id);
    if (value(s, sql)) {
        rows_copy(s, T_EXTENT, "node = ?1", id);
        rows_copy(s, T_SPAN, "node = ?1", id);
        rows_copy(s, T_XATTR, "node = ?1", id);
    }
    snprintf(sql, sizeof sql,
             "INSERT OR IGNORE INTO want SELECT parent, 0 FROM main.entry WHERE node = %lld OR"
             " base_node = %lld; UPDATE want SET done = 1 WHERE id = %lld",
             (long long)id, (long long)id, (long long)id);
    run(s, sql);
}

static void nodes_copy(struct salvage *s)
{
    int64_t id;
    while (!s->err && (id = value(s, "SELECT id FROM want WHERE done = 0 LIMIT 1")) != 0)
        node_copy(s, id);
}

/* ---- the new tree ---- */
/* What could not be read must not take anything along. */
static void doubts_settle(struct salvage *s)
{
    int64_t before = value(s, "SELECT count(*) FROM main.entry WHERE pend != 0 AND node = 0"
                              " AND request = 0");
    run(s, "DELETE FROM main.entry WHERE node = 0 AND request = 0");
    if (before)
        note(s, "%lld removed names come back: their removal may have been half of a rename",
             (long long)before);
}

/* What lost its name or its directory gets one in the top directory. */
static void orphans_name(struct salvage *s)
{
    static const char name[] = "CAST('recovered-' || printf('%x', n.id) AS BLOB)";
    char sql[900];
    run(s, "CREATE TEMP TABLE orphan AS SELECT e.node AS id FROM main.entry e WHERE e.node != 0"
           " AND NOT EXISTS (SELECT 1 FROM main.node p WHERE p.id = e.parent);"
           "DELETE FROM main.entry WHERE NOT EXISTS"
           " (SELECT 1 FROM main.node p WHERE p.id = entry.parent);"
           "INSERT INTO orphan SELECT n.id FROM main.node n WHERE (n.pend | n.sent) & 1 AND "
           "n.nlink > 0"
           " AND n.id NOT IN (SELECT root FROM main.ns)"
           " AND NOT EXISTS (SELECT 1 FROM main.entry e WHERE e.node = n.id);"
           "DELETE FROM orphan WHERE id NOT IN (SELECT id FROM main.node WHERE (pend | sent) & 1)");
    snprintf(sql, sizeof sql,
             "INSERT OR IGNORE INTO main.entry(ns, parent, name, node, type, base_node, base_type,"
             " base_rev, pend, old, request, sent_node, sent_base, since)"
             " SELECT n.ns, s.root, %s, n.id, n.type, 0, 0, 0, 1, 0, 0, 0, 0, max(n.since, 2)"
             " FROM (SELECT DISTINCT id FROM orphan) JOIN main.node n USING(id)"
             " JOIN main.ns s ON s.id = n.ns",
             name);
    run(s, sql);
    s->out->recovered = (size_t)value(s, "SELECT count(*) FROM main.entry WHERE substr(name, 1, 10)"
                                         " = CAST('recovered-' AS BLOB) AND pend != 0");
    run(s, "UPDATE main.node SET nlink = (SELECT count(*) FROM main.entry e WHERE e.node = node.id)"
           " WHERE id IN (SELECT id FROM orphan)");
}

/* Everything that is neither pending nor on the way to it is as if it had never been loaded. */
static void forget(struct salvage *s)
{
    run(s, "DELETE FROM main.entry WHERE node != 0 AND pend != 0 AND node NOT IN"
           " (SELECT id FROM main.node)");
    run(s, "DELETE FROM main.entry WHERE ns NOT IN (SELECT id FROM main.ns);"
           "DELETE FROM main.node WHERE ns NOT IN (SELECT id FROM main.ns);"
           "DELETE FROM main.sent WHERE ns NOT IN (SELECT id FROM main.ns)");
    run(s, "DELETE FROM main.node WHERE pend = 0 AND request = 0 AND parked = 0"
           " AND id NOT IN (SELECT root FROM main.ns)"
           " AND id NOT IN (SELECT parent FROM main.entry)"
           " AND id NOT IN (SELECT node FROM main.entry)"
           " AND id NOT IN (SELECT base_node FROM main.entry)"
           " AND id NOT IN (SELECT sent_node FROM main.entry)");
    run(s, "UPDATE main.node SET complete = 0, loaded_upto = NULL WHERE type = 2"
           " AND ((pend | sent) & 1) = 0;"
           "UPDATE main.node SET xattrs_known = 0 WHERE pend = 0 AND request = 0 AND parked = 0;"
           "DELETE FROM main.entry WHERE node = 0 AND pend = 0 AND request = 0");
}

static void numbers(struct salvage *s, uint32_t device)
{
    char sql[700];
    for (int k = 0; k < 2; k++) {
        const char *key = k ? "node_limit" : "request_limit";
        snprintf(sql, sizeof sql,
                 "SELECT typeof(value) = 'integer' FROM main.meta WHERE key = '%s'", key);
        int64_t ahead = value(s, sql) ? NUMBERS_AHEAD : NUMBERS_FAR_AHEAD;
        if (k)
            snprintf(sql, sizeof sql,
                     "INSERT OR REPLACE INTO main.meta(key, value) SELECT 'node_limit', %lld + max("
                     "coalesce((SELECT CAST(value AS INTEGER) FROM main.meta WHERE key = "
                     "'node_limit'), 1),"
                     "coalesce((SELECT max(id) & %lld FROM main.node WHERE id >> %d = %u), 1))",
                     (long long)ahead, (1ll << NODE_COUNTER_BITS) - 1, NODE_COUNTER_BITS, device);
        else
            snprintf(
                sql, sizeof sql,
                "INSERT OR REPLACE INTO main.meta(key, value) SELECT 'request_limit', %lld + max("
                "coalesce((SELECT CAST(value AS INTEGER) FROM main.meta WHERE key = "
                "'request_limit'),"
                " 1), coalesce((SELECT max(request) FROM main.sent), 1))",
                (long long)ahead);
        run(s, sql);
    }
    snprintf(sql, sizeof sql,
             "INSERT OR REPLACE INTO main.meta(key, value) SELECT 'starts', %lld + coalesce((SELECT"
             " CAST(value AS INTEGER) FROM main.meta WHERE key = 'starts'), 0)",
             (long long)(value(s, "SELECT count(*) FROM main.meta WHERE key = 'starts'")
                             ? NUMBERS_AHEAD
                             : NUMBERS_FAR_AHEAD));
    run(s, sql); /* one that was lost would look like a copy's */
    run(s, "INSERT OR REPLACE INTO main.meta(key, value) VALUES('clean', 0);"
           "UPDATE main.ns SET planned = 0, lost_from = 0"); /* not all of `sent` may be here */
}

static void copy_all(struct salvage *s, uint32_t device)
{
    run(s, "CREATE TEMP TABLE want(id INTEGER PRIMARY KEY, done INTEGER NOT NULL);"
           "CREATE INDEX temp.want_todo ON want(id) WHERE done = 0; BEGIN IMMEDIATE;"
           "DELETE FROM main.meta");
    rows_copy(s, T_META, "?1 = ?1", 0);
    rows_copy(s, T_NS, "?1 = ?1", 0);
    rows_copy(s, T_SENT, "?1 = ?1", 0);
    pending_find(s);
    nodes_copy(s);
    if (s->doubt)
        doubts_settle(s);
    forget(s);
    orphans_name(s);
    numbers(s, device);
    s->out->kept =
        (size_t)(value(s, "SELECT count(*) FROM main.node WHERE pend != 0 OR request != 0") +
                 value(s, "SELECT count(*) FROM main.entry WHERE pend != 0 OR request != 0"));
    s->out->lost = (size_t)value(s, "SELECT count(*) FROM want WHERE id NOT IN"
                                    " (SELECT id FROM main.node) AND id NOT IN"
                                    " (SELECT base_node FROM main.entry)") +
                   (s->doubt ? 1 : 0);
    run(s, s->err ? "ROLLBACK"
                  : "COMMIT; PRAGMA synchronous=FULL; UPDATE main.meta SET value = 0"
                    " WHERE key = 'clean'");
}

/* ---- files ---- */
static int dir_make(const char *state, char dir[4096])
{
    int r = -EEXIST;
    for (unsigned n = 1; r == -EEXIST && n < DIRS_MAX; n++) {
        snprintf(dir, 4096, "%.4000s/damaged-%u", state, n);
        r = mkdir(dir, 0700) ? -errno : 0;
    }
    return r;
}

/* The names in it are on disk. */
static int dir_sync(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 || fsync(fd) ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return r;
}

static const char *const companions[] = {"", "-wal", "-shm", ".damaged", ".note"};
#define COMPANIONS (sizeof companions / sizeof *companions)

static int put_aside(const char *path, const char *dir)
{
    char to[4400], from[4400];
    for (size_t i = COMPANIONS; i-- > 0;) { /* the tree itself last: until then it is found again */
        snprintf(from, sizeof from, "%.4300s%s", path, companions[i]);
        snprintf(to, sizeof to, "%.4300s/tree.db%s", dir, companions[i]);
        if (rename(from, to) && errno != ENOENT)
            return -errno;
    }
    return dir_sync(dir);
}

/* PATH.blocks leads to the directory that is to have the blocks that nothing refers to. */
static void due_mark(const char *path, char mark[4400])
{
    snprintf(mark, 4400, "%.4300s.blocks", path);
}

static int due_set(const char *path, const char *dir)
{
    char mark[4400];
    due_mark(path, mark);
    unlink(mark);
    return symlink(strrchr(dir, '/') + 1, mark) ? -errno : 0;
}

static void remove_all(const char *path)
{
    char name[4400];
    for (size_t i = 0; i < COMPANIONS; i++) {
        snprintf(name, sizeof name, "%.4300s%s", path, companions[i]);
        unlink(name);
    }
}

/* An empty database, so that what is made there has pages like the damaged one's. */
static int with_pages(const char *path, unsigned size)
{
    sqlite3 *db = NULL;
    char sql[80];
    if (!size)
        return 0;
    snprintf(sql, sizeof sql, "PRAGMA page_size = %u; PRAGMA user_version = 0", size);
    bool ok =
        sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) == SQLITE_OK &&
        sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
    sqlite3_close(db);
    return ok ? 0 : -EIO;
}

/* A new tree at `building` from what can be read of the one at path. */
static int build(struct salvage *s, const char *path, const char *building, uint32_t device,
                 char *why)
{
    char copy[4400];
    struct tree *t = NULL;
    snprintf(copy, sizeof copy, "%.4300s/readable.db", s->out->dir);
    remove_all(building); /* of a salvage that was interrupted */
    int r = with_pages(building, db_page_size(path));
    if (r)
        snprintf(why, 512, "%.300s cannot be written", building);
    else
        r = tree_open(&t, building, NULL, why);
    tree_close(t); /* the file itself has its tables then, and no lock */
    t = NULL;
    if (!r)
        r = db_rescue(path, copy, building, &s->doubt);
    if (!r)
        r = tree_open(&t, building, NULL, why);
    if (!r && sqlite3_open_v2(copy, &s->src, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
        r = -EIO;
    if (!r) {
        s->dst = tree_db(t);
        copy_all(s, device);
        r = s->err;
    }
    for (size_t i = 0; i < TABLES; i++)
        sqlite3_finalize(s->insert[i]);
    sqlite3_close(s->src);
    tree_close(t);
    unlink(copy);
    return r;
}

bool tree_salvage_begun(const char *path)
{
    char whole[4400];
    snprintf(whole, sizeof whole, "%.4300s.new", path);
    return access(whole, F_OK) == 0;
}

/* The new tree is whole under a name of its own before the old one goes aside, and that is gone,
 * with its log, before the new one takes its name; each on disk before the next begins, since a
 * file system need not keep the order of renames when the power fails. So whenever this is
 * interrupted, the next start goes on. */
int tree_salvage(const char *state, const char *path, uint32_t device, struct salvage_result *out,
                 char *why)
{
    char report[4400], building[4400], whole[4400];
    struct salvage s = {.out = out};
    *out = (struct salvage_result){0};
    snprintf(building, sizeof building, "%.4300s.building", path);
    snprintf(whole, sizeof whole, "%.4300s.new", path);
    int r = dir_make(state, out->dir);
    snprintf(report, sizeof report, "%.4300s/report", out->dir);
    if (!r && !tree_salvage_begun(path)) {
        s.report = fopen(report, "we");
        r = build(&s, path, building, device, why);
        if (s.report)
            fclose(s.report);
        if (!r && rename(building, whole))
            r = -errno;
        remove_all(building);
    }
    if (!r)
        r = due_set(path, out->dir);
    if (!r)
        r = dir_sync(state);
    if (!r)
        r = put_aside(path, out->dir);
    if (!r)
        r = dir_sync(state);
    if (!r && rename(whole, path))
        r = -errno;
    if (!r)
        r = dir_sync(state);
    if (r)
        snprintf(why, 512, "the local tree in %.150s is damaged and a new one cannot be made: %s%s",
                 state, strerror(-r), r == -ENOSPC ? ": free some space there" : "");
    return r;
}

static int block_file(struct blocks *b, const struct block_id *id, uint32_t len, const char *dir)
{
    char hex[BLOCK_HEX_LEN + 1], path[4400];
    block_id_hex(id, hex);
    snprintf(path, sizeof path, "%.4200s/%s", dir, hex);
    uint8_t *p = malloc(len + 1);
    int r = p ? blocks_read(b, id, 0, p, len) : -ENOMEM;
    int fd = r ? -1 : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (!r && (fd < 0 || write(fd, p, len) != (ssize_t)len || fsync(fd)))
        r = -errno;
    if (fd >= 0)
        close(fd);
    free(p);
    return r;
}

bool blocks_salvage_due(const char *state, const char *path, struct salvage_result *out)
{
    char mark[4400], name[64];
    due_mark(path, mark);
    ssize_t n = readlink(mark, name, sizeof name - 1);
    if (n <= 0)
        return false;
    *out = (struct salvage_result){.again = true};
    snprintf(out->dir, sizeof out->dir, "%.4000s/%.*s", state, (int)n, name);
    mkdir(out->dir, 0700); /* somebody may have tidied up */
    return true;
}

int blocks_salvage(const char *path, struct blocks *b, struct core *c, struct salvage_result *out)
{
    char mark[4400];
    struct block_id v[BLOCKS_STEP], after;
    size_t n = 0;
    int r = 0;
    do {
        n = blocks_unsynced(b, n ? &after : NULL, v, BLOCKS_STEP);
        for (size_t i = 0; i < n && !r; i++) {
            bool referenced, pending;
            uint32_t len;
            r = core_block_used(c, &v[i], &referenced, &pending);
            if (r || referenced || !blocks_has(b, &v[i], &len))
                continue;
            r = block_file(b, &v[i], len, out->dir);
            out->blocks += r == 0;
        }
        if (n)
            after = v[n - 1];
    } while (n == BLOCKS_STEP && !r);
    if (!r && out->blocks)
        r = dir_sync(out->dir); /* before they are garbage elsewhere */
    due_mark(path, mark);
    if (!r && unlink(mark) && errno != ENOENT)
        r = -errno;
    return r;
}

void salvage_text(const struct salvage_result *r, char text[512])
{
    if (r->again) {
        snprintf(text, 512,
                 "the local tree was made anew at an earlier start; %zu blocks of content that it"
                 " does not refer to are kept as files in %.180s",
                 r->blocks, r->dir);
        return;
    }
    int n = snprintf(text, 512,
                     "the local tree was damaged and made anew: %zu pending changes were kept",
                     r->kept);
    if (r->recovered && n < 512)
        n += snprintf(text + n, 512 - (size_t)n,
                      " (%zu of them as recovered-… in the top directory)", r->recovered);
    if ((r->lost || r->blocks) && n < 512)
        n += snprintf(text + n, 512 - (size_t)n,
                      "; some could not be read, and %zu blocks of content are kept as files",
                      r->blocks);
    if (n < 512)
        snprintf(text + n, 512 - (size_t)n, "; the damaged files and a report are in %.180s",
                 r->dir);
}
