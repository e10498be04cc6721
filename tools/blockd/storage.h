// SPDX-License-Identifier: Apache-2.0
/* Where blocks are kept: the interface that every kind of storage implements.
 *
 * A block's bytes are stored once, however many namespaces they were stored for; a block is there
 * for exactly those namespaces that it was put for. The storage does not look at the bytes: whoever
 * puts has checked them against the id, whoever gets checks them again. All functions may be called
 * from any thread. Errors are -errno; a full disk, quota or file size limit is always -ENOSPC.
 *
 * A storage has a generation, a number that rises durably, in the same step with it, whenever a
 * block is put or taken away from a namespace, and at every start. What proves that a block is
 * there (a receipt, a report) carries the generation in which it was put; so a proof from before a
 * loss is told from one of the same block, put again since, and one from after the moment to which
 * a storage was set back (a backup, a snapshot) is told from those of before.
 *
 * What an implementation must do is written down as tests: tests/unit/blockd/conformance.c.
 */
#ifndef STORAGE_H
#define STORAGE_H

#include "buf.h"
#include "trust.h"

#include <stdatomic.h>

#define INCARNATION_LEN 16

struct storage;

/* One block of a put. The bytes belong to the caller. */
struct storage_put {
    struct block_id id;
    struct bytes stored;
    uint64_t logical_len;
    int err;      /* out: 0, the block is durable and there for the namespace; -ENOSPC, -EIO */
    bool damaged; /* out: what was stored of it was wrong, and was set aside */
    uint64_t generation; /* out: the storage's when it was recorded */
    bool fresh;          /* out, with err 0: the namespace did not have it before */
};

/* A block was set aside that this namespace had. */
struct storage_lost {
    uint64_t serial; /* rises with every loss */
    uint64_t ns;
    struct block_id id;
    uint64_t generation; /* the storage's from this loss on */
};

struct storage_info {
    bool there; /* for the namespace asked about */
    uint64_t stored_len, logical_len;
    uint64_t generation; /* the storage's when the namespace's row was last put */
};

struct storage_entry {
    struct block_id id;
    uint64_t stored_len;
};

struct storage_usage {
    uint64_t blocks, bytes; /* stored; bytes of blocks, without the storage's own */
    uint64_t free_bytes;    /* 0: not known */
};

/* A block that a namespace has. */
struct storage_held {
    uint64_t ns, logical_len, generation;
    struct block_id id;
};

struct storage_collected {
    uint64_t taken;         /* from a namespace */
    uint64_t blocks, bytes; /* removed with their bytes */
};

struct storage_ops {
    /* Stores all n for the namespace; each item has its own outcome. What is stored already is
     * compared with what is brought, and replaced where it is wrong. Returns when those with err 0
     * are durable: first the bytes, then the record that the namespace has them. A failed item
     * leaves nothing that a get or have would show. */
    void (*put)(struct storage *s, uint64_t ns, struct storage_put *v, size_t n);
    /* Appends the stored bytes. -ENOENT: not there for this namespace; -EUCLEAN: they should be,
     * but their bytes are lost (see set_aside); -EIO: they cannot be read now, and may be right. A
     * put replaces what cannot be read. */
    int (*get)(struct storage *s, uint64_t ns, const struct block_id *id, struct buf *out,
               uint64_t *logical_len);
    /* Of the blocks that are there for `from`, makes it durable that they are there for ns, too,
     * as if put now: out[i].there tells which, with the generation of that. NULL: this storage has
     * no shorter way than get and put. 0, -EIO, -ENOSPC: nothing is promised */
    int (*link)(struct storage *s, uint64_t ns, uint64_t from, const struct block_id *ids, size_t n,
                struct storage_info *out);
    /* Of the blocks whose bytes are here without a record of whose they are (takein.h), makes it
     * durable that they are there for ns, as if put now. The caller was told by the metadata server
     * that ns refers to them. NULL: this storage has none such. 0, -EIO, -ENOSPC: nothing changed
     */
    int (*claim)(struct storage *s, uint64_t ns, const struct block_id *ids, size_t n);
    int (*have)(struct storage *s, uint64_t ns, const struct block_id *ids, size_t n,
                struct storage_info *out);
    /* Looks at the block, and where its bytes are wrong (in a second reading as well, past what is
     * kept in memory) or lost takes it away from every namespace and keeps the bytes for people to
     * look at: 0. -EALREADY: the bytes are right, or the block is gone; -EIO: they cannot be read
     * now, or are wrong while `trust` is broken. */
    int (*set_aside)(struct storage *s, const struct block_id *id);
    /* What was set aside and is right when it is read again is here again, for whom claims it.
     * *stop: to end early. blocks: what came back is added. NULL: it stays aside. 0, -ECANCELED,
     * -EIO, -ENOSPC */
    int (*take_back)(struct storage *s, const atomic_bool *stop, uint64_t *blocks);
    /* Whether the block's bytes are there, as far as that is told without reading them: 0;
     * -EUCLEAN: set_aside is to look; -ENOENT: the block is gone; -EIO: that cannot be told now.
     * NULL: this storage tells nothing without reading. */
    int (*probe)(struct storage *s, const struct block_id *id);
    /* Instead of probe, where many are told of at once: a part of the blocks, those after `after`
     * up to *upto, which is told (all 0xff: to the end). fn is called for those that set_aside is
     * to look at. *looked: blocks, added. NULL, or 0, -EIO. */
    int (*survey)(struct storage *s, const struct block_id *after, struct block_id *upto,
                  uint64_t *looked, void (*fn)(void *arg, const struct block_id *id), void *arg);
    /* Raises the generation, durably: what is put from now on is told from what was. */
    int (*raise)(struct storage *s, uint64_t *generation);
    /* Takes blocks away from the namespace, durably, but not those put for it in that generation or
     * later; the bytes of those that no namespace has any more are removed. The generation is no
     * less than that one from then on. sums: what was taken away and removed is added; errors leave
     * some for the next time, nothing half done. */
    int (*collect)(struct storage *s, uint64_t ns, const struct block_id *ids, size_t n,
                   uint64_t generation, struct storage_collected *sums);
    /* The stored blocks that come after this one (NULL: from the first) in the order of ids. */
    int (*after)(struct storage *s, const struct block_id *id, struct storage_entry *v, size_t max,
                 size_t *n);
    /* The same, a row for each namespace that has the block, by block id. */
    int (*held)(struct storage *s, const struct block_id *id, struct storage_held *v, size_t max,
                size_t *n);
    /* The oldest losses nobody was told of yet, at most max, by serial. They are kept over
     * restarts, until they are told, or until the block is there for the namespace again. */
    int (*lost)(struct storage *s, struct storage_lost *v, size_t max, size_t *n);
    /* The losses up to and with this one are known where they have to be. */
    int (*told)(struct storage *s, uint64_t serial);
    void (*usage)(struct storage *s, struct storage_usage *u);
    /* A random name of this storage's content: another one after every loss of it. */
    void (*incarnation)(struct storage *s, uint8_t out[INCARNATION_LEN]);
    /* Gives the content another such name, durably: nothing that was said of it under the old one
     * counts any more. */
    int (*renew)(struct storage *s);
    void (*close)(struct storage *s);
};

/* First member of every implementation. */
struct storage {
    const struct storage_ops *ops;
    uint64_t run;   /* random, never 0: this opening */
    uint64_t found; /* the generation when it was opened, before it rose for that */
    struct trust trust;
    char notice[640]; /* what people should know of how it was found; empty: nothing */
};

/* A number for `run`. */
uint64_t storage_new_run(void);

/* In a directory, which is made if need be. One process at a time: -EBUSY. -EPROTO: written by a
 * newer program. err (512 bytes): a line for people. */
int storage_dir_open(struct storage **out, const char *dir, char *err);
/* For how long the disk must fail to read a file, while it reads others, before that counts as a
 * loss; 10 minutes unless this is called. */
void storage_dir_patience(struct storage *s, int64_t ms);
/* Calls fn for every block of such a directory in the order of ids, without changing anything; also
 * while a server runs on it. 0 or -errno with a line in err. */
int storage_dir_list(const char *dir,
                     void (*fn)(void *arg, const struct block_id *id, uint64_t stored_len),
                     void *arg, char *err);
#endif
