// SPDX-License-Identifier: Apache-2.0
/* Directory entries as intervals of SJIDs, on SQLite, and their listing as of any SJID.
 *
 * A page of a directory as of an SJID is a merge, by name, of open rows that are old enough and of
 * closed rows that were still open then. Near the head, where clients read, few rows were closed
 * since: they come from the index by end, and the history before is never touched. Far in the past
 * the closed rows are walked in order of names instead; behind a name with many versions the walk
 * seeks to the next name rather than step through them.
 */
#include "store_sqlite.h"

#include <errno.h>
#include <string.h>

#define LATELY_MAX                                                                                 \
    1024u /* closed rows since the SJID that are sorted for each page; more: walk by name */
#define SKIP_AFTER 16u /* versions of one name stepped over before seeking */

int sq_entry_get(struct store *s, uint64_t ns, uint64_t parent, struct bytes name, uint64_t at,
                 struct entry_row *e)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT node, type, from_sjid FROM entry "
                               "WHERE ns = ? AND parent = ? AND name = ? AND from_sjid <= ?",
                               "iibi", ns, parent, name, at);
    int r = sq_one(s, st);
    if (r == -ENOENT && at != STORE_NOW) {
        sq_done(st);
        st = sq_bind(s,
                     "SELECT node, type, from_sjid FROM entry_past "
                     "WHERE ns = ? AND parent = ? AND name = ? AND to_sjid > ? "
                     "ORDER BY to_sjid LIMIT 1",
                     "iibi", ns, parent, name, at);
        r = sq_one(s, st);
        if (!r && sq_u64(st, 2) > at)
            r = -ENOENT;
    }
    if (!r)
        *e = (struct entry_row){.node = sq_u64(st, 0), .type = sq_u64(st, 1), .rev = sq_u64(st, 2)};
    sq_done(st);
    return r;
}

int sq_entry_put(struct store *s, uint64_t ns, uint64_t sjid, uint64_t parent, struct bytes name,
                 uint64_t node, uint64_t type)
{
    int r = sq_exec(s,
                    "INSERT INTO entry_past (ns, parent, name, from_sjid, to_sjid, node, type) "
                    "SELECT ns, parent, name, from_sjid, ?4, node, type FROM entry "
                    "WHERE ns = ?1 AND parent = ?2 AND name = ?3 AND from_sjid < ?4",
                    "iibi", ns, parent, name, sjid);
    if (r)
        return r;
    if (!node)
        return sq_exec(s, "DELETE FROM entry WHERE ns = ? AND parent = ? AND name = ?", "iib", ns,
                       parent, name);
    return sq_exec(s,
                   "INSERT OR REPLACE INTO entry (ns, parent, name, from_sjid, node, type) "
                   "VALUES (?, ?, ?, ?, ?, ?)",
                   "iibiii", ns, parent, name, sjid, node, type);
}

int sq_entry_of(struct store *s, uint64_t ns, uint64_t node, uint64_t *parent, struct bytes *name,
                struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(
        s, "SELECT parent, name FROM entry WHERE ns = ? AND node = ? LIMIT 1", "ii", ns, node);
    int r = sq_one(s, st);
    if (!r) {
        *parent = sq_u64(st, 0);
        *name = sq_bytes(st, 1, ar);
    }
    sq_done(st);
    return r;
}

int sq_entry_names(struct store *s, uint64_t ns, uint64_t node, uint64_t at, size_t max,
                   struct m_name **v, size_t *n, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT parent, name, from_sjid FROM entry WHERE ns = ? AND "
                               "node = ? AND from_sjid <= ? LIMIT ?",
                               "iiii", ns, node, at, (uint64_t)max);
    int r;
    *v = NULL;
    *n = 0;
    while ((r = sq_step(s, st)) > 0) {
        sq_grow(*v, *n, ar);
        (*v)[(*n)++] = (struct m_name){
            .parent = sq_u64(st, 0), .name = sq_bytes(st, 1, ar), .rev = sq_u64(st, 2)};
    }
    sq_done(st);
    return r;
}

int sq_entry_count(struct store *s, uint64_t ns, uint64_t parent, uint64_t max, uint64_t *n)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT count(*) FROM (SELECT 1 FROM entry WHERE ns = ? AND parent = ? LIMIT ?)",
                "iii", ns, parent, max);
    int r = sq_one(s, st);
    if (!r)
        *n = sq_u64(st, 0);
    sq_done(st);
    return r;
}

/* ---- pages ---------------------------------------------------------------------------------- */
struct page {
    struct m_entry *v;
    size_t n;
};

static void page_add(struct page *p, sqlite3_stmt *st, uint64_t parent, struct arena *ar)
{
    sq_grow(p->v, p->n, ar);
    p->v[p->n++] = (struct m_entry){
        .parent = parent, .name = sq_bytes(st, 0, ar), .node = sq_u64(st, 1), .rev = sq_u64(st, 2)};
}

static int page_of(struct store *s, sqlite3_stmt *st, uint64_t parent, struct page *p,
                   struct arena *ar)
{
    int r;
    while ((r = sq_step(s, st)) > 0)
        page_add(p, st, parent, ar);
    sq_done(st);
    return r;
}

/* How many rows of the directory were closed behind at, counted no further than LATELY_MAX + 1. */
static int closed_since(struct store *s, uint64_t ns, uint64_t parent, uint64_t at, uint64_t *n)
{
    sqlite3_stmt *st =
        sq_bind(s,
                "SELECT count(*) FROM (SELECT 1 FROM entry_past INDEXED BY entry_past_lately "
                "WHERE ns = ? AND parent = ? AND to_sjid > ? LIMIT ?)",
                "iiii", ns, parent, at, (uint64_t)LATELY_MAX + 1);
    int r = sq_one(s, st);
    if (!r)
        *n = sq_u64(st, 0);
    sq_done(st);
    return r;
}

static int past_by_end(struct store *s, uint64_t ns, uint64_t parent, uint64_t at,
                       struct bytes after, uint64_t limit, struct page *p, struct arena *ar)
{
    return page_of(s,
                   sq_bind(s,
                           "SELECT name, node, from_sjid FROM entry_past "
                           "INDEXED BY entry_past_lately WHERE ns = ? AND parent = ? AND "
                           "to_sjid > ?3 AND from_sjid <= ?3 AND name > ? ORDER BY name LIMIT ?",
                           "iiibi", ns, parent, at, after, limit),
                   parent, p, ar);
}

/* One run of the walk by name: from names greater than *after, until the page is full, the
 * directory ends (*more false) or a name has too many versions (*after is then that name). */
static int walk_run(struct store *s, uint64_t ns, uint64_t parent, uint64_t at, struct bytes *after,
                    uint64_t limit, struct page *p, bool *more, struct arena *ar)
{
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT name, node, from_sjid, to_sjid FROM entry_past "
                               "WHERE ns = ? AND parent = ? AND name > ? ORDER BY name, to_sjid",
                               "iib", ns, parent, *after);
    uint8_t name[NAME_LEN_MAX] = {0};
    size_t name_len = 0, versions = 0;
    int r;
    *more = false;
    while ((r = sq_step(s, st)) > 0) {
        const void *col = sqlite3_column_blob(st, 0);
        size_t len = (size_t)sqlite3_column_bytes(st, 0);
        if (len == name_len && memcmp(col, name, len) == 0) {
            versions++;
        } else {
            name_len = len < sizeof name ? len : sizeof name;
            memcpy(name, col, name_len);
            versions = 1;
        }
        if (sq_u64(st, 3) > at && sq_u64(st, 2) <= at) {
            page_add(p, st, parent, ar);
            if (p->n == limit)
                break;
        }
        if (versions == SKIP_AFTER) {
            *after = arena_bytes(ar, name, name_len);
            *more = true;
            break;
        }
    }
    sq_done(st);
    return r < 0 ? r : 0;
}

/* A name with many versions: the one row of it that covers at, if any. */
static int walk_name(struct store *s, uint64_t ns, uint64_t parent, uint64_t at, struct bytes name,
                     struct page *p, struct arena *ar)
{
    if (p->n && bytes_equal(p->v[p->n - 1].name, name))
        return 0;
    sqlite3_stmt *st = sq_bind(s,
                               "SELECT name, node, from_sjid FROM entry_past WHERE ns = ? AND "
                               "parent = ? AND name = ? AND to_sjid > ? ORDER BY to_sjid LIMIT 1",
                               "iibi", ns, parent, name, at);
    int r = sq_step(s, st);
    if (r > 0 && sq_u64(st, 2) <= at)
        page_add(p, st, parent, ar);
    sq_done(st);
    return r < 0 ? r : 0;
}

static int past_by_name(struct store *s, uint64_t ns, uint64_t parent, uint64_t at,
                        struct bytes after, uint64_t limit, struct page *p, struct arena *ar)
{
    bool more = true;
    int r = 0;
    while (!r && more && p->n < limit) {
        r = walk_run(s, ns, parent, at, &after, limit, p, &more, ar);
        if (!r && more)
            r = walk_name(s, ns, parent, at, after, p, ar);
    }
    return r;
}

int sq_entry_page(struct store *s, uint64_t ns, uint64_t parent, uint64_t at, struct bytes after,
                  size_t limit, struct m_entry **v, size_t *n, struct arena *ar)
{
    struct page open = {0}, past = {0};
    int r =
        page_of(s,
                sq_bind(s,
                        "SELECT name, node, from_sjid FROM entry WHERE ns = ? AND parent = ? AND "
                        "name > ? AND from_sjid <= ? ORDER BY name LIMIT ?",
                        "iibii", ns, parent, after, at, (uint64_t)limit),
                parent, &open, ar);
    uint64_t since = 0;
    if (!r && at != STORE_NOW)
        r = closed_since(s, ns, parent, at, &since);
    if (!r && since)
        r = (since <= LATELY_MAX ? past_by_end : past_by_name)(s, ns, parent, at, after, limit,
                                                               &past, ar);
    if (r)
        return r;
    struct m_entry *out = arena_alloc(ar, (open.n + past.n) * sizeof *out + 1);
    size_t i = 0, j = 0, k = 0;
    while (k < limit && (i < open.n || j < past.n)) {
        bool first =
            j == past.n || (i < open.n && bytes_compare(open.v[i].name, past.v[j].name) < 0);
        out[k++] = first ? open.v[i++] : past.v[j++];
    }
    *v = out;
    *n = k;
    return 0;
}
