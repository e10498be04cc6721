// SPDX-License-Identifier: Apache-2.0
/* A state directory that was copied, or restored from a backup, goes on under a number of its own
 * (`steadfs login --renew`), so that nothing that two of them make is taken for one.
 *
 * What was sent under the old number can neither be sent again under it nor be asked about: it
 * becomes pending again. If it was committed after all, the journal tells of it as of another
 * device's change, and a conflicted copy stands beside it. What was made here and not committed
 * gets ids of the new number, with the same counters: no such id was ever given out, and the
 * counters go on behind them. It is read up to the session's head before anything is sent, as after
 * an unclean end.
 */
#include "core_int.h"

#include <errno.h>

/* Who made what is not committed, where the tree does not say whose it is (it is older than that).
 */
static int maker(struct core *c, uint64_t *device)
{
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT id >> 40 FROM node WHERE (pend & 1) != 0"
                                      " AND pend != 0 LIMIT 1");
    int rc = tree_step(c->t, s);
    if (rc == 1)
        *device = (uint64_t)sqlite3_column_int64(s, 0);
    if (s)
        sqlite3_reset(s);
    return rc < 0 ? rc : 0;
}

static int unsend_all(struct core *c)
{
    struct core_effects fx = {0}; /* nobody has anything open */
    cleanup_ids struct ids l = {0};
    sqlite3_stmt *s = tree_stmt(c->t, "SELECT request FROM sent ORDER BY request");
    int err;
    while ((err = tree_step(c->t, s)) == 1)
        ids_add(&l, (uint64_t)sqlite3_column_int64(s, 0));
    for (size_t i = 0; !err && i < l.n; i++)
        err = rebase_unsend(c, l.v[i], &fx);
    core_effects_free(&fx);
    return err;
}

#define MADE "(SELECT id FROM node WHERE (pend & 1) != 0 AND pend != 0 AND id >> 40 = ?1)"
#define OURS(id) "((" #id " & 0xFFFFFFFFFF) | (?2 << 40))"

static int renumber(struct core *c, uint64_t from)
{
    static const char *const sql[] = {
        "UPDATE entry SET node = " OURS(node) " WHERE node IN " MADE,
        "UPDATE entry SET parent = " OURS(parent) " WHERE parent IN " MADE,
        "UPDATE extent SET node = " OURS(node) " WHERE node IN " MADE,
        "UPDATE span SET node = " OURS(node) " WHERE node IN " MADE,
        "UPDATE xattr SET node = " OURS(node) " WHERE node IN " MADE,
        "UPDATE node SET id = " OURS(id) " WHERE id IN " MADE, /* the others find it by this */
    };
    int err = 0;
    for (size_t i = 0; !err && i < sizeof sql / sizeof *sql; i++) {
        sqlite3_stmt *s = tree_stmt(c->t, sql[i]);
        sqlite3_bind_int64(s, 1, (int64_t)from);
        sqlite3_bind_int64(s, 2, c->device);
        err = tree_step(c->t, s);
    }
    return err;
}

int device_adopt(struct core *c, bool *clean)
{
    int64_t was = 0;
    uint64_t from = c->device;
    int err = tree_get(c->t, "device", &was);
    if (err == -ENOENT)
        err = maker(c, &from);
    else if (!err)
        from = (uint64_t)was;
    if (err || was == (int64_t)c->device)
        return err;
    if (from == c->device)
        return tree_set(c->t, "device", c->device);
    *clean = false;
    err = core_begin(c);
    if (err)
        return err;
    err = unsend_all(c);
    if (!err)
        err = renumber(c, from);
    if (!err)
        err = tree_set(c->t, "device", c->device);
    return core_leave(c, err);
}
