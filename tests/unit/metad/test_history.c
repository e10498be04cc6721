// SPDX-License-Identifier: Apache-2.0
/* Every SJID can be read for ever, and the journal replayed naively gives the same tree.
 *
 * A naive model (plain arrays, copied whole after every commit) goes through random changes beside
 * the service. Afterwards every kind of read is compared with the model at random SJIDs, and the
 * journal's after-images, written over an empty model one by one, must give each of its states.
 */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NODES 24
#define NAMES 6  /* names that exist in a directory */
#define UNITS 32 /* a file's content in the model: units of UNIT bytes */
#define UNIT 512
#define XATTRS 2
#define COMMITS 500

struct unit {
    uint64_t block, unit; /* number of the block (0: hole), which unit of it */
};
struct mnode {
    bool exists, known; /* known: existed once, may be opened again */
    uint64_t id, type, mode, size, nlink, content_rev, attr_rev;
    struct unit units[UNITS];
    struct {
        uint64_t value, rev; /* value 0: absent */
    } xattr[XATTRS];
};
struct mentry {
    size_t node; /* index; 0 with rev 0: absent (index 0 is the root, which has no name) */
    uint64_t rev;
};
struct model {
    struct mnode node[NODES]; /* 0: the root */
    struct mentry entry[NODES][NAMES];
};
static const char *const names[NAMES] = {"a", "b", "bb", "c\xff", "d e", "z"};
static const char *const xattr_names[XATTRS] = {"user.one", "user.two"};

/* ---- random ---- */
static uint64_t rng;
static uint64_t draw(uint64_t below)
{
    rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17; /* xorshift64 */
    return (rng >> 11) % below;
}

static struct block_id numbered(uint64_t n)
{
    struct block_id b = {{BLOCK_KIND_SHA256}};
    memcpy(b.b + 1, &n, sizeof n);
    memset(b.b + 20, 0x77, 13);
    return b;
}
static uint64_t number_of(const struct block_id *b)
{
    uint64_t n;
    memcpy(&n, b->b + 1, sizeof n);
    return n;
}

/* ---- one random change: into the plan and into the model ---- */
static bool is_dir(const struct model *m, size_t k)
{
    return m->node[k].exists && m->node[k].type == NODE_DIR;
}
static bool is_empty(const struct model *m, size_t dir)
{
    for (size_t k = 0; k < NAMES; k++) {
        if (m->entry[dir][k].rev)
            return false;
    }
    return true;
}
static bool below(const struct model *m, size_t dir, size_t top)
{
    while (dir != top && dir != 0) {
        size_t up = NODES;
        for (size_t d = 0; d < NODES && up == NODES; d++) {
            for (size_t k = 0; k < NAMES; k++) {
                if (m->entry[d][k].rev && m->entry[d][k].node == dir)
                    up = d;
            }
        }
        dir = up;
    }
    return dir == top;
}
static bool free_place(const struct model *m, size_t *dir, size_t *name)
{
    *dir = draw(NODES);
    *name = draw(NAMES);
    return is_dir(m, *dir) && !m->entry[*dir][*name].rev;
}
static bool some_entry(const struct model *m, size_t *dir, size_t *name)
{
    for (int tries = 0; tries < 50; tries++) {
        *dir = draw(NODES);
        *name = draw(NAMES);
        if (m->entry[*dir][*name].rev)
            return true;
    }
    return false;
}
static void set_entry(struct model *m, size_t dir, size_t name, size_t node, uint64_t sjid)
{
    m->entry[dir][name] = (struct mentry){node, sjid};
}

static struct m_node_change *write_units(struct world *w, struct plan *p, struct mnode *n,
                                         struct m_node_change *c, uint64_t sjid)
{
    uint64_t from = draw(UNITS), to = from + 1 + draw(UNITS - from), ranges = 1 + draw(2);
    for (uint64_t r = 0; r < ranges && from < to; r++) {
        uint64_t cut = r + 1 < ranges ? from + 1 + draw(to - from) : to, skip = draw(4);
        uint64_t block = draw(4) ? ++w->blocks : 0;
        struct block_id b = numbered(block);
        plan_range(p, c, from * UNIT, (cut - from) * UNIT, block ? &b : NULL, skip * UNIT);
        if (block)
            plan_block(w, p, w->alice.ns, &b, (cut - from + skip) * UNIT, HQ);
        for (uint64_t u = from; u < cut; u++)
            n->units[u] = block ? (struct unit){block, u - from + skip} : (struct unit){0, 0};
        from = cut + draw(3);
    }
    uint64_t end = 0; /* the size may fall, never below what was written just now */
    for (size_t r = 0; r < c->ranges_n; r++) {
        if (c->ranges[r].extents_n)
            end = c->ranges[r].off + c->ranges[r].len;
    }
    uint64_t size = draw(3) ? n->size : draw(UNITS + 1) * UNIT;
    n->size = size > end ? size : end;
    for (uint64_t u = n->size / UNIT; u < UNITS; u++)
        n->units[u] = (struct unit){0, 0};
    c->size = n->size;
    n->content_rev = sjid;
    return c;
}

static bool change_create(struct world *w, struct plan *p, struct model *m, uint64_t sjid)
{
    static const enum node_type types[] = {NODE_REG, NODE_REG, NODE_DIR, NODE_SYMLINK};
    size_t k = 1 + draw(NODES - 1), dir, name;
    if (m->node[k].known || !free_place(m, &dir, &name))
        return false;
    struct mnode *n = &m->node[k];
    *n = (struct mnode){.exists = true,
                        .known = true,
                        .id = world_node_id(&w->alice),
                        .type = types[draw(4)],
                        .mode = 0644,
                        .content_rev = sjid,
                        .attr_rev = sjid};
    n->nlink = n->type == NODE_DIR ? 2 : 1;
    struct m_node_change *c = plan_create(p, n->id, (enum node_type)n->type);
    if (n->type == NODE_REG && draw(3))
        write_units(w, p, n, c, sjid);
    plan_entry(p, m->node[dir].id, names[name], 0, 0, n->id);
    set_entry(m, dir, name, k, sjid);
    m->node[dir].nlink += n->type == NODE_DIR;
    return true;
}

static bool change_content(struct world *w, struct plan *p, struct model *m, uint64_t sjid)
{
    struct mnode *n = &m->node[draw(NODES)];
    if (!n->exists || n->type != NODE_REG)
        return false;
    struct m_node_change *c = plan_node(p, n->id, FACET_CONTENT);
    c->base_content = n->content_rev;
    write_units(w, p, n, c, sjid);
    return true;
}

static bool change_attr(struct world *w, struct plan *p, struct model *m, uint64_t sjid)
{
    struct mnode *n = &m->node[draw(NODES)];
    (void)w;
    if (!n->exists)
        return false;
    struct m_node_change *c = plan_node(p, n->id, FACET_ATTR);
    c->base_attr = n->attr_rev;
    c->mode = n->mode = draw(07777);
    n->attr_rev = sjid;
    return true;
}

static bool change_xattr(struct world *w, struct plan *p, struct model *m, uint64_t sjid)
{
    static char values[9][2];
    struct mnode *n = &m->node[draw(NODES)];
    size_t k = draw(XATTRS);
    uint64_t value = draw(9);
    (void)w;
    if (!n->exists || (!value && !n->xattr[k].value))
        return false;
    values[value][0] = (char)('0' + value);
    plan_xattr(p, n->id, xattr_names[k], n->xattr[k].value ? n->xattr[k].rev : 0,
               value ? values[value] : NULL);
    n->xattr[k].value = value;
    n->xattr[k].rev = sjid;
    return true;
}

static bool change_remove(struct world *w, struct plan *p, struct model *m, uint64_t sjid)
{
    size_t dir, name;
    (void)w, (void)sjid;
    if (!some_entry(m, &dir, &name))
        return false;
    struct mentry *e = &m->entry[dir][name];
    struct mnode *n = &m->node[e->node];
    if (n->type == NODE_DIR && !is_empty(m, e->node))
        return false;
    plan_entry(p, m->node[dir].id, names[name], n->id, e->rev, 0)->base_content = n->content_rev;
    if (n->type == NODE_DIR)
        m->node[dir].nlink--;
    else
        n->nlink--;
    n->exists = n->type != NODE_DIR && n->nlink > 0;
    *e = (struct mentry){0, 0};
    return true;
}

static bool change_rename(struct world *w, struct plan *p, struct model *m, uint64_t sjid)
{
    size_t dir, name, to, to_name;
    (void)w;
    if (!some_entry(m, &dir, &name) || !free_place(m, &to, &to_name))
        return false;
    struct mentry *e = &m->entry[dir][name];
    size_t k = e->node;
    if (m->node[k].type == NODE_DIR && below(m, to, k))
        return false;
    plan_entry(p, m->node[dir].id, names[name], m->node[k].id, e->rev, 0);
    plan_entry(p, m->node[to].id, names[to_name], 0, 0, m->node[k].id);
    m->node[dir].nlink -= m->node[k].type == NODE_DIR;
    m->node[to].nlink += m->node[k].type == NODE_DIR;
    *e = (struct mentry){0, 0};
    set_entry(m, to, to_name, k, sjid);
    return true;
}

static bool change_link(struct world *w, struct plan *p, struct model *m, uint64_t sjid)
{
    size_t k = 1 + draw(NODES - 1), dir, name;
    (void)w;
    if (!m->node[k].exists || m->node[k].type == NODE_DIR || !free_place(m, &dir, &name))
        return false;
    plan_entry(p, m->node[dir].id, names[name], 0, 0, m->node[k].id);
    set_entry(m, dir, name, k, sjid);
    m->node[k].nlink++;
    return true;
}

/* A node that is gone gets a name again, perhaps edited at the same time. */
static bool change_revive(struct world *w, struct plan *p, struct model *m, uint64_t sjid)
{
    size_t k = 1 + draw(NODES - 1), dir, name;
    struct mnode *n = &m->node[k];
    if (!n->known || n->exists || !free_place(m, &dir, &name))
        return false;
    plan_entry(p, m->node[dir].id, names[name], 0, 0, n->id);
    if (n->type == NODE_REG && draw(2)) {
        struct m_node_change *c = plan_node(p, n->id, FACET_CONTENT);
        c->base_content = n->content_rev;
        write_units(w, p, n, c, sjid);
    }
    n->exists = true;
    n->nlink = n->type == NODE_DIR ? 2 : 1;
    m->node[dir].nlink += n->type == NODE_DIR;
    for (size_t x = 0; x < XATTRS; x++) {
        if (n->xattr[x].value)
            n->xattr[x].rev = sjid; /* opened again: a new revision */
    }
    set_entry(m, dir, name, k, sjid);
    return true;
}

typedef bool (*change_fn)(struct world *w, struct plan *p, struct model *m, uint64_t sjid);
static const change_fn change_fns[] = {
    change_create, change_create, change_content, change_content, change_content, change_attr,
    change_xattr,  change_remove, change_rename,  change_link,    change_revive};

/* ---- comparing ---- */
static void check_inode(const struct mnode *n, const struct m_inode *i)
{
    uint64_t stored = 0, xattrs = 0;
    for (size_t u = 0; u < UNITS; u++)
        stored += n->units[u].block ? UNIT : 0;
    for (size_t x = 0; x < XATTRS; x++)
        xattrs += n->xattr[x].value != 0;
    assert_int_equal(i->node, n->id);
    assert_int_equal(i->type, n->type);
    assert_int_equal(i->mode, n->mode);
    assert_int_equal(i->size, n->size);
    assert_int_equal(i->nlink, n->nlink);
    assert_int_equal(i->content_rev, n->content_rev);
    assert_int_equal(i->attr_rev, n->attr_rev);
    assert_int_equal(i->stored, stored);
    assert_int_equal(i->xattrs, xattrs);
}

static void lay_extents(struct unit units[UNITS], const struct m_extent *e, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        for (uint64_t at = 0; at < e[k].len; at += UNIT)
            units[(e[k].off + at) / UNIT] =
                (struct unit){number_of(&e[k].block), (e[k].block_off + at) / UNIT};
    }
}

/* Extents of the whole file in pages of `limit`, beginning in the middle of a unit now and then. */
static void check_extents(struct world *w, const struct mnode *n, uint64_t at)
{
    struct unit units[UNITS] = {{0, 0}};
    struct m_extents_req q = {.ns = w->alice.ns, .node = n->id, .at = at, .limit = 1 + draw(4)};
    bool more = true;
    while (more) {
        cleanup_arena struct arena ar = {0};
        struct m_extents_ans a;
        assert_int_equal(meta_extents(w->m, &w->alice.who, &q, &a, &ar, w->why), 0);
        assert_int_equal(a.range.off, q.off);
        lay_extents(units, a.range.extents, a.range.extents_n);
        q.off += a.range.len;
        more = a.more;
        if (!more)
            assert_int_equal(q.off, INT64_MAX);
    }
    assert_memory_equal(units, n->units, sizeof units);
    /* a piece from somewhere is cut at its edge */
    cleanup_arena struct arena ar = {0};
    struct m_extents_ans a;
    q.off = draw(UNITS) * UNIT + 100;
    assert_int_equal(meta_extents(w->m, &w->alice.who, &q, &a, &ar, w->why), 0);
    const struct m_extent *e = a.range.extents_n ? &a.range.extents[0] : NULL;
    struct unit first = n->units[q.off / UNIT];
    assert_true(!first.block || e);
    if (first.block && e) {
        assert_int_equal(e->off, q.off);
        assert_int_equal(e->block_off, first.unit * UNIT + 100);
    } else if (e) {
        assert_true(e->off > q.off);
    }
}

static void check_directory(struct world *w, const struct model *m, size_t dir, uint64_t at)
{
    struct m_readdir_req q = {
        .ns = w->alice.ns, .dir = m->node[dir].id, .at = at, .limit = 1 + draw(3)};
    uint8_t after[NAME_LEN_MAX];
    bool more = true;
    size_t k = 0;
    while (more) {
        cleanup_arena struct arena ar = {0};
        struct m_readdir_ans a;
        assert_int_equal(meta_readdir(w->m, &w->alice.who, &q, &a, &ar, w->why), 0);
        assert_true(a.entries_n <= q.limit);
        for (size_t j = 0; j < a.entries_n; j++, k++) {
            while (k < NAMES && !m->entry[dir][k].rev)
                k++;
            assert_true(k < NAMES);
            assert_true(bytes_equal(a.entries[j].name, bytes_str(names[k])));
            assert_int_equal(a.entries[j].rev, m->entry[dir][k].rev);
            check_inode(&m->node[m->entry[dir][k].node], &a.entries[j].inode);
        }
        more = a.more;
        if (a.entries_n) {
            struct bytes last = a.entries[a.entries_n - 1].name;
            memcpy(after, last.p, last.n);
            q.after = bytes_of(after, last.n);
        }
    }
    while (k < NAMES && !m->entry[dir][k].rev)
        k++;
    assert_int_equal(k, NAMES);
    for (k = 0; k < NAMES; k++) {
        cleanup_arena struct arena ar = {0};
        const struct mentry *want = &m->entry[dir][k];
        struct m_lookup_req l = {
            .ns = q.ns, .parent = q.dir, .name = bytes_str(names[k]), .at = at};
        struct m_lookup_ans a;
        assert_int_equal(meta_lookup(w->m, &w->alice.who, &l, &a, &ar, w->why), 0);
        assert_int_equal(a.entry_set, want->rev != 0);
        assert_int_equal(a.entry.node, want->rev ? m->node[want->node].id : 0);
        assert_int_equal(a.entry.rev, want->rev);
    }
}

static void check_node(struct world *w, const struct mnode *n, uint64_t at)
{
    cleanup_arena struct arena ar = {0};
    struct m_node_req q = {.ns = w->alice.ns, .node = n->id, .at = at};
    struct m_node_ans a;
    assert_int_equal(meta_node(w->m, &w->alice.who, &q, &a, &ar, w->why), 0);
    assert_int_equal(a.inode_set, n->exists);
    if (!n->exists)
        return;
    check_inode(n, &a.inode);
    size_t k = 0;
    for (size_t x = 0; x < XATTRS; x++) {
        if (!n->xattr[x].value)
            continue;
        assert_true(k < a.xattrs_n);
        assert_true(bytes_equal(a.xattrs[k].name, bytes_str(xattr_names[x])));
        assert_int_equal(a.xattrs[k].value.p[0], '0' + n->xattr[x].value);
        assert_int_equal(a.xattrs[k].rev, n->xattr[x].rev);
        k++;
    }
    assert_int_equal(k, a.xattrs_n);
}

static void check_all(struct world *w, const struct model *m, uint64_t at)
{
    for (size_t k = 0; k < NODES; k++) {
        if (k && !m->node[k].known)
            continue;
        check_node(w, &m->node[k], at);
        if (m->node[k].exists && m->node[k].type == NODE_REG)
            check_extents(w, &m->node[k], at);
        if (is_dir(m, k))
            check_directory(w, m, k, at);
    }
    arena_free(&w->ar);
}

/* ---- replaying ---- */
static size_t index_of(struct model *m, uint64_t id)
{
    for (size_t k = 0; k < NODES; k++) {
        if (m->node[k].id == id)
            return k;
    }
    for (size_t k = 1; k < NODES; k++) {
        if (!m->node[k].id) {
            m->node[k].id = id;
            return k;
        }
    }
    fail();
    return 0;
}

static void replay(struct model *m, const struct m_record *r)
{
    for (size_t k = 0; k < r->inodes_n; k++) {
        const struct m_inode *i = &r->inodes[k];
        struct mnode *n = &m->node[index_of(m, i->node)];
        n->exists = !i->gone;
        n->type = i->type;
        n->mode = i->mode;
        n->size = i->size;
        n->nlink = i->nlink;
        n->content_rev = i->content_rev;
        n->attr_rev = i->attr_rev;
    }
    for (size_t k = 0; k < r->entries_n; k++) {
        const struct m_entry *e = &r->entries[k];
        size_t name = 0;
        while (!bytes_equal(bytes_str(names[name]), e->name))
            name++;
        assert_int_equal(e->rev, r->sjid);
        assert_int_equal(e->inode_set, e->node != 0);
        struct mentry set = {e->node ? index_of(m, e->node) : 0, e->node ? e->rev : 0};
        m->entry[index_of(m, e->parent)][name] = set;
    }
    for (size_t k = 0; k < r->xattrs_n; k++) {
        const struct m_xattr *x = &r->xattrs[k];
        size_t name = bytes_equal(x->name, bytes_str(xattr_names[0])) ? 0 : 1;
        struct mnode *n = &m->node[index_of(m, x->node)];
        n->xattr[name].value = x->removed ? 0 : (uint64_t)x->value.p[0] - '0';
        n->xattr[name].rev = x->rev;
    }
    for (size_t k = 0; k < r->contents_n; k++) {
        const struct m_content *c = &r->contents[k];
        struct mnode *n = &m->node[index_of(m, c->node)];
        for (size_t g = 0; g < c->ranges_n; g++) {
            for (uint64_t u = 0; u < UNITS; u++) {
                if (u * UNIT >= c->ranges[g].off && u * UNIT - c->ranges[g].off < c->ranges[g].len)
                    n->units[u] = (struct unit){0, 0};
            }
            lay_extents(n->units, c->ranges[g].extents, c->ranges[g].extents_n);
        }
    }
}

/* The replayed model and the one of the time: what exists is the same. Nodes may have other
 * indexes. */
static void check_same(const struct model *got, const struct model *want)
{
    for (size_t k = 0; k < NODES; k++) {
        const struct mnode *n = &want->node[k];
        if (!n->exists)
            continue;
        size_t j = 0;
        while (j < NODES && got->node[j].id != n->id)
            j++;
        assert_true(j < NODES);
        const struct mnode *g = &got->node[j];
        assert_true(g->exists);
        assert_true(g->type == n->type && g->mode == n->mode && g->size == n->size);
        assert_true(g->nlink == n->nlink && g->content_rev == n->content_rev);
        assert_int_equal(g->attr_rev, n->attr_rev);
        if (n->type == NODE_REG)
            assert_memory_equal(g->units, n->units, sizeof n->units);
        for (size_t x = 0; x < XATTRS; x++) {
            assert_int_equal(g->xattr[x].value, n->xattr[x].value);
            if (n->xattr[x].value)
                assert_int_equal(g->xattr[x].rev, n->xattr[x].rev);
        }
        for (size_t e = 0; e < NAMES && n->type == NODE_DIR; e++) {
            assert_int_equal(got->entry[j][e].rev, want->entry[k][e].rev);
            if (want->entry[k][e].rev)
                assert_int_equal(got->node[got->entry[j][e].node].id,
                                 want->node[want->entry[k][e].node].id);
        }
    }
}

static void check_journal(struct world *w, const struct model *states)
{
    static struct model m;
    uint64_t sjid = 0;
    struct m_list_req q = {.ns = w->alice.ns, .limit_bytes = 2000};
    uint8_t cursor[64];
    bool more = true;
    m = states[0];
    while (more) {
        cleanup_arena struct arena ar = {0};
        struct m_list_ans a;
        assert_int_equal(meta_list(w->m, &w->alice.who, &q, &a, &ar, w->why), 0);
        assert_int_equal(a.head, COMMITS);
        for (size_t k = 0; k < a.records_n; k++) {
            assert_int_equal(a.records[k].sjid, ++sjid);
            assert_int_equal(a.records[k].device, w->alice.who.device);
            assert_int_equal(a.records[k].time_ms, w->now);
            replay(&m, &a.records[k]);
            check_same(&m, &states[sjid]);
        }
        memcpy(cursor, a.cursor.p, a.cursor.n);
        q.cursor = bytes_of(cursor, a.cursor.n);
        more = a.more;
    }
    assert_int_equal(sjid, COMMITS);
}

static void random_history(struct world *w, uint64_t seed)
{
    struct model *states = calloc(COMMITS + 1, sizeof *states);
    assert_non_null(states);
    rng = seed;
    states[0].node[0] = (struct mnode){.exists = true,
                                       .known = true,
                                       .id = w->alice.root,
                                       .type = NODE_DIR,
                                       .mode = 0755,
                                       .nlink = 2};
    assert_int_equal(meta_begin(w->m), 0);
    for (uint64_t sjid = 1; sjid <= COMMITS; sjid++) {
        struct model *m = &states[sjid];
        struct plan p;
        *m = states[sjid - 1];
        plan_new(w, &w->alice, &p);
        while (!change_fns[draw(sizeof change_fns / sizeof *change_fns)](w, &p, m, sjid))
            ;
        struct m_commit_ans a = world_commit(w, &w->alice, &p);
        if (a.status != COMMIT_COMMITTED)
            fail_msg("seed %llu, commit %llu: status %u, reason %u", (unsigned long long)seed,
                     (unsigned long long)sjid, (unsigned)a.status,
                     (unsigned)(a.rows_n ? a.rows[0].reason : 0));
        assert_int_equal(a.sjid, sjid);
        plan_free(&p);
        if (sjid % 100 == 0) {
            assert_int_equal(meta_end(w->m), 0);
            assert_int_equal(meta_begin(w->m), 0);
        }
    }
    assert_int_equal(meta_end(w->m), 0);
    for (int k = 0; k < 60; k++) {
        uint64_t at = k == 0 ? COMMITS : k == 1 ? 0 : draw(COMMITS + 1);
        check_all(w, &states[at], at);
    }
    check_journal(w, states);
    free(states);
}

static void reads_at_any_time(void **state)
{
    random_history(*state, 42);
}
static void reads_at_any_time_2(void **state)
{
    random_history(*state, 0xfeedface);
}
static void reads_at_any_time_3(void **state)
{
    random_history(*state, 987654321);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(reads_at_any_time),
        TEST(reads_at_any_time_2),
        TEST(reads_at_any_time_3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
