// SPDX-License-Identifier: Apache-2.0
/* How much the tree's write-ahead log held when it was last written: noted in a file beside it.
 *
 * SQLite takes a log that was cut short, or is damaged in its middle, for one that ends there, and
 * so would lose what programs have closed without anybody noticing. The note is as good as the page
 * cache: it is believed only while the machine has not been started anew. */
#ifndef STEADFS_TREELOG_H
#define STEADFS_TREELOG_H

struct treelog;

/* Before the tree at path is opened. 0; -EUCLEAN: its log has lost something. */
int treelog_check(const char *path);
/* NULL: nothing is noted (the file cannot be written). */
struct treelog *treelog_new(const char *path);
/* The log holds so many frames now. */
void treelog_commit(struct treelog *l, int frames);
/* The tree was closed properly, its log is gone. */
void treelog_free(struct treelog *l);
#endif
