// SPDX-License-Identifier: Apache-2.0
/* Storages of block servers and how they were opened, on SQLite. */
#include "store_sqlite.h"

#include <errno.h>

#define ENDED_KEPT 64u /* of a server; one that is older is told by the generation it found */

int sq_heard_raise(struct store *s, uint64_t ns, uint64_t server, uint64_t generation)
{
    return sq_exec(s,
                   "INSERT INTO heard (ns, server, generation) VALUES (?, ?, ?) "
                   "ON CONFLICT (ns, server) DO UPDATE SET generation = excluded.generation "
                   "WHERE generation < excluded.generation",
                   "iii", ns, server, generation);
}

int sq_heard_most(struct store *s, uint64_t server, uint64_t *generation)
{
    sqlite3_stmt *st =
        sq_bind(s, "SELECT coalesce(max(generation), 0) FROM heard WHERE server = ?", "i", server);
    int r = sq_one(s, st);
    *generation = r ? 0 : sq_u64(st, 0);
    sq_done(st);
    return r;
}

int sq_heard_drop(struct store *s, uint64_t server)
{
    return sq_exec(s, "DELETE FROM heard WHERE server = ?", "i", server);
}

/* Whether the bound statement has a row. */
static int is_there(struct store *s, sqlite3_stmt *st, bool *yes)
{
    int r = sq_one(s, st);
    sq_done(st);
    *yes = r == 0;
    return r == -ENOENT ? 0 : r;
}

int sq_give_up(struct store *s, uint64_t server, struct bytes incarnation)
{
    return sq_exec(s, "INSERT OR IGNORE INTO given_up (server, incarnation) VALUES (?, ?)", "ib",
                   server, incarnation);
}

int sq_given_up(struct store *s, uint64_t server, struct bytes incarnation, bool *yes)
{
    return is_there(s,
                    sq_bind(s, "SELECT 1 FROM given_up WHERE server = ? AND incarnation = ?", "ib",
                            server, incarnation),
                    yes);
}

int sq_run_end(struct store *s, uint64_t server, uint64_t run)
{
    int r =
        sq_exec(s, "INSERT OR IGNORE INTO ended (server, run) VALUES (?, ?)", "ii", server, run);
    return r ? r
             : sq_exec(s,
                       "DELETE FROM ended WHERE server = ?1 AND n NOT IN "
                       "(SELECT n FROM ended WHERE server = ?1 ORDER BY n DESC LIMIT ?2)",
                       "ii", server, (uint64_t)ENDED_KEPT);
}

int sq_run_ended(struct store *s, uint64_t server, uint64_t run, bool *yes)
{
    return is_there(
        s, sq_bind(s, "SELECT 1 FROM ended WHERE server = ? AND run = ?", "ii", server, run), yes);
}
