// SPDX-License-Identifier: Apache-2.0
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct meta_caller world_admin = {.admin = true};

static void open_meta(struct world *w)
{
    struct meta_options o = {.path = w->path};
    int r = meta_open(&w->m, &o, w->why);
    if (r)
        fail_msg("meta_open: %d %s", r, w->why);
}

void world_reopen(struct world *w)
{
    meta_close(w->m);
    open_meta(w);
}

char *world_command(struct world *w, const struct meta_caller *who, unsigned status,
                    const char *line)
{
    struct m_word words[32];
    struct m_command_req q = {.words = words};
    struct m_command_ans a;
    char *copy = arena_str(&w->ar, bytes_str(line)), *save = NULL;
    for (char *t = strtok_r(copy, " ", &save); t; t = strtok_r(NULL, " ", &save))
        words[q.words_n++].text = bytes_str(t);
    assert_int_equal(meta_command(w->m, who, &q, w->now, &a, &w->ar), 0);
    char *text = arena_str(&w->ar, a.text);
    if (a.exit_status != status)
        fail_msg("%s: exit %u: %s", line, (unsigned)a.exit_status, text);
    return text;
}

struct meta_caller world_login(struct world *w, const char *account, const char *device)
{
    char line[128];
    snprintf(line, sizeof line, "admin account token %s", account);
    char *token = world_command(w, &world_admin, 0, line);
    token[strcspn(token, "\n")] = 0;
    struct m_login_req q = {
        .account = bytes_str(account), .token = bytes_str(token), .device_name = bytes_str(device)};
    struct m_login_ans a;
    struct meta_caller who;
    assert_int_equal(meta_login(w->m, &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(meta_authenticate(w->m, arena_str(&w->ar, a.credential), &who), 0);
    assert_int_equal(who.device, a.device);
    return who;
}

static void add_user(struct world *w, struct user *u, const char *name)
{
    char line[128];
    struct m_session_ans a;
    snprintf(line, sizeof line, "admin account add %s --no-token --assign hq,cloud", name);
    world_command(w, &world_admin, 0, line);
    u->who = world_login(w, name, "laptop");
    memset(u->incarnation, name[0], 16);
    struct m_session_req q = {.incarnation = bytes_of(u->incarnation, 16)};
    assert_int_equal(meta_session(w->m, &u->who, &q, w->now, &a, &w->ar, w->why), 0);
    assert_int_equal(a.namespaces_n, 1);
    u->ns = a.namespaces[0].id;
    u->root = a.namespaces[0].root;
}

static void add_server(struct world *w, int s, const char *premises)
{
    char line[128];
    snprintf(line, sizeof line, "admin server add %s", premises);
    char *token = world_command(w, &world_admin, 0, line);
    token[strcspn(token, "\n")] = 0;
    memset(w->incarnation[s], 'A' + s, 16);
    struct m_join_req q = {.token = bytes_str(token),
                           .url = bytes_str("https://localhost:1"),
                           .incarnation = bytes_of(w->incarnation[s], 16)};
    struct m_join_ans a;
    assert_int_equal(meta_join(w->m, &(struct meta_caller){0}, &q, w->now, &a, &w->ar, w->why), 0);
    w->server[s] = a.server;
    w->key[s].id = a.key_id;
    memcpy(w->key[s].key, a.key.p, TOKEN_KEY_LEN);
    assert_int_equal(meta_authenticate(w->m, arena_str(&w->ar, a.credential), &w->server_who[s]),
                     0);
    assert_int_equal(w->server_who[s].server, a.server);
}

int world_setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    char credential[META_CREDENTIAL_MAX];
    snprintf(w->dir, sizeof w->dir, "/tmp/steadfs-meta-XXXXXX");
    if (!mkdtemp(w->dir))
        return -1;
    snprintf(w->path, sizeof w->path, "%s/meta.db", w->dir);
    w->now = 1700000000000;
    open_meta(w);
    assert_int_equal(meta_init(w->m, w->now, credential, w->why), 0);
    add_server(w, HQ, "hq");
    add_server(w, CLOUD, "cloud");
    add_server(w, ATTIC, "attic");
    add_user(w, &w->alice, "alice");
    add_user(w, &w->bob, "bob");
    *state = w;
    return 0;
}

int world_teardown(void **state)
{
    struct world *w = *state;
    char path[128];
    meta_close(w->m);
    static const char *const suffix[] = {"", "-wal", "-shm"};
    for (size_t k = 0; k < 3; k++) {
        snprintf(path, sizeof path, "%s%s", w->path, suffix[k]);
        unlink(path);
    }
    rmdir(w->dir);
    arena_free(&w->ar);
    free(w);
    return 0;
}

/* ---- building ---- */
void plan_new(struct world *w, struct user *u, struct plan *p)
{
    memset(p, 0, sizeof *p);
    p->ch.nodes = p->nodes;
    p->ch.entries = p->entries;
    p->ch.xattrs = p->xattrs;
    p->targets[0] = w->server[HQ];
    p->q = (struct m_commit_req){.ns = u->ns,
                                 .request = ++u->request,
                                 .targets = p->targets,
                                 .targets_n = 1,
                                 .ids = p->ids,
                                 .receipts = p->receipts,
                                 .not_held = p->not_held};
}

void plan_free(struct plan *p)
{
    arena_free(&p->ar);
}

struct m_node_change *plan_node(struct plan *p, uint64_t node, uint64_t facets)
{
    assert_true(p->ch.nodes_n < 64);
    struct m_node_change *n = &p->nodes[p->ch.nodes_n++];
    *n = (struct m_node_change){.node = node, .facets = facets};
    return n;
}

struct m_node_change *plan_create(struct plan *p, uint64_t node, enum node_type type)
{
    struct m_node_change *n = plan_node(p, node, FACET_CREATE);
    n->type = type;
    n->mode = 0644;
    n->uid = 1000;
    n->gid = 1000;
    n->mtime = 11;
    n->ctime = 12;
    if (type == NODE_SYMLINK)
        n->target = bytes_str("where/it/points");
    return n;
}

void plan_range(struct plan *p, struct m_node_change *n, uint64_t off, uint64_t len,
                const struct block_id *block, uint64_t block_off)
{
    struct m_range *v = arena_alloc(&p->ar, (n->ranges_n + 1) * sizeof *v);
    if (n->ranges_n)
        memcpy(v, n->ranges, n->ranges_n * sizeof *v);
    v[n->ranges_n] = (struct m_range){.off = off, .len = len};
    if (block) {
        v[n->ranges_n].extents = arena_alloc(&p->ar, sizeof *v->extents);
        v[n->ranges_n].extents_n = 1;
        v[n->ranges_n].extents[0] =
            (struct m_extent){.off = off, .len = len, .block = *block, .block_off = block_off};
    }
    n->ranges = v;
    n->ranges_n++;
    n->facets |= FACET_CONTENT;
    if (off + len > n->size && block)
        n->size = off + len;
}

struct m_entry_change *plan_entry(struct plan *p, uint64_t parent, const char *name,
                                  uint64_t base_node, uint64_t base_rev, uint64_t node)
{
    assert_true(p->ch.entries_n < 64);
    struct m_entry_change *e = &p->entries[p->ch.entries_n++];
    *e = (struct m_entry_change){.parent = parent,
                                 .name = bytes_str(arena_str(&p->ar, bytes_str(name))),
                                 .base_node = base_node,
                                 .base_rev = base_rev,
                                 .node = node};
    return e;
}

struct m_xattr_change *plan_xattr(struct plan *p, uint64_t node, const char *name,
                                  uint64_t base_rev, const char *value)
{
    assert_true(p->ch.xattrs_n < 64);
    struct m_xattr_change *x = &p->xattrs[p->ch.xattrs_n++];
    *x = (struct m_xattr_change){.node = node,
                                 .name = bytes_str(name),
                                 .base_rev = base_rev,
                                 .value = bytes_str(value ? value : ""),
                                 .removed = value == NULL};
    return x;
}

void plan_id(struct plan *p, const struct block_id *b, uint64_t len)
{
    assert_true(p->q.ids_n < 64);
    p->ids[p->q.ids_n++] = (struct m_block_ref){.block = *b, .len = len};
}

void plan_receipt(struct world *w, struct plan *p, const struct m_receipt *r,
                  const struct token_key *k)
{
    struct buf out = {0};
    (void)w;
    assert_true(p->q.receipts_n < 128);
    struct m_receipt sealed = *r;
    sealed.key_id = k->id;
    receipt_seal(&sealed, k, &out);
    p->receipts[p->q.receipts_n++].receipt = arena_bytes(&p->ar, out.p, out.n);
    buf_free(&out);
}

struct m_receipt world_receipt(struct world *w, uint64_t ns, const struct block_id *b, uint64_t len,
                               int s)
{
    return (struct m_receipt){.server = w->server[s],
                              .ns = ns,
                              .block = *b,
                              .len = len,
                              .incarnation = bytes_of(w->incarnation[s], 16),
                              .time_ms = (uint64_t)w->now,
                              .key_id = w->key[s].id};
}

void plan_block(struct world *w, struct plan *p, uint64_t ns, const struct block_id *b,
                uint64_t len, int s)
{
    struct m_receipt r = world_receipt(w, ns, b, len, s);
    plan_id(p, b, len);
    plan_receipt(w, p, &r, &w->key[s]);
}

int world_try(struct world *w, struct user *u, struct plan *p, struct m_commit_ans *a)
{
    struct buf out = {0};
    msg_encode(&m_changes_desc, &p->ch, &out);
    p->q.changes = bytes_of(out.p, out.n);
    memset(a, 0, sizeof *a);
    int r = meta_commit(w->m, &u->who, &p->q, w->now, a, &w->ar, w->why);
    buf_free(&out);
    return r;
}

struct m_commit_ans world_commit(struct world *w, struct user *u, struct plan *p)
{
    struct m_commit_ans a;
    int r = world_try(w, u, p, &a);
    if (r)
        fail_msg("commit: %d %s", r, w->why);
    return a;
}

/* ---- short cuts ---- */
struct block_id world_block(struct world *w)
{
    struct block_id b = {{BLOCK_KIND_SHA256}};
    uint64_t n = ++w->blocks;
    memcpy(b.b + 1, &n, sizeof n);
    memset(b.b + 20, 0x5a, 13);
    return b;
}

uint64_t world_node_id(struct user *u)
{
    return NODE_ID(u->who.device, ++u->counter);
}

uint64_t world_make(struct world *w, struct user *u, uint64_t parent, const char *name,
                    enum node_type type, uint64_t len)
{
    struct plan p;
    plan_new(w, u, &p);
    uint64_t node = world_node_id(u);
    struct m_node_change *n = plan_create(&p, node, type);
    if (len) {
        struct block_id b = world_block(w);
        plan_range(&p, n, 0, len, &b, 0);
        plan_block(w, &p, u->ns, &b, len, HQ);
    }
    plan_entry(&p, parent, name, 0, 0, node);
    struct m_commit_ans a = world_commit(w, u, &p);
    if (a.status != COMMIT_COMMITTED)
        fail_msg("making %s: status %u reason %u", name, (unsigned)a.status,
                 (unsigned)(a.rows_n ? a.rows[0].reason : 0));
    plan_free(&p);
    return node;
}

struct block_id world_make_block(struct world *w, const char *name)
{
    uint64_t node = world_make(w, &w->alice, w->alice.root, name, NODE_REG, 100);
    struct m_range r = world_extents(w, &w->alice, node, 0);
    assert_int_equal(r.extents_n, 1);
    return r.extents[0].block;
}

struct m_commit_ans world_commit_with(struct world *w, const struct block_id *b, const char *name,
                                      int s, uint64_t generation)
{
    struct plan p;
    plan_new(w, &w->alice, &p);
    uint64_t node = world_node_id(&w->alice);
    struct m_receipt r = world_receipt(w, w->alice.ns, b, 100, s);
    r.generation = generation;
    p.targets[0] = w->server[s];
    plan_range(&p, plan_create(&p, node, NODE_REG), 0, 100, b, 0);
    plan_entry(&p, w->alice.root, name, 0, 0, node);
    plan_id(&p, b, 100);
    if (generation != WORLD_NO_RECEIPT)
        plan_receipt(w, &p, &r, &w->key[s]);
    struct m_commit_ans a = world_commit(w, &w->alice, &p);
    plan_free(&p);
    return a;
}

/* ---- what block servers say ---- */
struct m_beat_ans world_beat(struct world *w, int s, struct m_lost *lost, size_t n)
{
    struct m_beat_req q = {.incarnation = bytes_of(w->incarnation[s], 16),
                           .url = bytes_str("https://localhost:1"),
                           .lost = lost,
                           .lost_n = n};
    struct m_beat_ans a;
    assert_int_equal(meta_beat(w->m, &w->server_who[s], &q, w->now, &a, &w->ar, w->why), 0);
    return a;
}

void world_lose(struct world *w, int s, const struct block_id *b, uint64_t generation)
{
    struct m_lost lost = {.ns = w->alice.ns, .block = *b, .generation = generation};
    world_beat(w, s, &lost, 1);
}

uint64_t world_stored(struct world *w, int s, uint64_t ns, const struct block_id *b, uint64_t len,
                      uint64_t generation)
{
    struct m_stored one = {.ns = ns, .block = *b, .len = len, .generation = generation};
    struct m_stored_req q = {
        .incarnation = bytes_of(w->incarnation[s], 16), .blocks = &one, .blocks_n = 1};
    struct m_stored_ans a;
    assert_int_equal(meta_stored(w->m, &w->server_who[s], &q, w->now, &a, &w->ar, w->why), 0);
    return a.recorded;
}

size_t world_holders(struct world *w, const struct block_id *b)
{
    struct m_locate_req q = {.ns = w->alice.ns, .ids = (struct block_id *)(uintptr_t)b, .ids_n = 1};
    struct m_locate_ans a;
    assert_int_equal(meta_locate(w->m, &w->alice.who, &q, &a, &w->ar, w->why), 0);
    return a.locations[0].servers_n;
}

uint64_t world_head(struct world *w, struct user *u)
{
    uint64_t head;
    assert_int_equal(meta_head(w->m, &u->who, u->ns, &head), 0);
    return head;
}

static uint64_t at_or_head(struct world *w, struct user *u, uint64_t at)
{
    return at ? at : world_head(w, u);
}

struct m_inode world_inode(struct world *w, struct user *u, uint64_t node, uint64_t at)
{
    struct m_node_req q = {.ns = u->ns, .node = node, .at = at_or_head(w, u, at)};
    struct m_node_ans a;
    assert_int_equal(meta_node(w->m, &u->who, &q, &a, &w->ar, w->why), 0);
    if (a.inode_set)
        assert_int_equal(a.inode.xattrs, a.xattrs_n);
    return a.inode_set ? a.inode : (struct m_inode){0};
}

struct m_entry world_lookup(struct world *w, struct user *u, uint64_t parent, const char *name,
                            uint64_t at)
{
    struct m_lookup_req q = {
        .ns = u->ns, .parent = parent, .name = bytes_str(name), .at = at_or_head(w, u, at)};
    struct m_lookup_ans a;
    assert_int_equal(meta_lookup(w->m, &u->who, &q, &a, &w->ar, w->why), 0);
    return a.entry_set ? a.entry : (struct m_entry){0};
}

struct m_range world_extents(struct world *w, struct user *u, uint64_t node, uint64_t at)
{
    struct m_extents_req q = {
        .ns = u->ns, .node = node, .at = at_or_head(w, u, at), .limit = PAGE_ROWS_MAX};
    struct m_extents_ans a;
    assert_int_equal(meta_extents(w->m, &u->who, &q, &a, &w->ar, w->why), 0);
    assert_false(a.more);
    return a.range;
}

uint64_t world_used(struct world *w, struct user *u, uint64_t *nodes)
{
    struct ns_row row;
    uint64_t role;
    assert_int_equal(meta_read_begin(w->m), 0);
    assert_int_equal(meta_access(w->m, &u->who, u->ns, &row, &role, &w->ar, w->why), 0);
    assert_int_equal(meta_read_end(w->m, 0), 0);
    if (nodes)
        *nodes = row.used_nodes;
    return row.used_bytes;
}

void expect_text(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in: %s", part, text);
}

void expect_row(const struct m_commit_ans *a, enum commit_status status, enum row_kind kind,
                uint64_t node, enum refusal reason)
{
    assert_int_equal(a->status, status);
    assert_int_equal(a->rows_n, 1);
    assert_int_equal(a->rows[0].kind, kind);
    assert_int_equal(a->rows[0].node, node);
    assert_int_equal(a->rows[0].reason, reason);
    assert_true(a->reason.n > 0);
}

struct m_commit_ans world_send(struct world *w, struct plan *p)
{
    struct m_commit_ans a = world_commit(w, &w->alice, p);
    plan_free(p);
    return a;
}

void expect_refused(struct world *w, struct plan *p, enum commit_status status, enum refusal reason)
{
    uint64_t head = world_head(w, &w->alice), nodes, nodes_after;
    uint64_t used = world_used(w, &w->alice, &nodes);
    struct m_commit_ans a = world_send(w, p);
    assert_int_equal(a.status, status);
    assert_true(a.rows_n >= 1);
    assert_int_equal(a.rows[0].reason, reason);
    assert_int_equal(a.head, head);
    assert_int_equal(world_head(w, &w->alice), head);
    assert_int_equal(world_used(w, &w->alice, &nodes_after), used);
    assert_int_equal(nodes, nodes_after);
}

/* A plan that creates NAME in the root; the rest of it is the caller's. */
uint64_t world_creation(struct world *w, struct plan *p, const char *name, enum node_type type)
{
    plan_new(w, &w->alice, p);
    uint64_t node = world_node_id(&w->alice);
    plan_create(p, node, type);
    plan_entry(p, w->alice.root, name, 0, 0, node);
    return node;
}

const struct m_replica_ns *world_replicas(struct world *w, int s)
{
    struct m_replicas_req q = {0};
    struct m_replicas_ans *a = arena_alloc(&w->ar, sizeof *a);
    assert_int_equal(meta_replicas(w->m, &w->server_who[s], &q, w->now, a, &w->ar, w->why), 0);
    for (size_t k = 0; k < a->namespaces_n; k++)
        if (a->namespaces[k].ns == w->alice.ns)
            return &a->namespaces[k];
    return NULL;
}

const struct m_replica *world_replica(struct world *w, int asks, int of)
{
    const struct m_replica_ns *n = world_replicas(w, asks);
    assert_non_null(n);
    for (size_t k = 0; k < n->replicas_n; k++)
        if (n->replicas[k].server == w->server[of])
            return &n->replicas[k];
    return NULL;
}
