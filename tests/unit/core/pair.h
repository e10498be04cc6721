// SPDX-License-Identifier: Apache-2.0
/* Devices with real cores, and the metadata server's real commit code between them; every question
 * is answered at once. For tests of what two devices' changes become together.
 *
 * One installation and a small tree in it (`base` in pair.c) are made once; a test begins with
 * copies of their disks. A device either knows the whole tree or nothing of it. Blocks are numbers
 * (tags); whoever commits one has a receipt for it. Steps that must work fail the test.
 */
#ifndef CORE_PAIR_H
#define CORE_PAIR_H

// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on

#include "blockid.h"
#include "core.h"
#include "meta.h"
#include "simvfs.h"
#include "tree.h"

enum who {
    HERE,
    THERE,
    SERIAL, /* never connected: what programs of one device would have done, one after the other */
    FRESH,  /* knows nothing: what it loads is the server's tree */
    MAKER,  /* of the base tree; nobody later */
    DEVICES
};

struct device {
    struct simvfs *disk;
    struct tree *tree;
    struct core *core; /* NULL: not started */
    struct meta_caller id;
    struct core_who who;
    struct core_need need;
    struct core_plan plan; /* sent, or to be sent */
    bool planned;
    unsigned conflicts; /* commits answered so */
    unsigned resyncs;
    uint64_t open;                    /* a node that a program has open; 0: none */
    uint64_t moved;                   /* directory of the last EFFECT_MOVED */
    struct core_lost lost;            /* what came of the last one */
    unsigned loads[NEED_EXTENTS + 1]; /* by kind */
};

struct pair {
    struct simvfs *disk, *template, *known, *unknown, *empty;
    struct meta *meta;
    struct token_key key;
    uint64_t server, ns, root;
    int64_t now_ms;
    bool forgotten;            /* pair_forget was called */
    uint64_t floor;            /* at least so high then */
    uint64_t marks_below;      /* as the option of the server; taken when it starts */
    struct core_bounds bounds; /* of devices, when they start */
    bool meanwhile;            /* a device sends what it has to in the middle of a comparison */
    /* … or others do this, once, when the first questions were asked; NULL: nothing */
    void (*others)(struct pair *p);
    /* … or this is done when all of it was asked; NULL: nothing */
    void (*before_apply)(struct pair *p, struct device *d);
    struct device d[DEVICES];
};

struct pair *pair_new(void);
void pair_free(struct pair *p);
/* Server, HERE and THERE as in the beginning. If HERE does not know the tree, it loads what it
 * touches. */
void pair_begin(struct pair *p, bool known);
/* Only SERIAL, which knows the tree. */
void pair_alone(struct pair *p);
void pair_end(struct pair *p);
/* The node at a path of the base tree, "" the root; 0: there is none. */
uint64_t pair_base(const struct pair *p, const char *path);
/* Its path, or NULL: not of the base tree. */
const char *pair_label(const struct pair *p, uint64_t node);

/* Loads what the device needs, after a call returned CORE_NEED. */
void device_load(struct pair *p, struct device *d);
/* A core's call, repeated with what it needs. d: struct device *, whose need the call is given. */
#define DEVICE_DO(p, d, call)                                                                      \
    ({                                                                                             \
        int do_err;                                                                                \
        while ((do_err = (call)) == CORE_NEED)                                                     \
            device_load((p), (d));                                                                 \
        do_err;                                                                                    \
    })
/* Looks every name of a path up, so that the device knows these. */
void device_walk(struct pair *p, struct device *d, const char *path);
/* Plans one commit of all that is pending; false: there is nothing to send now. */
bool device_plan(struct pair *p, struct device *d);
/* Plans what was sent before a restart and not answered, once more. */
void device_resend(struct pair *p, struct device *d);
/* Sends what was planned, and takes the answer. */
void device_send(struct pair *p, struct device *d);
/* Sends what was planned; the answer is lost. */
void device_send_lost(struct pair *p, struct device *d);
/* The server forgets all of the past. */
void pair_forget(struct pair *p);
/* Power loss, at a time when the disk was like `kept`. */
void device_lose(struct pair *p, struct device *d, const struct simvfs *kept);
/* The server's disk is this one again. */
void pair_server_from(struct pair *p, const struct simvfs *disk);
/* Reads and applies the journal; where it does not reach back, looks at everything again. */
void device_follow(struct pair *p, struct device *d);
/* Where the journal does not reach back: asks how its requests ended; the comparison that comes
 * then is not made. */
void device_requests(struct pair *p, struct device *d);
/* Plans, sends and follows until all is committed. */
void device_commit(struct pair *p, struct device *d);
/* All of HERE, THERE until nothing is pending anywhere. */
void pair_settle(struct pair *p);

/* Starts FRESH. */
void pair_fresh(struct pair *p);

/* ---- trees as lists -------------------------------------------------------------------------- */
#define DUMP_MAX 64
struct dump_line {
    char path[512], key[512]; /* key: like the path, but the directory by its label if it has one */
    uint64_t node;
    uint32_t nlink;
    char label[64];  /* of a node of the base tree: its path there; otherwise "new" */
    char value[256]; /* type, mode, xattrs, size, extents */
};
struct dump {
    struct dump_line v[DUMP_MAX];
    size_t n;
};
/* The whole tree as the device's programs see it, sorted by path. */
void device_dump(struct pair *p, struct device *d, struct dump *out);
const struct dump_line *dump_find(const struct dump *t, const char *key);
/* A path without the mark of the conflicted copy in it; false: it has none. */
bool pair_unmark(const char *path, char *out, size_t cap);
void dump_print(const char *title, const struct dump *t);
#endif
