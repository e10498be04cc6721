// SPDX-License-Identifier: Apache-2.0
/* A local tree that is damaged or gone: a new one with what was pending of the old one.
 *
 * Everything else is at the metadata server and is loaded again when it is looked at. The damaged
 * files stay beside, under DIRECTORY/damaged-N, with a report that names what could not be read. */
#ifndef STEADFS_SALVAGE_H
#define STEADFS_SALVAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct core;
struct blocks;
struct log;

struct salvage_result {
    size_t kept;      /* nodes and names with pending changes that are in the new tree */
    size_t lost;      /* … of which something could not be read */
    size_t recovered; /* of kept: under a new name in the namespace's top directory */
    size_t blocks;    /* unsynced blocks that nothing refers to any more, written to files */
    bool again;       /* of an earlier start: only blocks were still to be written */
    char dir[4096];   /* where the damaged files are */
};
/* Replaces path (STATE/tree.db). device: its number. Nobody may have the tree open. 0; -errno with
 * why (512 bytes) when no new tree can be made; the old one is then where it was, or beside. */
int tree_salvage(const char *state, const char *path, uint32_t device, struct salvage_result *out,
                 char *why);
/* Whether one was interrupted that only has to be ended, by another call: what is at path is not to
 * be opened before, since its log may have gone aside already. */
bool tree_salvage_begun(const char *path);
/* Whether that was done at an earlier start which ended before blocks_salvage did: out says where.
 */
bool blocks_salvage_due(const char *state, const char *path, struct salvage_result *out);
/* Unsynced blocks that the new tree does not refer to become files below out->dir, named by their
 * ids: before anything takes them for garbage. Until it has returned 0 it is due. */
int blocks_salvage(const char *path, struct blocks *b, struct core *c, struct salvage_result *out);
/* One sentence for the log and for status. */
void salvage_text(const struct salvage_result *r, char text[512]);
#endif
