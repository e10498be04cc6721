// SPDX-License-Identifier: Apache-2.0
/* Handles: the inodes that the kernel knows. A handle's nodeid is what FUSE requests carry, and
 * what file handles (name_to_handle_at) hold. It is the node id, so that a file handle finds its
 * node when the kernel has forgotten the inode, and after a remount; but a second handle of a node
 * gets a number of its own, so that one node can be shown in two versions at a time.
 *
 * A *live* handle shows the node as it is; a node has one, or more when a lock that counts against
 * other devices made an old version catch up (vfs_lock.c). When another device changes a
 * file that is open here, its live handle becomes *detached*: it goes on showing the old content
 * (what was replaced since is kept in `old`, extents and not bytes) until the kernel forgets it,
 * while its names are invalidated, so that the next lookup makes a new live handle.
 *
 * Protected by fs.lock.
 */
#ifndef STEADFS_HANDLE_H
#define STEADFS_HANDLE_H

#include "blockid.h"
#include "extent.h"
#include "locks.h"
#include "ranges.h"

#define HANDLE_ROOT 1 /* nodeid of the mount's top directory */

struct handle_name { /* a name under which the kernel may know a file; for invalidation */
    struct handle_name *next;
    uint64_t parent; /* node id */
    uint8_t len;
    uint8_t name[];
};
struct handle_names {          /* a list, and a hash table once there are many */
    struct handle_name *list;  /* slots == 0 */
    struct handle_name **slot; /* … of lists */
    uint32_t slots, n;
};
struct handle_old { /* what a detached handle shows where it differs from the node */
    struct handle_old *next, **prev; /* of all detached handles */
    uint64_t size;
    int64_t mtime, ctime;
    struct ranges saved; /* where the content is `extents` and not the node's */
    struct extent_list extents;
    struct ranges lost; /* replaced before their old extents were known here */
};
struct handle {
    struct handle *id_next, *node_next; /* hash chains */
    uint64_t nodeid, node;
    uint64_t nlookup;
    unsigned opens, writers; /* open files, and those of them opened for writing */
    bool unlinked;           /* the node has no name left */
    bool stale;              /* the kernel's attributes are old, and it has not asked since */
    unsigned stale_opens;    /* opens refused because of that */
    uint64_t version,
        cached_version; /* of the content now, and of what the kernel may have cached */
    int64_t told; /* when the kernel was last given attributes that it may take for newer than a
                     change made since; 0: never */
    enum { RECHECK_NONE, RECHECK_QUEUED, RECHECK_AGAIN } recheck; /* vfs_recheck */
    uint64_t turn;          /* vfs's count of applied changes when it was detached */
    struct handle_old *old; /* NULL: live */
    struct handle_names names;
    struct locks locks; /* taken through its open files */
};

struct handles;
struct handles *handles_new(void);
void handles_free(struct handles *t);

struct handle *handle_find(struct handles *t, uint64_t nodeid);
struct handle *handle_live(struct handles *t, uint64_t node); /* any */
struct handle *handle_get(struct handles *t, uint64_t node); /* a live one, made if there is none */
struct handle *handle_root(struct handles *t, uint64_t node); /* with nodeid HANDLE_ROOT */
/* The node that a handle of this nodeid shows when it is made anew; 0: none, it was a second one.
 */
uint64_t handle_node_of(uint64_t nodeid);
/* Any handle of the node: the first, then the next. */
struct handle *handle_of(struct handles *t, uint64_t node);
struct handle *handle_next_of(struct handle *h);
/* Whether an old version that is still shown refers to the block. */
bool handles_refer(const struct handles *t, const struct block_id *id);
bool handle_in_use(struct handles *t, uint64_t node);
/* It now belongs to another node, as its live handle unless that has one. */
void handle_move(struct handles *t, struct handle *h, uint64_t node);
/* Frees it when the kernel knows it no more and no file of it is open; true when it did. */
bool handle_release(struct handles *t, struct handle *h);

void handle_name_add(struct handle *h, uint64_t parent, struct bytes name);
void handle_name_remove(struct handle *h, uint64_t parent, struct bytes name);
/* All names, to be freed one by one by the caller; the handle has none any more. */
struct handle_name *handle_names_take(struct handle *h);

/* Becomes detached, showing this size and these times. */
void handle_detach(struct handles *t, struct handle *h, uint64_t size, int64_t mtime,
                   int64_t ctime);
void handle_attach(struct handle *h); /* shows the node again */
/* The parts of [off, end) that it still takes from the node, and that exist in its version. */
void handle_unsaved(const struct handle *h, uint64_t off, uint64_t end, struct ranges *out);
/* These were the extents of [off, end); NULL: they are not known. */
void handle_save(struct handle *h, uint64_t off, uint64_t end, const struct extent_list *extents);
#endif
