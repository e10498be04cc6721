// SPDX-License-Identifier: Apache-2.0
/* The log of replication's tasks (F3): which block is to be offered to which other server, and how
 * far each namespace's journal has been turned into tasks. In SQLite, DIR/replication.db; what a
 * call has changed is durable when it returns. Any thread. 0 or -errno. */
#ifndef TASKS_H
#define TASKS_H

#include "buf.h"

struct tasks;

struct task {
    uint64_t id; /* rises: older tasks come first */
    uint64_t ns, server;
    struct block_id block;
};

/* err: 512 bytes. -EPROTO: written by a newer program. A damaged file is set aside and begun anew.
 */
int tasks_open(struct tasks **out, const char *dir, char *err);
void tasks_close(struct tasks *t);
/* Appends the namespace's cursor; -ENOENT: none. */
int tasks_cursor(struct tasks *t, uint64_t ns, struct buf *out);
/* Adds tasks (ids are ignored, those there already stay) and moves the cursor unless it is empty,
 * both or neither. added: how many were new; may be NULL. */
int tasks_add(struct tasks *t, uint64_t ns, struct bytes cursor, const struct task *v, size_t n,
              size_t *added);
/* The oldest tasks of a server that may be tried now, all of one namespace, at most max. *next_ms:
 * when the next one may be, INT64_MAX: none waits. */
int tasks_due(struct tasks *t, uint64_t server, int64_t now_ms, size_t max, struct task *v,
              size_t *n, int64_t *next_ms);
int tasks_done(struct tasks *t, const struct task *v, size_t n);
int tasks_later(struct tasks *t, const struct task *v, size_t n, int64_t not_before_ms);
/* The server no longer takes part in the namespace (server 0: nobody does, the cursor goes, too).
 */
int tasks_forget(struct tasks *t, uint64_t ns, uint64_t server);
/* Calls fn for every namespace and server that has tasks; as long as there are such pairs, however
 * many tasks. */
int tasks_count(struct tasks *t, void (*fn)(void *arg, uint64_t ns, uint64_t server, uint64_t n),
                void *arg);
/* Its database: for tests that count what a statement costs. */
struct sqlite3 *tasks_sqlite(struct tasks *t);
#endif
