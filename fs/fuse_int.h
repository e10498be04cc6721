// SPDX-License-Identifier: Apache-2.0
/* What the files that call libfuse share. */
#ifndef STEADFS_FUSE_INT_H
#define STEADFS_FUSE_INT_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "fuse_beneath.h"
#include "vfs_int.h"

struct front {
    struct vfs *vfs;
    struct fuse_session *se;
    int stop; /* eventfd */
    struct fuse_beneath below;
};

extern const struct fuse_lowlevel_ops front_operations;
struct vfs_front front_vtable(struct front *f);
#endif
