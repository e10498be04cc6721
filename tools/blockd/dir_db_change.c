// SPDX-License-Identifier: Apache-2.0
/* Changes of the index, each inside the transaction that its caller has begun. */
#include "dir_db_int.h"

#include "feed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

const char *const dir_db_write_sql[WRITES] = {
    [FIND] = "SELECT n, stored_len FROM block WHERE id = ?1",
    [INSERT] = "INSERT INTO block (id, stored_len, logical_len, file) VALUES (?1, ?2, ?3, ?4)",
    [INSERT_SMALL] = "INSERT INTO small (n, bytes) VALUES (?1, ?2)",
    [HOLD] = "INSERT INTO held (ns, n, generation) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    [HOLD_AGAIN] = "UPDATE held SET generation = ?3 WHERE ns = ?1 AND n = ?2 AND generation < ?3",
    [TOTALS] = "UPDATE store SET blocks = blocks + ?1, bytes = bytes + ?2",
    [DROP_HELD] = "DELETE FROM held WHERE n = ?1",
    [DROP_SMALL] = "DELETE FROM small WHERE n = ?1",
    [DROP_UNCLAIMED] = "DELETE FROM unclaimed WHERE n = ?1",
    [DROP_BLOCK] = "DELETE FROM block WHERE n = ?1",
    [FIND_BAD] = ("SELECT block.n, stored_len FROM block LEFT JOIN small ON small.n = block.n "
                  "WHERE id = ?1 AND file IS ?2 AND bytes IS ?3"),
    [LOSE] = ("INSERT OR REPLACE INTO lost (ns, id, generation) "
              "SELECT ns, id, ?2 FROM held JOIN block USING (n) WHERE n = ?1"),
    [REGAIN] = "DELETE FROM lost WHERE ns = ?1 AND id = ?2",
    [FORGET_LOST] = "DELETE FROM lost WHERE serial <= ?1",
    [INCARNATION] = "UPDATE store SET incarnation = ?1",
    [GENERATION] = "SELECT generation FROM store",
    [RAISE] = "UPDATE store SET generation = max(generation + 1, ?1)",
    [REPLACE_FILE] = "UPDATE block SET file = ?2 WHERE n = ?1 AND file = ?3",
    [DOOM] = "INSERT OR IGNORE INTO doomed (file) VALUES (?1)",
    [LET_GO] = "DELETE FROM held WHERE ns = ?1 AND n = ?2 AND generation < ?3",
    [IS_HELD] = "SELECT 1, 0 FROM held WHERE n = ?1 LIMIT 1",
    [FILE_OF] = "SELECT file FROM block WHERE n = ?1",
    [RAISE_TO] = "UPDATE store SET generation = max(generation, ?1)",
    [STEP] = "UPDATE store SET generation = generation + 1",
    [UNCLAIMED] = "INSERT INTO unclaimed (n) VALUES (?1)",
    [IS_UNCLAIMED] = "SELECT 1, 0 FROM unclaimed WHERE n = ?1",
    [NEXT_UNCLAIMED] =
        ("SELECT n, stored_len FROM unclaimed AS u JOIN block USING (n) WHERE n > ?1 "
         "AND NOT EXISTS (SELECT 1 FROM held WHERE held.n = u.n) ORDER BY n LIMIT 1"),
    [FORGET_DOOMED] = "DELETE FROM doomed WHERE file = ?1",
};

/* The row number and stored length that a bound statement finds; 0: none, -errno. */
static int64_t found_row(struct dir_db *d, sqlite3_stmt *st, int64_t *len)
{
    int rc = sqlite3_step(st);
    int64_t n = rc == SQLITE_ROW    ? sqlite3_column_int64(st, 0)
                : rc == SQLITE_DONE ? 0
                                    : dir_sql_errno(d->db, rc);
    *len = n > 0 ? sqlite3_column_int64(st, 1) : 0;
    sqlite3_reset(st);
    return n;
}

static int64_t row_of(struct dir_db *d, const struct block_id *id, int64_t *len)
{
    dir_sql_bind_id(d->st[FIND], 1, id);
    return found_row(d, d->st[FIND], len);
}

static int add_totals(struct dir_db *d, int64_t blocks, int64_t bytes)
{
    sqlite3_bind_int64(d->st[TOTALS], 1, blocks);
    sqlite3_bind_int64(d->st[TOTALS], 2, bytes);
    return dir_sql_run(d->db, d->st[TOTALS]);
}

int generation_get(struct dir_db *d, uint64_t *out)
{
    sqlite3_stmt *st = d->st[GENERATION];
    int rc = sqlite3_step(st);
    *out = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    return rc == SQLITE_ROW ? 0 : dir_sql_errno(d->db, rc);
}

/* The clock only makes it likely that an index made anew begins above what an earlier one had. */
int generation_raise(struct dir_db *d, uint64_t *out)
{
    dir_sql_bind_u64(d->st[RAISE], 1, (uint64_t)wall_ms());
    int r = dir_sql_run(d->db, d->st[RAISE]);
    return r ? r : generation_get(d, out);
}

static int insert_block(struct dir_db *d, const struct dir_record *p, int64_t *n)
{
    sqlite3_stmt *st = d->st[INSERT];
    dir_sql_bind_id(st, 1, &p->id);
    dir_sql_bind_u64(st, 2, p->stored_len);
    dir_sql_bind_u64(st, 3, p->logical_len);
    if (p->file)
        sqlite3_bind_text(st, 4, p->file, -1, SQLITE_STATIC);
    int r = dir_sql_run(d->db, st);
    *n = sqlite3_last_insert_rowid(d->db);
    if (!r && !p->file) {
        st = d->st[INSERT_SMALL];
        sqlite3_bind_int64(st, 1, *n);
        sqlite3_bind_blob64(st, 2, p->data.p ? p->data.p : (const void *)"", p->data.n,
                            SQLITE_STATIC);
        r = dir_sql_run(d->db, st);
    }
    return r ? r : add_totals(d, 1, (int64_t)p->stored_len);
}

static int run_with_text(struct dir_db *d, int which, const char *text)
{
    sqlite3_bind_text(d->st[which], 1, text, -1, SQLITE_STATIC);
    return dir_sql_run(d->db, d->st[which]);
}

/* The block's bytes are in another file from now on. */
static int replace_file(struct dir_db *d, int64_t n, struct dir_record *p)
{
    sqlite3_stmt *st = d->st[REPLACE_FILE];
    sqlite3_bind_int64(st, 1, n);
    sqlite3_bind_text(st, 2, p->file, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 3, p->replaces, -1, SQLITE_STATIC);
    int r = dir_sql_run(d->db, st);
    p->taken = !r && sqlite3_changes(d->db) == 1;
    return p->taken ? run_with_text(d, DOOM, p->replaces) : r;
}

static int hold_row(struct dir_db *d, int which, uint64_t ns, int64_t n, uint64_t generation)
{
    dir_sql_bind_u64(d->st[which], 1, ns);
    sqlite3_bind_int64(d->st[which], 2, n);
    dir_sql_bind_u64(d->st[which], 3, generation);
    return dir_sql_run(d->db, d->st[which]);
}

/* The namespace has block n from this generation on. fresh: it had not, before. */
static int hold(struct dir_db *d, uint64_t ns, const struct block_id *id, int64_t n,
                uint64_t *generation, bool *fresh)
{
    int r = generation_get(d, generation);
    if (r || (r = hold_row(d, HOLD, ns, n, *generation)))
        return r;
    *fresh = sqlite3_changes(d->db) > 0;
    if (!*fresh && (r = hold_row(d, HOLD_AGAIN, ns, n, *generation)))
        return r;
    dir_sql_bind_u64(d->st[REGAIN], 1, ns);
    dir_sql_bind_id(d->st[REGAIN], 2, id);
    return dir_sql_run(d->db, d->st[REGAIN]);
}

/* One row of a put, inside a transaction. -EAGAIN is the row's own outcome. */
static int put_row(struct dir_db *d, uint64_t ns, struct dir_record *p)
{
    int64_t len, n = row_of(d, &p->id, &len);
    p->taken = false;
    p->err = 0;
    if (n < 0)
        return (int)n;
    if (n == 0) {
        if (p->known) {
            p->err = -EAGAIN;
            return 0;
        }
        int failed = insert_block(d, p, &n);
        if (failed)
            return failed;
        p->taken = true;
    } else if (p->file && p->replaces) {
        int failed = replace_file(d, n, p);
        if (failed)
            return failed;
    }
    return hold(d, ns, &p->id, n, &p->generation, &p->fresh);
}

/* Row number of a job's block if it is still what was found bad; 0: none, -errno. */
static int64_t bad_row(struct dir_db *d, const struct job *j, int64_t *len)
{
    sqlite3_stmt *st = d->st[FIND_BAD];
    dir_sql_bind_id(st, 1, j->id);
    if (j->file)
        sqlite3_bind_text(st, 2, j->file, -1, SQLITE_STATIC);
    else
        sqlite3_bind_blob64(st, 3, j->bad.p ? j->bad.p : (const void *)"", j->bad.n, SQLITE_STATIC);
    int64_t n = found_row(d, st, len);
    sqlite3_clear_bindings(st);
    return n;
}

/* -EALREADY is the job's own outcome. */
static int remove_row(struct dir_db *d, struct job *j)
{
    int64_t len, n = bad_row(d, j, &len);
    j->err = n ? 0 : -EALREADY;
    if (n <= 0)
        return (int)n;
    uint64_t from_now;
    int lost = generation_raise(d, &from_now);
    if (lost)
        return lost;
    sqlite3_bind_int64(d->st[LOSE], 1, n);
    dir_sql_bind_u64(d->st[LOSE], 2, from_now);
    if ((lost = dir_sql_run(d->db, d->st[LOSE])))
        return lost;
    for (int i = DROP_HELD; i <= DROP_BLOCK; i++) {
        sqlite3_bind_int64(d->st[i], 1, n);
        int r = dir_sql_run(d->db, d->st[i]);
        if (r)
            return r;
    }
    return add_totals(d, -1, -len);
}

/* Drops the rows of a block that no namespace has; *file: what is doomed by it, or empty. */
static int drop_block(struct dir_db *d, int64_t n, int64_t len, char file[DIR_FILE_NAME])
{
    sqlite3_stmt *st = d->st[FILE_OF];
    sqlite3_bind_int64(st, 1, n);
    int rc = sqlite3_step(st);
    const char *name = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 0) : NULL;
    snprintf(file, DIR_FILE_NAME, "%s", name ? name : "");
    sqlite3_reset(st);
    int r = rc == SQLITE_ROW ? 0 : dir_sql_errno(d->db, rc);
    if (!r && file[0])
        r = run_with_text(d, DOOM, file);
    for (int i = DROP_SMALL; i <= DROP_BLOCK && !r; i++) {
        sqlite3_bind_int64(d->st[i], 1, n);
        r = dir_sql_run(d->db, d->st[i]);
    }
    return r ? r : add_totals(d, -1, -len);
}

static int collect_row(struct dir_db *d, struct job *j, size_t i)
{
    int64_t len, unused, n = row_of(d, &j->id[i], &len);
    if (n <= 0)
        return (int)n;
    sqlite3_stmt *st = d->st[LET_GO];
    dir_sql_bind_u64(st, 1, j->ns);
    sqlite3_bind_int64(st, 2, n);
    dir_sql_bind_u64(st, 3, j->generation);
    int r = dir_sql_run(d->db, st);
    if (r || !sqlite3_changes(d->db))
        return r;
    j->collected.taken++;
    sqlite3_bind_int64(d->st[IS_HELD], 1, n);
    int64_t held = found_row(d, d->st[IS_HELD], &unused);
    if (held)
        return held < 0 ? (int)held : 0;
    j->collected.blocks++;
    j->collected.bytes += (uint64_t)len;
    return drop_block(d, n, len, j->doomed[i]);
}

static int collect(struct dir_db *d, struct job *j)
{
    j->collected = (struct storage_collected){0};
    dir_sql_bind_u64(d->st[RAISE_TO], 1, j->generation);
    int r = dir_sql_run(d->db, d->st[RAISE_TO]);
    for (size_t i = 0; i < j->n && !r; i++) {
        j->doomed[i][0] = '\0';
        r = collect_row(d, j, i);
    }
    return r;
}

/* -EALREADY is the job's own outcome: its bytes are elsewhere, or it is gone. */
static int move_row(struct dir_db *d, struct job *j)
{
    int64_t len, n = row_of(d, j->id, &len);
    if (n < 0)
        return (int)n;
    sqlite3_stmt *st = d->st[REPLACE_FILE];
    sqlite3_bind_int64(st, 1, n);
    sqlite3_bind_text(st, 2, j->to, -1, SQLITE_STATIC);
    sqlite3_bind_text(st, 3, j->file, -1, SQLITE_STATIC);
    int r = dir_sql_run(d->db, st);
    j->err = !r && sqlite3_changes(d->db) ? 0 : -EALREADY;
    return r;
}

/* ---- what was found without an owner --------------------------------------------------------- */

static int take_in_row(struct dir_db *d, struct dir_record *p)
{
    int64_t len, n = row_of(d, &p->id, &len);
    p->taken = false;
    p->err = n > 0 ? -EEXIST : 0;
    if (n)
        return n < 0 ? (int)n : 0;
    int r = insert_block(d, p, &n);
    sqlite3_bind_int64(d->st[UNCLAIMED], 1, n);
    if (!r)
        r = dir_sql_run(d->db, d->st[UNCLAIMED]);
    p->taken = !r;
    return r;
}

static int claim_row(struct dir_db *d, uint64_t ns, const struct block_id *id)
{
    int64_t len, n = row_of(d, id, &len);
    if (n <= 0)
        return (int)n;
    sqlite3_bind_int64(d->st[IS_UNCLAIMED], 1, n);
    int64_t unclaimed = found_row(d, d->st[IS_UNCLAIMED], &len);
    uint64_t generation;
    bool fresh;
    return unclaimed <= 0 ? (int)unclaimed : hold(d, ns, id, n, &generation, &fresh);
}

static int drop_unclaimed(struct dir_db *d, struct job *j)
{
    int r = 0;
    j->collected = (struct storage_collected){0};
    j->next = j->place;
    for (size_t i = 0; i < j->n && !r; i++) {
        int64_t len;
        sqlite3_bind_int64(d->st[NEXT_UNCLAIMED], 1, j->next);
        j->next = found_row(d, d->st[NEXT_UNCLAIMED], &len);
        if (j->next <= 0)
            return (int)j->next;
        j->collected.blocks++;
        j->collected.bytes += (uint64_t)len;
        r = drop_block(d, j->next, len, j->doomed[i]);
    }
    return r;
}

int job_apply(struct dir_db *d, struct job *j)
{
    int r = 0;
    switch (j->kind) {
    case JOB_PUT:
        r = dir_sql_run(d->db, d->st[STEP]);
        for (size_t i = 0; !r && i < j->n; i++)
            r = put_row(d, j->ns, &j->v[i]);
        return r;
    case JOB_REMOVE:
        return remove_row(d, j);
    case JOB_FORGET_LOST:
        dir_sql_bind_u64(d->st[FORGET_LOST], 1, j->serial);
        return dir_sql_run(d->db, d->st[FORGET_LOST]);
    case JOB_INCARNATION:
        sqlite3_bind_blob(d->st[INCARNATION], 1, j->incarnation, INCARNATION_LEN, SQLITE_STATIC);
        return dir_sql_run(d->db, d->st[INCARNATION]);
    case JOB_RAISE:
        return generation_raise(d, &j->generation);
    case JOB_COLLECT:
        return collect(d, j);
    case JOB_MOVE:
        return move_row(d, j);
    case JOB_TAKE_IN:
        for (size_t i = 0; !r && i < j->n; i++)
            r = take_in_row(d, &j->v[i]);
        return r;
    case JOB_CLAIM:
        r = dir_sql_run(d->db, d->st[STEP]);
        for (size_t i = 0; !r && i < j->n; i++)
            r = claim_row(d, j->ns, &j->id[i]);
        return r;
    case JOB_DROP_UNCLAIMED:
        return drop_unclaimed(d, j);
    case JOB_FORGET_DOOMED:
        for (size_t i = 0; !r && i < j->n; i++)
            r = run_with_text(d, FORGET_DOOMED, j->files[i]);
        return r;
    }
    abort();
}
