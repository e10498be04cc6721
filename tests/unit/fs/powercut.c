// SPDX-License-Identifier: Apache-2.0
#include "powercut.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS_MAX 1024
#define NAMES_MAX 256
#define PATH_LEN 256
#define NONE (-1)
#define IS_DIR (-2)

enum kind { WRITE, TRUNCATE, SYNC, SYNC_DIR, CREATE, MKDIR, RENAME, UNLINK };
struct call {
    enum kind kind;
    int file;        /* or NONE, IS_DIR */
    char *path, *to; /* below the directory; of SYNC_DIR: "" is itself */
    uint64_t off;    /* TRUNCATE: the size */
    uint8_t *p;
    size_t len;
};
struct image {
    uint8_t *p;
    size_t n;
    bool is_link;
};
struct name {
    char path[PATH_LEN];
    int file; /* or IS_DIR */
};
struct names {
    struct name v[NAMES_MAX];
    size_t n;
};

static struct {
    char dir[PATH_LEN];
    bool on;
    struct call *calls;
    size_t n, cap;
    struct names began, now;
    struct image *files; /* as they were when it began; made since: empty */
    size_t files_n;
    struct {
        int file;
        char dir[PATH_LEN];
    } fd[FDS_MAX];
} pc;

/* ---- names and images ------------------------------------------------------------------------ */
static struct name *name_find(struct names *l, const char *path)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i].path, path))
            return &l->v[i];
    return NULL;
}

static void name_set(struct names *l, const char *path, int file)
{
    struct name *n = name_find(l, path);
    if (!n) {
        if (l->n == NAMES_MAX || strlen(path) >= PATH_LEN)
            abort();
        n = &l->v[l->n++];
        strcpy(n->path, path);
    }
    n->file = file;
}

static void name_remove(struct names *l, const char *path)
{
    struct name *n = name_find(l, path);
    if (n)
        *n = l->v[--l->n];
}

static int file_new(void)
{
    pc.files = realloc(pc.files, (pc.files_n + 1) * sizeof *pc.files);
    if (!pc.files)
        abort();
    pc.files[pc.files_n] = (struct image){0};
    return (int)pc.files_n++;
}

static void image_size(struct image *m, size_t n)
{
    m->p = realloc(m->p, n + 1);
    if (!m->p)
        abort();
    if (n > m->n)
        memset(m->p + m->n, 0, n - m->n);
    m->n = n;
}

static void image_write(struct image *m, const struct call *c)
{
    if (c->kind == TRUNCATE) {
        image_size(m, (size_t)c->off);
        return;
    }
    if (c->off + c->len > m->n)
        image_size(m, (size_t)c->off + c->len);
    if (c->len)
        memcpy(m->p + c->off, c->p, c->len);
}

/* The part of a path below the directory; NULL: it is elsewhere. */
static const char *below(const char *path)
{
    size_t n = strlen(pc.dir);
    if (!pc.on || strncmp(path, pc.dir, n) != 0 || (path[n] && path[n] != '/'))
        return NULL;
    path += n + (path[n] == '/');
    size_t len = strlen(path);
    return len > 5 && !strcmp(path + len - 5, ".note") ? NULL : path; /* of another boot then */
}

static struct call *note(enum kind kind, int file, const char *path, const char *to)
{
    if (pc.n == pc.cap) {
        pc.cap = pc.cap ? 2 * pc.cap : 256;
        pc.calls = realloc(pc.calls, pc.cap * sizeof *pc.calls);
    }
    if (!pc.calls)
        abort();
    struct call *c = &pc.calls[pc.n++];
    *c = (struct call){.kind = kind,
                       .file = file,
                       .path = path ? strdup(path) : NULL,
                       .to = to ? strdup(to) : NULL};
    return c;
}

static void note_write(int fd, const void *p, size_t len, uint64_t off)
{
    if (!pc.on || fd < 0 || fd >= FDS_MAX || pc.fd[fd].file < 0)
        return;
    struct call *c = note(WRITE, pc.fd[fd].file, NULL, NULL);
    c->p = malloc(len + 1);
    if (!c->p)
        abort();
    memcpy(c->p, p, len);
    c->len = len;
    c->off = off;
}

/* ---- in the place of the C library's --------------------------------------------------------- */
#define AS(name) __asm__(name)
int noted_open(const char *path, int flags, ...) AS("open");
int noted_open64(const char *path, int flags, ...) AS("open64");
int noted_close(int fd) AS("close");
ssize_t noted_write(int fd, const void *p, size_t n) AS("write");
ssize_t noted_pwrite(int fd, const void *p, size_t n, off_t off) AS("pwrite");
ssize_t noted_pwrite64(int fd, const void *p, size_t n, off_t off) AS("pwrite64");
int noted_ftruncate(int fd, off_t n) AS("ftruncate");
int noted_ftruncate64(int fd, off_t n) AS("ftruncate64");
int noted_fsync(int fd) AS("fsync");
int noted_fdatasync(int fd) AS("fdatasync");
int noted_rename(const char *from, const char *to) AS("rename");
int noted_unlink(const char *path) AS("unlink");
int noted_mkdir(const char *path, mode_t mode) AS("mkdir");
int noted_symlink(const char *target, const char *path) AS("symlink");

static int open_noted(const char *path, int flags, mode_t mode)
{
    const char *name = below(path);
    struct stat st;
    bool there = name && stat(path, &st) == 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd < 0 || fd >= FDS_MAX)
        return fd;
    pc.fd[fd].file = NONE;
    if (!name)
        return fd;
    if (there && S_ISDIR(st.st_mode)) {
        pc.fd[fd].file = IS_DIR;
        snprintf(pc.fd[fd].dir, PATH_LEN, "%s", name);
        return fd;
    }
    struct name *n = name_find(&pc.now, name);
    if (!n) {
        int file = file_new();
        note(CREATE, file, name, NULL);
        name_set(&pc.now, name, file);
        n = name_find(&pc.now, name);
    } else if (flags & O_TRUNC) {
        note(TRUNCATE, n->file, NULL, NULL);
    }
    pc.fd[fd].file = n->file;
    return fd;
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list ap;                                                                                \
        va_start(ap, flags);                                                                       \
        mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;                                    \
        va_end(ap);                                                                                \
        return open_noted(path, flags, mode);                                                      \
    }
OPEN(noted_open)
OPEN(noted_open64)

int noted_close(int fd)
{
    if (fd >= 0 && fd < FDS_MAX)
        pc.fd[fd].file = NONE;
    return (int)syscall(SYS_close, fd);
}

ssize_t noted_write(int fd, const void *p, size_t n)
{
    off_t off = pc.on ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t w = syscall(SYS_write, fd, p, n);
    if (w > 0)
        note_write(fd, p, (size_t)w, (uint64_t)off);
    return w;
}

ssize_t noted_pwrite(int fd, const void *p, size_t n, off_t off)
{
    ssize_t w = syscall(SYS_pwrite64, fd, p, n, off);
    if (w > 0)
        note_write(fd, p, (size_t)w, (uint64_t)off);
    return w;
}

ssize_t noted_pwrite64(int fd, const void *p, size_t n, off_t off)
{
    return noted_pwrite(fd, p, n, off);
}

int noted_ftruncate(int fd, off_t n)
{
    int r = (int)syscall(SYS_ftruncate, fd, n);
    if (!r && pc.on && fd < FDS_MAX && pc.fd[fd].file >= 0)
        note(TRUNCATE, pc.fd[fd].file, NULL, NULL)->off = (uint64_t)n;
    return r;
}

int noted_ftruncate64(int fd, off_t n)
{
    return noted_ftruncate(fd, n);
}

int noted_fsync(int fd)
{
    if (!*pc.dir)
        return (int)syscall(SYS_fsync, fd);
    if (pc.on && fd >= 0 && fd < FDS_MAX && pc.fd[fd].file >= 0)
        note(SYNC, pc.fd[fd].file, NULL, NULL);
    else if (pc.on && fd >= 0 && fd < FDS_MAX && pc.fd[fd].file == IS_DIR)
        note(SYNC_DIR, IS_DIR, pc.fd[fd].dir, NULL);
    return 0;
}

int noted_fdatasync(int fd)
{
    return *pc.dir ? noted_fsync(fd) : (int)syscall(SYS_fdatasync, fd);
}

int noted_rename(const char *from, const char *to)
{
    int r = (int)syscall(SYS_rename, from, to);
    const char *a = below(from), *b = below(to);
    struct name *n = !r && a && b ? name_find(&pc.now, a) : NULL;
    if (!n)
        return r;
    int file = n->file;
    note(RENAME, file, a, b);
    name_remove(&pc.now, a);
    name_set(&pc.now, b, file);
    return r;
}

int noted_unlink(const char *path)
{
    int r = (int)syscall(SYS_unlink, path);
    const char *a = below(path);
    struct name *n = !r && a ? name_find(&pc.now, a) : NULL;
    if (!n)
        return r;
    note(UNLINK, n->file, a, NULL);
    name_remove(&pc.now, a);
    return r;
}

int noted_mkdir(const char *path, mode_t mode)
{
    int r = (int)syscall(SYS_mkdir, path, mode);
    const char *a = below(path);
    if (!r && a) {
        note(MKDIR, IS_DIR, a, NULL);
        name_set(&pc.now, a, IS_DIR);
    }
    return r;
}

/* Its target is on disk when its name is. */
int noted_symlink(const char *target, const char *path)
{
    int r = (int)syscall(SYS_symlink, target, path);
    const char *a = below(path);
    if (r || !a)
        return r;
    int file = file_new();
    struct image *m = &pc.files[file];
    image_size(m, strlen(target));
    memcpy(m->p, target, m->n);
    m->is_link = true;
    note(CREATE, file, a, NULL);
    name_set(&pc.now, a, file);
    return r;
}

/* ---- noting ---------------------------------------------------------------------------------- */
static int take(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    const char *name = below(path);
    (void)ftw;
    if (!name || !*name)
        return 0;
    if (type == FTW_D) {
        name_set(&pc.began, name, IS_DIR);
        return 0;
    }
    int file = file_new();
    struct image *m = &pc.files[file];
    image_size(m, (size_t)st->st_size);
    name_set(&pc.began, name, file);
    m->is_link = type == FTW_SL || type == FTW_SLN;
    if (m->is_link && readlink(path, (char *)m->p, m->n) != (ssize_t)m->n)
        abort();
    if (m->is_link)
        return 0;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0 || read(fd, m->p, m->n) != (ssize_t)m->n)
        abort();
    syscall(SYS_close, fd);
    return 0;
}

static void forget(void)
{
    for (size_t i = 0; i < pc.n; i++) {
        free(pc.calls[i].path);
        free(pc.calls[i].to);
        free(pc.calls[i].p);
    }
    for (size_t i = 0; i < pc.files_n; i++)
        free(pc.files[i].p);
    free(pc.calls);
    free(pc.files);
    memset(&pc, 0, sizeof pc);
}

void powercut_begin(const char *dir)
{
    forget();
    snprintf(pc.dir, sizeof pc.dir, "%s", dir);
    for (size_t i = 0; i < FDS_MAX; i++)
        pc.fd[i].file = NONE;
    pc.on = true;
    if (nftw(dir, take, 8, FTW_PHYS))
        abort();
    pc.now = pc.began;
}

size_t powercut_end(void)
{
    pc.on = false;
    return pc.n;
}

size_t powercut_calls(void)
{
    return pc.n;
}

bool powercut_step(size_t k)
{
    return pc.calls[k].kind != WRITE && pc.calls[k].kind != TRUNCATE;
}

/* ---- the power fails ------------------------------------------------------------------------- */
struct disk {
    struct names names;
    struct image *files;
    bool *done; /* by call */
};

static bool is_content(const struct call *c)
{
    return c->kind == WRITE || c->kind == TRUNCATE;
}

static bool is_in(const char *path, const char *dir)
{
    const char *end = strrchr(path, '/');
    size_t n = end ? (size_t)(end - path) : 0;
    return strlen(dir) == n && !strncmp(path, dir, n);
}

static void reaches(struct disk *d, size_t k)
{
    const struct call *c = &pc.calls[k];
    struct name *n = c->path ? name_find(&d->names, c->path) : NULL;
    d->done[k] = true;
    switch (c->kind) {
    case WRITE:
    case TRUNCATE:
        image_write(&d->files[c->file], c);
        break;
    case CREATE:
    case MKDIR:
        name_set(&d->names, c->path, c->file);
        break;
    case RENAME:
        if (n && n->file == c->file) {
            name_remove(&d->names, c->path);
            name_set(&d->names, c->to, c->file);
        }
        break;
    case UNLINK:
        if (n && n->file == c->file)
            name_remove(&d->names, c->path);
        break;
    case SYNC:
    case SYNC_DIR:
        break;
    }
}

/* What the sync that is call k brings to the disk. */
static void synced(struct disk *d, size_t k)
{
    const struct call *s = &pc.calls[k];
    for (size_t i = 0; i < k; i++) {
        const struct call *c = &pc.calls[i];
        bool content = is_content(c) || c->kind == CREATE;
        bool named = c->path && c->kind != SYNC_DIR;
        if (!d->done[i] && (s->kind == SYNC ? content && c->file == s->file
                                            : named && (is_in(c->path, s->path) ||
                                                        (c->to && is_in(c->to, s->path)))))
            reaches(d, i);
    }
}

static uint64_t draw(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u; /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    return ftw->level ? remove(path) : 0;
}

static void write_out(const struct disk *d)
{
    char path[2 * PATH_LEN];
    if (nftw(pc.dir, drop, 8, FTW_PHYS | FTW_DEPTH))
        abort();
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < d->names.n; i++) {
            const struct name *n = &d->names.v[i];
            snprintf(path, sizeof path, "%s/%s", pc.dir, n->path);
            if (pass == 0 && n->file == IS_DIR && mkdir(path, 0700))
                abort();
            if (pass == 0 || n->file == IS_DIR)
                continue;
            const struct image *m = &d->files[n->file];
            if (m->is_link) {
                m->p[m->n] = 0;
                if (symlink((const char *)m->p, path))
                    abort();
                continue;
            }
            int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
            if (fd < 0 && errno == ENOENT) /* in a directory that is not there: nobody finds it */
                continue;
            if (fd < 0 || write(fd, m->p, m->n) != (ssize_t)m->n)
                abort();
            close(fd);
        }
}

void powercut_apply(size_t n, uint64_t seed)
{
    struct disk d = {.names = pc.began,
                     .files = calloc(pc.files_n + 1, sizeof *d.files),
                     .done = calloc(n + 1, sizeof *d.done)};
    unsigned names = (unsigned)(draw(&seed) % 3) * 50, content = (unsigned)(draw(&seed) % 3) * 50;
    if (!d.files || !d.done)
        abort();
    for (size_t i = 0; i < pc.files_n; i++) {
        image_size(&d.files[i], pc.files[i].n);
        d.files[i].is_link = pc.files[i].is_link;
        if (pc.files[i].n)
            memcpy(d.files[i].p, pc.files[i].p, pc.files[i].n);
    }
    for (size_t k = 0; k < n; k++)
        if (pc.calls[k].kind == SYNC || pc.calls[k].kind == SYNC_DIR)
            synced(&d, k);
    for (size_t k = 0; k < n; k++)
        if (!d.done[k] && draw(&seed) % 100 < (is_content(&pc.calls[k]) ? content : names))
            reaches(&d, k);
    write_out(&d);
    for (size_t i = 0; i < pc.files_n; i++)
        free(d.files[i].p);
    free(d.files);
    free(d.done);
}
