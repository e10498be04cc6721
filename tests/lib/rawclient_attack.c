// SPDX-License-Identifier: Apache-2.0
/* What an honest client never does. */
#include "rawclient.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void check(struct client *c, bool ok, const char *what)
{
    printf("%s - %s\n", ok ? "ok" : "not ok", what);
    c->failed += !ok;
}

/* A commit of one file with this block and this receipt must be answered with exactly that block as
 * missing, and leave the namespace as it was. */
static void refused(struct client *c, const struct m_namespace *ns, const struct block_id *id,
                    size_t len, struct bytes receipt, const char *what)
{
    struct arena a = {0};
    struct m_commit_ans ans;
    struct m_changes m;
    struct m_node_change n;
    struct m_entry_change entry;
    struct m_range range;
    struct m_extent e = {.len = len, .block = *id};
    struct m_block_ref ref = {.block = *id, .len = len};
    struct m_receipt_bytes r = {receipt};
    file_of(c, ns, "stolen", &e, 1, len, &m, &n, &entry, &range);
    for (int named = 0; named < 2; named++) { /* a client may also leave the id out of its list */
        commit(c, ns, &m, &ref, (size_t)named, &r, receipt.n ? 1 : 0, &ans, &a);
        bool exact =
            ans.missing_n + ans.elsewhere_n == 1 &&
            block_id_equal(ans.missing_n ? &ans.missing[0].block : &ans.elsewhere[0].block, id);
        check(c, ans.status == COMMIT_MISSING && exact, what);
    }
    struct m_lookup_req q = {
        .ns = ns->id, .parent = ns->root, .name = bytes_str("stolen"), .at = ans.head};
    struct m_lookup_ans found;
    if (!q.at)
        q.at = ns->head;
    int err = rpc_wait(c->rpc, c->url, "lookup", &m_lookup_req_desc, &q, &m_lookup_ans_desc, &found,
                       &a, TIMEOUT_MS, NULL);
    check(c, err == 0 && !found.entry_set, "… and nothing changed");
    arena_free(&a);
}

/* A way to ask about one block. */
enum oracle { BY_GET, BY_HAVE, BY_DIFF, BY_COUNTS, BY_PUT, ORACLES };
static const char *const oracle_names[ORACLES] = {
    [BY_GET] = "get",
    [BY_HAVE] = "have",
    [BY_DIFF] = "diff",
    [BY_COUNTS] = "diff for every candidate",
    [BY_PUT] = "a put of other bytes under its hash",
};

static int ask_about(struct client *c, const struct m_namespace *ns, enum oracle by,
                     struct block_id id, size_t len, struct buf *out)
{
    static const uint8_t other[5000];
    struct bytes capability = ns->candidates[0].capability;
    uint64_t server = ns->candidates[0].server;
    struct m_get_req get_q = {.ns = ns->id, .capability = capability, .blocks = &id, .blocks_n = 1};
    struct m_block_ref ref = {.block = id, .len = len};
    struct m_diff_req diff_q = {
        .ns = ns->id, .target = by == BY_DIFF ? server : 0, .ids = &ref, .ids_n = 1};
    struct m_put_item item = {.block = id, .stored_len = sizeof other, .logical_len = sizeof other};
    struct m_put_head put_q = {
        .ns = ns->id, .capability = capability, .items = &item, .items_n = 1};
    struct bytes none = {0};
    switch (by) {
    case BY_GET:
        return ask(c, server_url(c, server), "get", &m_get_req_desc, &get_q, none, out);
    case BY_HAVE:
        return ask(c, server_url(c, server), "have", &m_get_req_desc, &get_q, none, out);
    case BY_DIFF:
    case BY_COUNTS:
        return ask(c, c->url, "diff", &m_diff_req_desc, &diff_q, none, out);
    default:
        return ask(c, server_url(c, server), "put", &m_put_head_desc, &put_q,
                   bytes_of(other, sizeof other), out);
    }
}

/* Whether a block is stored for somebody else cannot be told: what is answered about it is, but for
 * the hash itself, what is answered about one that nobody has. */
static void oracles(struct client *c, const struct m_namespace *ns, const struct block_id *theirs,
                    size_t len)
{
    struct block_id nobodys;
    char what[128];
    random_bytes(nobodys.b + 1, sizeof nobodys.b - 1);
    nobodys.b[0] = theirs->b[0];
    for (enum oracle by = 0; by < ORACLES; by++) {
        struct buf x = {0}, y = {0};
        int r = ask_about(c, ns, by, *theirs, len, &x);
        int s = ask_about(c, ns, by, nobodys, len, &y);
        for (size_t i = 0; i + sizeof nobodys.b <= y.n; i++)
            if (!memcmp(y.p + i, nobodys.b, sizeof nobodys.b))
                memcpy(y.p + i, theirs->b, sizeof nobodys.b);
        snprintf(what, sizeof what, "%s tells nothing about what others store", oracle_names[by]);
        check(c, r == 0 && s == 0 && x.n && x.n == y.n && !memcmp(x.p, y.p, x.n), what);
        buf_free(&x);
        buf_free(&y);
    }
}

/* A capability is good as it is, where it is for. */
static void capabilities(struct client *c, const struct m_namespace *ns,
                         const struct m_namespace *other, struct block_id theirs)
{
    struct arena a cleanup_arena = {0};
    struct buf out cleanup_buf = {0};
    struct m_candidate *mine = &ns->candidates[0];
    const char *url = server_url(c, mine->server);
    struct bytes none = {0};
    struct m_get_req q = {
        .ns = other->id, .capability = mine->capability, .blocks = &theirs, .blocks_n = 1};
    check(c, ask(c, url, "get", &m_get_req_desc, &q, none, &out) == -EPERM,
          "a get in another namespace under one's own capability is refused");
    q.ns = ns->id;
    for (size_t i = 0; i < mine->capability.n; i += 7) {
        uint8_t *forged = arena_copy(&a, mine->capability.p, mine->capability.n);
        forged[i] ^= 1;
        q.capability = bytes_of(forged, mine->capability.n);
        int r = ask(c, url, "get", &m_get_req_desc, &q, none, &out);
        if (r != -EACCES && r != -EPERM) {
            check(c, false, "a capability with a changed bit is refused");
            return;
        }
    }
    check(c, true, "a capability with a changed bit is refused");
    if (ns->candidates_n < 2)
        return;
    q.capability = ns->candidates[1].capability;
    int r = ask(c, url, "get", &m_get_req_desc, &q, none, &out);
    check(c, r == -EACCES || r == -EPERM, "a capability for another server is refused");
}

void attack(struct client *c, const char *other_name)
{
    const struct m_namespace *ns = namespace(c, NULL), *other = namespace(c, other_name);
    struct arena a = {0};
    uint8_t x[5000], y[5000];
    struct block_id bx, by;
    struct bytes rx = {0}, ry = {0}, elsewhere = {0};
    random_bytes(x, sizeof x);
    random_bytes(y, sizeof y);
    block_id_of(&bx, x, sizeof x);
    block_id_of(&by, y, sizeof y);
    refused(c, ns, &bx, sizeof x, bytes_of(NULL, 0), "a commit without the upload");
    if (put(c, other, 0, other->id, x, sizeof x, &rx, &a) ||
        put(c, ns, 0, ns->id, y, sizeof y, &ry, &a))
        die("put", -EIO, "");
    refused(c, ns, &bx, sizeof x, bytes_of(NULL, 0), "a block that another namespace stores");
    refused(c, ns, &bx, sizeof x, rx, "a receipt for another namespace");
    refused(c, ns, &bx, sizeof x, ry, "a receipt for another block");
    refused(c, ns, &by, sizeof y, bytes_of(NULL, 0), "a put whose receipt is not presented");
    uint8_t *forged = arena_copy(&a, ry.p, ry.n);
    forged[ry.n - 1] ^= 1;
    refused(c, ns, &by, sizeof y, bytes_of(forged, ry.n), "a forged receipt");
    if (ns->candidates_n > 1) {
        if (put(c, ns, 1, ns->id, y, sizeof y, &elsewhere, &a))
            die("put", -EIO, "");
        refused(c, ns, &by, sizeof y, elsewhere, "a receipt of another server");
    }
    struct bytes none = {0};
    check(c, put(c, other, 0, ns->id, x, sizeof x, &none, &a) == -EPERM,
          "a put under another namespace's capability is refused");
    oracles(c, ns, &bx, sizeof x);
    capabilities(c, ns, other, bx);
    arena_free(&a);
}

/* ---- somebody else's namespace ----------------------------------------------------------------
 */

enum question { Q_DIFF, Q_LIST, Q_LOOKUP, Q_READDIR, Q_EXTENTS, Q_COMMIT, QUESTIONS };
static const char *const question_names[QUESTIONS] = {"diff",    "list",    "lookup",
                                                      "readdir", "extents", "commit"};

static int ask_outside(struct client *c, uint64_t ns, enum question q, struct buf *out)
{
    struct bytes none = {0};
    struct m_block_ref ref = {.len = 1};
    struct m_diff_req diff = {.ns = ns, .ids = &ref, .ids_n = 1};
    struct m_list_req list = {.ns = ns};
    struct m_lookup_req lookup = {.ns = ns, .parent = 1, .name = bytes_str("a"), .at = 1};
    struct m_readdir_req readdir = {.ns = ns, .dir = 1, .at = 1};
    struct m_extents_req extents = {.ns = ns, .node = 2, .at = 1};
    struct m_commit_req commit_q = {.ns = ns, .request = c->request, .lowest_open = c->request};
    switch (q) {
    case Q_DIFF:
        return ask(c, c->url, "diff", &m_diff_req_desc, &diff, none, out);
    case Q_LIST:
        return ask(c, c->url, "list", &m_list_req_desc, &list, none, out);
    case Q_LOOKUP:
        return ask(c, c->url, "lookup", &m_lookup_req_desc, &lookup, none, out);
    case Q_READDIR:
        return ask(c, c->url, "readdir", &m_readdir_req_desc, &readdir, none, out);
    case Q_EXTENTS:
        return ask(c, c->url, "extents", &m_extents_req_desc, &extents, none, out);
    default:
        return ask(c, c->url, "commit", &m_commit_req_desc, &commit_q, none, out);
    }
}

/* A refused commit is an answer like others. */
static bool is_refusal(const struct buf *b)
{
    struct arena a cleanup_arena = {0};
    struct m_commit_ans ans;
    return msg_decode(&m_commit_ans_desc, &ans, b->p, b->n, MSG_LENIENT, &a, NULL) == 0 &&
           ans.status == COMMIT_REFUSED;
}

/* Who is no member of a namespace is refused, and not told whether there is one of that number. */
void outsider(struct client *c, uint64_t ns)
{
    char what[128];
    for (enum question q = 0; q < QUESTIONS; q++) {
        struct buf x = {0}, y = {0};
        int r = ask_outside(c, ns, q, &x), s = ask_outside(c, ns + 1000000, q, &y);
        snprintf(what, sizeof what, "%s of a namespace of others is refused", question_names[q]);
        check(c, q == Q_COMMIT ? !r && is_refusal(&x) : r == -EPERM || r == -EACCES, what);
        snprintf(what, sizeof what, "%s tells nothing about whether it exists", question_names[q]);
        check(c, r == s && (q != Q_COMMIT || (x.n == y.n && !memcmp(x.p, y.p, x.n))), what);
        buf_free(&x);
        buf_free(&y);
    }
    /* nor does a block server take a capability for one's own namespace there */
    const struct m_namespace *own = namespace(c, NULL);
    struct block_id id = {{0}};
    struct buf out cleanup_buf = {0};
    struct bytes none = {0};
    struct m_get_req get_q = {
        .ns = ns, .capability = own->candidates[0].capability, .blocks = &id, .blocks_n = 1};
    check(c,
          ask(c, server_url(c, own->candidates[0].server), "get", &m_get_req_desc, &get_q, none,
              &out) == -EPERM,
          "a get there under one's own capability is refused");
}

/* ---- out of the premises ----------------------------------------------------------------------
 */

/* A capability of another namespace of ours at the server; empty: none is there. */
static struct bytes other_capability(const struct client *c, const struct m_namespace *ns,
                                     uint64_t server, uint64_t *other)
{
    for (size_t i = 0; i < c->s.namespaces_n; i++)
        for (size_t k = 0; k < c->s.namespaces[i].candidates_n; k++)
            if (c->s.namespaces[i].id != ns->id &&
                c->s.namespaces[i].candidates[k].server == server) {
                *other = c->s.namespaces[i].id;
                return c->s.namespaces[i].candidates[k].capability;
            }
    return (struct bytes){0};
}

/* A server of the namespace passes nothing on to the other one, whatever capability comes with it;
 * and there nothing is linked from the namespace into one that is there. */
static void by_relay_and_link(struct client *c, const struct m_namespace *ns, uint64_t server,
                              const char *url, struct m_put_item *item, struct bytes x)
{
    struct buf out cleanup_buf = {0};
    struct bytes none = {0}, own = ns->candidates[0].capability;
    const char *at = server_url(c, ns->candidates[0].server);
    uint64_t other_ns = 0;
    struct bytes other = other_capability(c, ns, server, &other_ns);
    struct m_put_head q = {
        .ns = ns->id, .capability = own, .items = item, .items_n = 1, .relay = server};
    const struct bytes caps[] = {own, other};
    for (size_t k = 0; k < 2; k++) {
        q.relay_capability = caps[k];
        check(c, ask(c, at, "put", &m_put_head_desc, &q, x, &out) != 0,
              k ? "to be passed on there under another namespace's capability is refused"
                : "to be passed on there is refused");
    }
    check(c, other.n > 0, "another namespace is there");
    struct m_link_req l = {
        .ns = other_ns, .capability = other, .from = ns->id, .blocks = &item->block, .blocks_n = 1};
    for (size_t k = 0; k < 2; k++) {
        l.from_capability = caps[k];
        int r = ask(c, url, "link", &m_link_req_desc, &l, none, &out);
        check(c, r == -EACCES || r == -EPERM, "a link out of it there is refused");
    }
}

/* The namespace may not be at the server: no capability of ours is good there, and the metadata
 * server neither takes a commit that names it nor says what it has. */
void elsewhere(struct client *c, uint64_t server, const char *url)
{
    const struct m_namespace *ns = namespace(c, NULL);
    struct bytes none = {0};
    struct buf out cleanup_buf = {0};
    struct arena a cleanup_arena = {0};
    uint8_t x[5000];
    struct m_block_ref ref = {.len = sizeof x};
    struct m_put_item item = {.stored_len = sizeof x, .logical_len = sizeof x};
    random_bytes(x, sizeof x);
    block_id_of(&ref.block, x, sizeof x);
    item.block = ref.block;
    for (size_t i = 0; i < ns->candidates_n; i++)
        check(c, ns->candidates[i].server != server, "no capability is given for it");
    struct m_put_head put_q = {
        .ns = ns->id, .capability = ns->candidates[0].capability, .items = &item, .items_n = 1};
    int r = ask(c, url, "put", &m_put_head_desc, &put_q, bytes_of(x, sizeof x), &out);
    check(c, r == -EACCES || r == -EPERM, "a put there is refused");
    struct m_get_req get_q = {.ns = ns->id,
                              .capability = ns->candidates[0].capability,
                              .blocks = &ref.block,
                              .blocks_n = 1};
    r = ask(c, url, "get", &m_get_req_desc, &get_q, none, &out);
    check(c, r == -EACCES || r == -EPERM, "a get there is refused");
    by_relay_and_link(c, ns, server, url, &item, bytes_of(x, sizeof x));
    struct m_diff_req diff_q = {.ns = ns->id, .target = server, .ids = &ref, .ids_n = 1};
    check(c, ask(c, c->url, "diff", &m_diff_req_desc, &diff_q, none, &out) == -EPERM,
          "a question about it as a target is refused");
    struct m_changes m;
    struct m_node_change n;
    struct m_entry_change entry;
    struct m_range range;
    struct m_extent e = {.len = sizeof x, .block = ref.block};
    struct buf changes cleanup_buf = {0};
    file_of(c, ns, "elsewhere", &e, 1, sizeof x, &m, &n, &entry, &range);
    msg_encode(&m_changes_desc, &m, &changes);
    uint64_t both[] = {ns->candidates[0].server, server};
    for (size_t k = 0; k < 2; k++) {
        struct m_commit_ans ans;
        struct m_commit_req q = {.ns = ns->id,
                                 .request = c->request,
                                 .lowest_open = c->request,
                                 .targets = both + 1 - k,
                                 .targets_n = 1 + k,
                                 .ids = &ref,
                                 .ids_n = 1,
                                 .changes = bytes_of(changes.p, changes.n)};
        c->request++;
        r = rpc_wait(c->rpc, c->url, "commit", &m_commit_req_desc, &q, &m_commit_ans_desc, &ans, &a,
                     TIMEOUT_MS, NULL);
        check(c, !r && ans.status == COMMIT_REFUSED && ans.rows[0].reason == REFUSED_ASSIGNMENT,
              k ? "a commit that names it beside another is refused"
                : "a commit that names it alone is refused");
    }
}

/* ---- taken back -------------------------------------------------------------------------------
 */
#define HOLD_MS 60000
#define HOLD_STEP_US 10000

/* What was given is used for as long as it is taken. */
void hold(struct client *c, const char *name, const char *ready)
{
    const struct m_namespace *ns = namespace(c, name);
    uint8_t x[3000];
    struct block_id id;
    int r = 0, s = 0;
    random_bytes(x, sizeof x);
    block_id_of(&id, x, sizeof x);
    for (int waited = 0; waited < HOLD_MS && (r == 0 || s == 0); waited += HOLD_STEP_US / 1000) {
        struct arena a cleanup_arena = {0};
        struct buf out cleanup_buf = {0};
        struct bytes receipt = {0}, none = {0};
        struct m_get_req q = {
            .ns = ns->id, .capability = ns->candidates[0].capability, .blocks = &id, .blocks_n = 1};
        r = put(c, ns, 0, ns->id, x, sizeof x, &receipt, &a);
        s = ask(c, server_url(c, ns->candidates[0].server), "get", &m_get_req_desc, &q, none, &out);
        if (!waited) {
            check(c, r == 0 && s == 0, "it is good at first");
            FILE *f = fopen(ready, "w");
            if (!f || fclose(f))
                die(ready, -errno, "");
        }
        usleep(HOLD_STEP_US);
    }
    check(c, (r == -EACCES || r == -EPERM) && (s == -EACCES || s == -EPERM),
          "it is refused, to write and to read");
}
