// SPDX-License-Identifier: Apache-2.0
/* The export reads tree and blocks itself: a namespace that one was removed from has no path in the
 * mount any more. */
#include "parked.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs.h"
#include "sync.h"
#include "text.h"
#include "vfs.h"

#define PATH_CAP 8192

static const struct {
    int err;
    const char *name, *reason, *remedy;
} words[] = {
    {-EDQUOT, "EDQUOT", "the namespace's quota is used up",
     "remove something there, or ask for more (steadfs admin quota NAMESPACE); then `steadfs "
     "parked "
     "retry`"},
    {-EROFS, "EROFS", "you may only read this namespace",
     "ask an owner to share it with you as editor; then `steadfs parked retry`, or take the "
     "changes "
     "out with `steadfs parked export DIR`"},
    {-EACCES, "EACCES",
     "you are no member of this namespace, or it has fewer block servers than it wants copies",
     "ask an owner to share it, or the administrator to assign a block server; then `steadfs "
     "parked "
     "retry`, or take the changes out with `steadfs parked export DIR`"},
    {-E2BIG, "E2BIG", "it is too much for one change",
     "split it (fewer names, extents or attributes); then `steadfs parked retry`"},
    {-EINVAL, "EINVAL",
     "the servers' rules do not allow it (a directory too deep below others, too many extended "
     "attributes, say)",
     "move it up, or take attributes away; then `steadfs parked retry`"},
    {-EIO, "EIO",
     "its content is neither here nor at a server, or the server refuses it again and again",
     "write it anew, or remove it; `steadfs parked retry` tries once more"},
};
#define WORDS (sizeof words / sizeof *words)

static size_t word_of(int err)
{
    size_t i = 0;
    while (i + 1 < WORDS && words[i].err != err)
        i++;
    return i;
}

const char *parked_reason(int err)
{
    return words[word_of(err)].reason;
}

const char *parked_remedy(int err)
{
    return words[word_of(err)].remedy;
}

void parked_list(struct fs *fs, uint64_t ns, size_t max, size_t *n, struct buf *json)
{
    char *path, *in = NULL;
    uint64_t node;
    int err;
    (void)core_ns_path(fs->core, ns, &in); /* not mounted anywhere: no file names then */
    for (size_t k = 0; k < max && core_parked_at(fs->core, ns, k, &node, &err, &path) == 0; k++) {
        buf_printf(json, "%s{\"path\": ", (*n)++ ? ", " : "");
        text_json(json, bytes_str(path));
        if (in) {
            struct buf cleanup_buf whole = {0};
            const char *top = fs->opt.mountpoint;
            buf_printf(&whole, "%s%s%s/%s", strcmp(top, "/") ? top : "", *in ? "/" : "", in, path);
            buf_append(&whole, "", 1);
            buf_printf(json, ", \"file\": ");
            text_json(json, bytes_str((const char *)whole.p));
        }
        uint64_t holds = 0;
        (void)core_parked_holds(fs->core, node, &holds);
        buf_printf(json,
                   ", \"errno\": \"%s\", \"reason\": \"%s\", \"remedy\": \"%s\", \"holds\": %llu}",
                   words[word_of(err)].name, parked_reason(err), parked_remedy(err),
                   (unsigned long long)holds);
        free(path);
    }
    free(in);
}

/* ---- export ---- */
/* Makes the directories above the last name. A path has no "..": its names are entries' names. */
static int above_make(char *path)
{
    for (char *p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = 0;
        int r = mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
        *p = '/';
        if (r)
            return r;
    }
    return 0;
}

static int extents_put(struct fs *fs, const struct extent_list *l, uint64_t size, int fd)
{
    int r = ftruncate(fd, (off_t)size) ? -errno : 0;
    uint8_t *p = malloc(BLOCK_MAX);
    for (size_t i = 0; i < l->n && !r && p; i++) {
        const struct m_extent *e = &l->v[i];
        r = blocks_read(fs->blocks, &e->block, (uint32_t)e->block_off, p, (uint32_t)e->len);
        for (uint64_t at = 0; at < e->len && !r;) {
            ssize_t n = pwrite(fd, p + at, e->len - at, (off_t)(e->off + at));
            r = n < 0 ? -errno : 0;
            at += n > 0 ? (uint64_t)n : 0;
        }
    }
    r = p ? r : -ENOMEM;
    free(p);
    return !r && fsync(fd) ? -errno : r;
}

/* Half a file looks like a whole one, and what was exported before may be the better one: it gets
 * its name when all of it is there. */
static int extents_write(struct fs *fs, const struct extent_list *l, uint64_t size,
                         const char *path)
{
    char temp[PATH_CAP + 16];
    const char *slash = strrchr(path, '/');
    int fd = -1, r = 0;
    snprintf(temp, sizeof temp, "%.*s/.export-XXXXXX", (int)(slash - path), path);
    if ((fd = mkostemp(temp, O_CLOEXEC)) < 0)
        return -errno;
    r = extents_put(fs, l, size, fd);
    close(fd);
    if (!r && rename(temp, path))
        r = -errno;
    if (r)
        unlink(temp);
    return r;
}

static int node_export(struct fs *fs, uint64_t node, const char *path)
{
    struct core_attr a;
    struct core_need need;
    cleanup_extents struct extent_list l = {0};
    char target[TARGET_LEN_MAX + 1];
    size_t len = 0;
    pthread_mutex_lock(&fs->lock);
    int r = core_getattr(fs->core, node, &a, &need);
    if (!r && a.type == NODE_REG)
        r = core_extents(fs->core, node, 0, a.size, &l, &need);
    if (!r && a.type == NODE_SYMLINK)
        r = core_readlink(fs->core, node, target, sizeof target - 1, &len, &need);
    pthread_mutex_unlock(&fs->lock);
    if (r)
        return r == CORE_NEED ? -ENODATA : r;
    target[len < sizeof target ? len : 0] = 0;
    switch (a.type) {
    case NODE_DIR:
        return mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
    case NODE_SYMLINK:
        return symlink(target, path) && errno != EEXIST ? -errno : 0;
    case NODE_REG:
        return extents_write(fs, &l, a.size, path);
    default:
        return -EOPNOTSUPP;
    }
}

static void export_one(struct fs *fs, const char *dir, const char *ns, uint64_t node,
                       const char *name, size_t *done, size_t *failed, char text[512])
{
    char path[PATH_CAP];
    int r = -ENAMETOOLONG;
    if ((size_t)snprintf(path, sizeof path, "%s/%s/%s", dir, ns, *name ? name : ".") <
        sizeof path) {
        r = above_make(path);
        if (!r)
            r = node_export(fs, node, path);
    }
    ++*(r ? failed : done);
    if (r)
        snprintf(text, 512, "%.200s/%.200s: %s", ns, name,
                 r == -ENODATA || r == -ENOENT ? "a part of it is only at the servers"
                                               : strerror(-r));
}

int parked_export(struct fs *fs, const char *dir, size_t *done, size_t *failed, char text[512])
{
    struct core_ns n;
    *done = *failed = 0;
    text[0] = 0;
    if (*dir != '/')
        return -EINVAL;
    if (mkdir(dir, 0700) && errno != EEXIST)
        return -errno;
    pthread_mutex_lock(&fs->lock);
    (void)vfs_flush_all(fs->vfs);
    for (size_t i = 0; core_ns_at(fs->core, i, &n) == 0; i++) {
        uint64_t *nodes;
        size_t nodes_n;
        char *name;
        int err = core_refused(fs->core, n.id, &nodes, &nodes_n);
        for (size_t k = 0; k < nodes_n; k++) {
            if (core_path(fs->core, nodes[k], &name))
                continue; /* removed meanwhile */
            pthread_mutex_unlock(&fs->lock);
            export_one(fs, dir, n.name, nodes[k], name, done, failed, text);
            free(name);
            pthread_mutex_lock(&fs->lock);
        }
        free(nodes);
        if (err) {
            pthread_mutex_unlock(&fs->lock);
            return err;
        }
    }
    pthread_mutex_unlock(&fs->lock);
    return 0;
}
