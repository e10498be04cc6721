// SPDX-License-Identifier: Apache-2.0
/* The index of a directory storage in SQLite: which blocks there are, for which namespaces, where;
 * and the bytes of the small ones.
 *
 * Changes go through one writer thread that gathers what waits into one transaction
 * (synchronous=FULL): concurrent puts share the sync. Reads take a connection of their own from a
 * small pool and never wait for the writer.
 */
#ifndef DIR_DB_H
#define DIR_DB_H

#include "dir_files.h"
#include "storage.h"

#define SMALL_BLOCK (256u << 10) /* below it a block is a row: a file each costs more syncs */

struct dir_db;

/* A block to be recorded. */
struct dir_record {
    struct block_id id;
    uint64_t stored_len, logical_len;
    struct bytes data;    /* kept in the database, where there is no file */
    const char *file;     /* or NULL */
    const char *replaces; /* the file that the block has had, which cannot be read; or NULL */
    bool known;           /* neither: the block was seen in the index */
    int err;              /* out: 0 durable; -EAGAIN: known, but no longer there; -ENOSPC, -EIO */
    bool taken;           /* out: file belongs to the index now; else the block was there already */
    uint64_t generation;  /* out: the index's in which it was recorded */
    bool fresh;           /* out: the namespace did not have it before */
};

/* Where a block is. */
struct dir_place {
    uint64_t stored_len, logical_len;
    uint64_t generation; /* the index's when the namespace's row was last put; any namespace: 0 */
    char file[DIR_FILE_NAME]; /* empty: in the database */
};

/* Opens DIR/index.db; a new one gets the incarnation given. fresh NULL: one that is there, and
 * whose generation does not rise for that. err: 512 bytes. */
int dir_db_open(struct dir_db **out, const char *dir, const uint8_t fresh[INCARNATION_LEN],
                char *err);
void dir_db_close(struct dir_db *d);
/* Records the n blocks for the namespace; returns when those with err 0 are durable. */
void dir_db_put(struct dir_db *d, uint64_t ns, struct dir_record *v, size_t n);
/* Records blocks whose bytes are here without a record of whose they are; no namespace has them
 * until it claims them. err of each: -EEXIST, the index has the block already. 0 or -errno: none of
 * them. */
int dir_db_take_in(struct dir_db *d, struct dir_record *v, size_t n);
/* Those of the blocks that were taken in are there for the namespace from now on, as if put now. 0
 * or -errno: none of them. */
int dir_db_claim(struct dir_db *d, uint64_t ns, const struct block_id *ids, size_t n);
/* Drops blocks that were taken in and that no namespace has: at most n, those after *place (0: from
 * the first; 0 again: that was all); their files are doomed and copied to `files` (zeroed before).
 * sums: what was dropped is added. */
int dir_db_drop_unclaimed(struct dir_db *d, int64_t *place, size_t n, char (*files)[DIR_FILE_NAME],
                          struct storage_collected *sums);
/* Removes the block from the index, for every namespace, durably, and notes each of them as having
 * lost it; only if it is still what was found bad: it names that file, or (file: NULL) holds those
 * bytes. Else -EALREADY. */
int dir_db_remove(struct dir_db *d, const struct block_id *id, const char *file, struct bytes bad);
/* The oldest losses that were not forgotten yet, at most max. A put of the block for the namespace
 * forgets it. */
int dir_db_lost(struct dir_db *d, struct storage_lost *v, size_t max, size_t *n);
/* Forgets those up to and with this one. */
int dir_db_forget_lost(struct dir_db *d, uint64_t serial);
/* Takes the blocks away from the namespace, but those whose row has that generation or a later one.
 * Of a block that no namespace has then, the row goes, too; its file, if there is one, is doomed
 * and copied to `files` (n of them, which are zeroed before). */
int dir_db_collect(struct dir_db *d, uint64_t ns, const struct block_id *ids, size_t n,
                   uint64_t generation, char (*files)[DIR_FILE_NAME],
                   struct storage_collected *sums);
/* Another namespace that has the block; -ENOENT: there is none. */
int dir_db_other(struct dir_db *d, uint64_t ns, const struct block_id *id, uint64_t *other);
/* The block's bytes are in `file` instead of `was` from now on, durably. */
int dir_db_move(struct dir_db *d, const struct block_id *id, const char *was, const char *file);
/* Calls fn for every file that no row names any more; those for which it returns true are
 * forgotten. */
int dir_db_doomed(struct dir_db *d, bool (*fn)(void *arg, const char *file), void *arg);
/* They are removed. */
int dir_db_forget_doomed(struct dir_db *d, const char *const *files, size_t n);
/* The generation that was found when it was opened. */
uint64_t dir_db_found(const struct dir_db *d);
/* Raises the generation, durably, and tells it. */
int dir_db_raise(struct dir_db *d, uint64_t *generation);
int dir_db_set_incarnation(struct dir_db *d, const uint8_t incarnation[INCARNATION_LEN]);
int dir_db_incarnation(struct dir_db *d, uint8_t out[INCARNATION_LEN]);
/* Looks each id up for the namespace (0: for any, or none); found[i] tells. 0 or -EIO. */
int dir_db_find(struct dir_db *d, uint64_t ns, const struct block_id *ids, size_t n,
                struct dir_place *out, bool *found);
/* The same for one block, and appends its bytes where they are in the database. -ENOENT, -EIO */
int dir_db_get(struct dir_db *d, uint64_t ns, const struct block_id *id, struct dir_place *place,
               struct buf *out);
/* What is read next is the disk's, not of what is kept in memory, as far as the kernel does that.
 */
void dir_db_uncache(struct dir_db *d);
int dir_db_after(struct dir_db *d, const struct block_id *id, struct storage_entry *v, size_t max,
                 size_t *n);
int dir_db_held(struct dir_db *d, const struct block_id *id, struct storage_held *v, size_t max,
                size_t *n);
bool dir_db_knows_file(struct dir_db *d, const char *file);
void dir_db_totals(struct dir_db *d, uint64_t *blocks, uint64_t *bytes);
int dir_db_list(const char *dir,
                void (*fn)(void *arg, const struct block_id *id, uint64_t stored_len), void *arg,
                char *err);
#endif
