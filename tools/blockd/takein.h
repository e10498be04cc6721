// SPDX-License-Identifier: Apache-2.0
/* Blocks that lie in a directory storage without being in its index, taken into it: what an index
 * that was lost has left, and what was set aside as damaged and is right after all (the memory or
 * the controller was not).
 *
 * The name of a file has the block's hash, and the bytes prove it; whose the block was cannot be
 * told from it. So it is taken in for nobody, and a namespace that the metadata server says lacks
 * it here claims it (storage_ops.claim). */
#ifndef TAKEIN_H
#define TAKEIN_H

#include "dir_db.h"
#include "dir_files.h"

#include <stdatomic.h>

struct takein_sums {
    uint64_t blocks, bytes; /* taken in */
    uint64_t wrong;         /* not what the name says: in DIR/corrupt */
    uint64_t doubles;       /* the index has the block, elsewhere: removed */
    uint64_t strange;       /* not named like a block, or cannot be read: left alone */
};

/* The files of one numbered directory that the index does not name. 0; -errno: the index cannot be
 * written, or the directory cannot be read; what was taken in until then stays. */
int takein_files(struct dir_files *f, struct dir_db *d, unsigned number, struct takein_sums *sums);
/* What is right in DIR/corrupt and is not in the index. The rest stays there, and does not count.
 * *stop: to end early; may be NULL. */
int takein_aside(struct dir_files *f, struct dir_db *d, const atomic_bool *stop,
                 struct takein_sums *sums);

/* The whole of it for a storage that nobody has open: it has another incarnation afterwards, since
 * what was said of its content before may not be so any more. A kill at any moment leaves it ready
 * to be gone on with. each_dir (may be NULL): one of `dirs` directories is done. 0; -errno with a
 * line in err (512 bytes). */
int takein_all(const char *dir, void (*each_dir)(void *arg, unsigned number, unsigned dirs),
               void *arg, struct takein_sums *sums, char *err);
/* Removes what was taken in and has not been claimed since. -EAGAIN: the server has not compared
 * what it has with what is recorded since it was taken in. As above; the incarnation stays. */
int takein_drop(const char *dir, struct storage_collected *sums, char *err);
#endif
