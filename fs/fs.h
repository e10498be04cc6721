// SPDX-License-Identifier: Apache-2.0
/* One mount: its parts, and the one lock that the tree, the core, handles and dirty data share.
 *
 * Lock order: fs.lock, then the locks inside blocks, notify, rpc. Nothing blocks on the network, on
 * the kernel or on another thread's work while holding fs.lock; holding it across a tree
 * transaction or a put into the outbox is meant.
 */
#ifndef STEADFS_FS_H
#define STEADFS_FS_H

#include <pthread.h>

#include "blocks.h"
#include "core.h"
#include "trace.h"

/* What fsync, or close, waits for before it returns. */
enum sync_mode {
    SYNC_ASYNC,  /* close only: outbox and tree hold it, in the page cache of this machine */
    SYNC_LOCAL,  /* … on this machine's disk */
    SYNC_COMMIT, /* stored at block servers and committed */
};

/* When reading a file changes its access time, which is kept on this machine only. */
enum atime_mode {
    ATIME_RELATIVE, /* the first reading after a change, or in a day */
    ATIME_NEVER,
    ATIME_ALWAYS, /* the first reading of each open file */
};

struct fs_options {
    char *state;          /* state directory, absolute */
    char *mountpoint;     /* absolute */
    char *url;            /* metadata server, https://host:port */
    char *prefer;         /* premises, or NULL */
    char *source;         /* what mount(8) shows as source: ACCOUNT@HOST:PORT or fsname= */
    char *subtype;        /* the type is shown as fuse.SUBTYPE; NULL: steadfs */
    char *kernel_options; /* for the kernel, comma-separated: "dev,suid,noatime"; or NULL */
    enum sync_mode fsync, close;
    enum atime_mode atime;
    unsigned fsync_timeout_ms;   /* 60000; of close=commit too */
    unsigned timeout_ms;         /* reads and loads: 30000 */
    unsigned connect_timeout_ms; /* 5000 */
    unsigned drain_ms;           /* 60000, unmount */
    unsigned copies;             /* 1 */
    unsigned race_percent;       /* 10: how much more than needed may be fetched; 0: no races */
    uint64_t cache_size;         /* 10 GiB */
    bool no_fill;                /* names that nobody has asked for are not loaded */
    uint64_t keep_free;          /* bytes left free on the state directory's disk; 0: blocks.h */
    uint64_t dirty_max;          /* bytes of dirty data in memory: 256 MiB */
    uint32_t uid, gid;           /* owner shown of everything, if set_uid, set_gid */
    uint32_t umask;              /* permission bits that nothing shows */
    bool set_uid, set_gid;
    bool allow_other, default_permissions, read_only, eager_put;
    bool global_locks; /* locks=global: they count against other mounts */
    bool named_owners; /* owners=name */
    bool strict;       /* coherence=strict: opens and lookups ask the metadata server first */
};

struct fs {
    pthread_mutex_t lock; /* core, handles, dirty data, and what sync.c says of its own */
    struct fs_options opt;
    struct log *log;
    struct core *core;
    struct tree *tree;     /* owned by core; fs.lock; for tree_flush */
    struct blocks *blocks; /* own lock */
    bool power_lost;       /* core_power_lost: blocks that were never synced may be gone */
    struct sync *sync;     /* sync.h */
    struct vfs *vfs;       /* vfs.h */
    char device_name[65], account[65];
    char recovery[512];     /* what became of a damaged tree at this start; "" : it was sound */
    char control_path[108]; /* unix socket of this mount, what user.steadfs.control tells; "" before
                             */
};

int64_t fs_now(void); /* CLOCK_REALTIME, ns */
#endif
