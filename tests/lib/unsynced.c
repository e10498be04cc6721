// SPDX-License-Identifier: Apache-2.0
/* LD_PRELOAD library: a kill that loses what was not synced, as a power failure would.
 *
 * It watches what the process does to the files below UNSYNCED_PREFIX and keeps an undo log: before
 * a write, the bytes it replaces; after a create, rename, unlink, link, mkdir, rmdir, the name as
 * it was. An fsync or fdatasync that succeeded drops the file's entries that were there when it
 * began; an fsync of a directory drops those of its names. On SIGUSR2 a thread of the library stops
 * every further change, undoes what is left, newest first, and ends the process with SIGKILL. This
 * is the most pessimistic disk that POSIX allows: nothing reaches it by chance. So what is there
 * afterwards is there because it was synced.
 *
 *   UNSYNCED_PREFIX  a directory, absolute; nothing outside it is watched
 *   UNSYNCED_STASH   a directory on the same filesystem, outside the prefix; holds links to files
 *                    that were removed and may have to come back, under names of this process
 *   UNSYNCED_IGNORE  KIND:PATTERN[;…]: pretend success without syncing where the path matches the
 *                    glob PATTERN; KIND is fsync, fdatasync, dirsync (fsync of a directory) or any.
 * So a test shows that it notices when one sync is missing. UNSYNCED_TRACE   a file: one line per
 * sync, and one when undoing
 *
 * A rename is durable with its new directory. Not watched: writes through mmap (SQLite's -shm,
 * which is rebuilt) and stdio (logs), and another process's writes.
 */
/* Both names of every call are defined below; the headers must not make one of the other. */
#undef _FILE_OFFSET_BITS
#include "unsynced.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct unsynced u = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *next(const char *name)
{
    void *f = dlsym(RTLD_NEXT, name);
    if (!f) {
        fprintf(stderr, "unsynced: no %s\n", name);
        abort();
    }
    return f;
}

/* The library's own calls go past its wrappers. */
#define REAL(name) ((__typeof__(&(name)))next(#name))

static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *fmt, ...)
{
    char line[PATH_MAX + 128];
    va_list ap;
    if (u.trace < 0)
        return;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n > 0 &&
        REAL(write)(u.trace, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1) < 0)
        return;
}

static bool below_prefix(const char *path)
{
    size_t n = u.prefix ? strlen(u.prefix) : 0;
    return n && !strncmp(path, u.prefix, n) && (path[n] == '/' || path[n] == 0);
}

/* The path of an open file as the kernel knows it now. */
static bool path_of(int fd, char path[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    path[n < 0 ? 0 : n] = 0;
    return n > 0;
}

/* Resolves a name to its absolute path (its directory's links followed, not its own) and the
 * identity of its directory; false when it lies outside the prefix. */
static bool resolve(int dirfd, const char *name, char path[PATH_MAX], struct inode_key *dir)
{
    char parent[PATH_MAX];
    struct stat st;
    int saved = errno;
    int n = snprintf(parent, sizeof parent, "%s", name);
    if (!u.prefix || n >= PATH_MAX)
        return false;
    while (n > 1 && parent[n - 1] == '/')
        parent[--n] = 0;
    char *slash = strrchr(parent, '/');
    const char *last = slash ? slash + 1 : parent;
    char base[NAME_MAX + 1];
    snprintf(base, sizeof base, "%.*s", NAME_MAX, last);
    if (!slash)
        snprintf(parent, sizeof parent, ".");
    else
        slash[slash == parent] = 0; /* the root stays "/" */
    int fd = REAL(openat)(dirfd, parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && !fstat(fd, &st) && path_of(fd, parent);
    if (fd >= 0)
        REAL(close)(fd);
    errno = saved;
    if (!ok || !below_prefix(parent))
        return false;
    *dir = (struct inode_key){st.st_dev, st.st_ino};
    int len = snprintf(path, PATH_MAX, "%s/%s", parent, base);
    return len > 0 && len < PATH_MAX;
}

/* --- the undo log ----------------------------------------------------------------------------- */

static void stash_name(char path[PATH_MAX], struct inode_key key)
{
    snprintf(path, PATH_MAX, "%s/%ld-%llx-%llx", u.stash, (long)u.pid, (unsigned long long)key.dev,
             (unsigned long long)key.ino);
}

/* Links the inode behind path (or fd) into the stash, so that it survives its names. */
static void stash(struct inode_key key, int fd, const char *path)
{
    char to[PATH_MAX], from[64];
    stash_name(to, key);
    if (path) {
        REAL(linkat)(AT_FDCWD, path, AT_FDCWD, to, 0);
        return;
    }
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    REAL(linkat)(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW);
}

static struct entry *add(enum change kind, struct inode_key inode, struct inode_key dir)
{
    struct entry *e = calloc(1, sizeof *e);
    if (!e)
        abort();
    *e = (struct entry){.kind = kind, .inode = inode, .dir = dir, .seq = ++u.seq, .prev = u.newest};
    if (u.newest)
        u.newest->next = e;
    else
        u.oldest = e;
    u.newest = e;
    return e;
}

static void drop(struct entry *e)
{
    *(e->prev ? &e->prev->next : &u.oldest) = e->next;
    *(e->next ? &e->next->prev : &u.newest) = e->prev;
    free(e->path);
    free(e->to);
    free(e->old);
    free(e);
}

static bool same(struct inode_key a, struct inode_key b)
{
    return a.dev == b.dev && a.ino == b.ino;
}

/* Removes the stash's link of an inode that no entry needs any more. */
static void unstash(struct inode_key key)
{
    char path[PATH_MAX];
    for (struct entry *e = u.oldest; e; e = e->next)
        if (same(e->inode, key) || same(e->replaced, key))
            return;
    stash_name(path, key);
    REAL(unlink)(path);
}

/* What was there when the sync began is on disk now. */
static void synced(struct inode_key key, bool directory, uint64_t until)
{
    for (struct entry *e = u.oldest, *after; e && e->seq <= until; e = after) {
        after = e->next;
        if (directory ? e->kind == CHANGE_DATA || !same(e->dir, key)
                      : e->kind != CHANGE_DATA || !same(e->inode, key))
            continue;
        struct inode_key inode = e->inode, replaced = e->replaced;
        drop(e);
        unstash(inode);
        if (replaced.ino)
            unstash(replaced);
    }
}

/* --- undoing ---------------------------------------------------------------------------------- */

static void undo_data(const struct entry *e)
{
    char path[PATH_MAX];
    stash_name(path, e->inode);
    int fd = REAL(open)(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if ((e->old_len && REAL(pwrite)(fd, e->old, e->old_len, e->off) != (ssize_t)e->old_len) ||
        REAL(ftruncate)(fd, e->old_size))
        note("undo of a write failed: %s\n", strerror(errno));
    REAL(close)(fd);
}

static void restore_link(struct inode_key key, const char *path)
{
    char from[PATH_MAX];
    stash_name(from, key);
    if (REAL(linkat)(AT_FDCWD, from, AT_FDCWD, path, 0))
        note("undo cannot bring back %s: %s\n", path, strerror(errno));
}

static void undo_name(const struct entry *e)
{
    char lost[PATH_MAX];
    struct stat st;
    switch (e->kind) {
    case CHANGE_CREATE:
        if (!lstat(e->path, &st) && same((struct inode_key){st.st_dev, st.st_ino}, e->inode))
            REAL(unlink)(e->path);
        break;
    case CHANGE_UNLINK:
        restore_link(e->inode, e->path);
        break;
    case CHANGE_RENAME:
        if (REAL(rename)(e->to, e->path))
            note("undo of rename to %s: %s\n", e->to, strerror(errno));
        if (e->replaced.ino)
            restore_link(e->replaced, e->to);
        break;
    case CHANGE_EXCHANGE:
        REAL(renameat2)(AT_FDCWD, e->to, AT_FDCWD, e->path, RENAME_EXCHANGE);
        break;
    case CHANGE_MKDIR: /* with all that is in it: nothing led there */
        snprintf(lost, sizeof lost, "%s/%ld-lost-%llu", u.stash, (long)u.pid,
                 (unsigned long long)e->seq);
        REAL(rename)(e->path, lost);
        break;
    case CHANGE_RMDIR:
        REAL(mkdir)(e->path, e->mode);
        break;
    case CHANGE_DATA:
        break;
    }
}

/* Never returns. The lock is never given back: other threads wait in their next change. */
static void lose_and_die(void)
{
    unsigned data = 0, names = 0;
    pthread_mutex_lock(&u.lock);
    for (struct entry *e = u.newest; e; e = e->prev) {
        if (e->kind == CHANGE_DATA) {
            data++;
            undo_data(e);
        } else {
            names++;
            undo_name(e);
        }
    }
    for (struct entry *e = u.newest; e; e = e->prev) {
        char path[PATH_MAX];
        stash_name(path, e->inode);
        REAL(unlink)(path);
        stash_name(path, e->replaced);
        REAL(unlink)(path);
    }
    note("lost %u writes, %u names\n", data, names);
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static void *wait_for_signal(void *arg)
{
    sigset_t set;
    int sig;
    (void)arg;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    while (sigwait(&set, &sig) || sig != SIGUSR2)
        ;
    lose_and_die();
    return NULL;
}

static void start_thread(void)
{
    pthread_t t;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    u.pid = getpid();
    if (!pthread_create(&t, NULL, wait_for_signal, NULL))
        pthread_detach(t);
}

static void before_fork(void)
{
    pthread_mutex_lock(&u.lock);
}

static void after_fork_parent(void)
{
    pthread_mutex_unlock(&u.lock);
}

/* The child answers for what it does itself. */
static void after_fork_child(void)
{
    pthread_mutex_init(&u.lock, NULL);
    while (u.newest)
        drop(u.newest);
    start_thread();
}

__attribute__((constructor)) static void unsynced_start(void)
{
    const char *trace = getenv("UNSYNCED_TRACE");
    u.prefix = getenv("UNSYNCED_PREFIX");
    u.stash = getenv("UNSYNCED_STASH");
    u.ignore = getenv("UNSYNCED_IGNORE");
    u.trace = trace ? REAL(open)(trace, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (!u.prefix || !u.stash) {
        u.prefix = NULL;
        return;
    }
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
    start_thread();
}

/* A process that ends by itself needs its stash no more. */
__attribute__((destructor)) static void unsynced_stop(void)
{
    pthread_mutex_lock(&u.lock);
    while (u.newest) {
        struct inode_key inode = u.newest->inode, replaced = u.newest->replaced;
        drop(u.newest);
        unstash(inode);
        unstash(replaced);
    }
    pthread_mutex_unlock(&u.lock);
}

/* --- syncs ------------------------------------------------------------------------------------ */

static bool ignored(const char *kind, const char *path)
{
    const char *p = u.ignore;
    while (p && *p) {
        char item[PATH_MAX];
        size_t n = strcspn(p, ";");
        snprintf(item, sizeof item, "%.*s", (int)n, p);
        p += n + (p[n] == ';');
        char *colon = strchr(item, ':');
        if (!colon)
            continue;
        *colon = 0;
        if ((!strcmp(item, kind) || !strcmp(item, "any")) && !fnmatch(colon + 1, path, 0))
            return true;
    }
    return false;
}

static int sync_file(int fd, const char *kind, int (*real)(int))
{
    char path[PATH_MAX];
    struct stat st;
    if (!u.prefix || fstat(fd, &st) || !path_of(fd, path) || !below_prefix(path))
        return real(fd);
    bool directory = S_ISDIR(st.st_mode);
    kind = directory ? "dirsync" : kind;
    pthread_mutex_lock(&u.lock);
    uint64_t until = u.seq;
    pthread_mutex_unlock(&u.lock);
    if (ignored(kind, path)) {
        note("ignored %s %s\n", kind, path);
        return 0;
    }
    int result = real(fd);
    if (result == 0) {
        pthread_mutex_lock(&u.lock);
        synced((struct inode_key){st.st_dev, st.st_ino}, directory, until);
        note("%s %s\n", kind, path);
        pthread_mutex_unlock(&u.lock);
    }
    return result;
}

int fsync(int fd)
{
    return sync_file(fd, "fsync", REAL(fsync));
}

int fdatasync(int fd)
{
    return sync_file(fd, "fdatasync", REAL(fdatasync));
}

/* --- contents --------------------------------------------------------------------------------- */

/* With the lock held: remembers [off, off+len) of a watched file as it is, and its size. */
static void remember_data(int fd, off_t off, size_t len)
{
    char path[PATH_MAX];
    struct stat st;
    if (!u.prefix || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_nlink == 0 ||
        !path_of(fd, path) || !below_prefix(path))
        return;
    struct inode_key key = {st.st_dev, st.st_ino};
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && (flags & O_APPEND))
        off = st.st_size;
    size_t keep = off >= st.st_size               ? 0
                  : (off_t)len > st.st_size - off ? (size_t)(st.st_size - off)
                                                  : len;
    stash(key, fd, NULL);
    struct entry *e = add(CHANGE_DATA, key, (struct inode_key){0});
    e->off = off;
    e->old_size = st.st_size;
    if (!keep)
        return;
    e->old = malloc(keep);
    int r = (flags & O_ACCMODE) == O_WRONLY ? REAL(open)(path, O_RDONLY | O_CLOEXEC) : fd;
    ssize_t n = e->old && r >= 0 ? pread(r, e->old, keep, off) : -1;
    if (r >= 0 && r != fd)
        REAL(close)(r);
    if (n != (ssize_t)keep) {
        fprintf(stderr, "unsynced: cannot read %s before it changes\n", path);
        abort();
    }
    e->old_len = keep;
}

/* A descriptor opened with O_SYNC or O_DSYNC syncs what it wrote. */
static void after_write(int fd)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && (flags & O_DSYNC) && !fstat(fd, &st))
        synced((struct inode_key){st.st_dev, st.st_ino}, false, u.seq);
}

static bool regular(int fd)
{
    struct stat st;
    return u.prefix && !fstat(fd, &st) && S_ISREG(st.st_mode);
}

/* Runs `call` with the range remembered before. */
#define CHANGING(fd, off, len, call)                                                               \
    ({                                                                                             \
        pthread_mutex_lock(&u.lock);                                                               \
        remember_data(fd, off, len);                                                               \
        __typeof__(call) result_ = (call);                                                         \
        after_write(fd);                                                                           \
        pthread_mutex_unlock(&u.lock);                                                             \
        result_;                                                                                   \
    })

static size_t total(const struct iovec *v, int n)
{
    size_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += v[i].iov_len;
    return sum;
}

ssize_t write(int fd, const void *p, size_t n)
{
    if (!regular(fd))
        return REAL(write)(fd, p, n);
    return CHANGING(fd, lseek(fd, 0, SEEK_CUR), n, REAL(write)(fd, p, n));
}

ssize_t writev(int fd, const struct iovec *v, int n)
{
    if (!regular(fd))
        return REAL(writev)(fd, v, n);
    return CHANGING(fd, lseek(fd, 0, SEEK_CUR), total(v, n), REAL(writev)(fd, v, n));
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t off)
{
    return CHANGING(fd, off, n, REAL(pwrite)(fd, p, n, off));
}

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t off)
{
    return CHANGING(fd, off, total(v, n), REAL(pwritev)(fd, v, n, off));
}

int ftruncate(int fd, off_t size)
{
    return CHANGING(fd, size, SIZE_MAX / 4, REAL(ftruncate)(fd, size));
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
    return CHANGING(fd, off, (size_t)len, REAL(fallocate)(fd, mode, off, len));
}

int posix_fallocate(int fd, off_t off, off_t len)
{
    return CHANGING(fd, off, (size_t)len, REAL(posix_fallocate)(fd, off, len));
}

ssize_t copy_file_range(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags)
{
    return CHANGING(out, out_off ? *out_off : lseek(out, 0, SEEK_CUR), n,
                    REAL(copy_file_range)(in, in_off, out, out_off, n, flags));
}

/* --- names ------------------------------------------------------------------------------------ */

static struct inode_key key_of(const char *path, mode_t *mode)
{
    struct stat st;
    if (lstat(path, &st))
        return (struct inode_key){0};
    if (mode)
        *mode = st.st_mode;
    return (struct inode_key){st.st_dev, st.st_ino};
}

static struct entry *add_name(enum change kind, struct inode_key inode, struct inode_key dir,
                              const char *path)
{
    struct entry *e = add(kind, inode, dir);
    e->path = strdup(path);
    if (!e->path)
        abort();
    return e;
}

int openat(int dirfd, const char *name, int flags, ...)
{
    char path[PATH_MAX];
    struct inode_key dir;
    mode_t mode = 0;
    if (flags & (O_CREAT | __O_TMPFILE)) {
        va_list ap;
        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    if (!(flags & (O_CREAT | O_TRUNC)) || !resolve(dirfd, name, path, &dir))
        return REAL(openat)(dirfd, name, flags, mode);
    pthread_mutex_lock(&u.lock);
    struct inode_key before = key_of(path, NULL);
    if (before.ino && (flags & O_TRUNC)) {
        int fd = REAL(openat)(dirfd, name, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
            remember_data(fd, 0, SIZE_MAX / 4);
            REAL(close)(fd);
        }
    }
    int fd = REAL(openat)(dirfd, name, flags, mode);
    struct stat st;
    if (fd >= 0 && !before.ino && !fstat(fd, &st))
        add_name(CHANGE_CREATE, (struct inode_key){st.st_dev, st.st_ino}, dir, path);
    pthread_mutex_unlock(&u.lock);
    return fd;
}

int open(const char *name, int flags, ...)
{
    mode_t mode = 0;
    if (flags & (O_CREAT | __O_TMPFILE)) {
        va_list ap;
        va_start(ap, flags);
        mode = va_arg(ap, mode_t);
        va_end(ap);
    }
    return openat(AT_FDCWD, name, flags, mode);
}

int creat(const char *name, mode_t mode)
{
    return openat(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int unlinkat(int dirfd, const char *name, int flags)
{
    char path[PATH_MAX];
    struct inode_key dir;
    mode_t mode = 0;
    if (!resolve(dirfd, name, path, &dir))
        return REAL(unlinkat)(dirfd, name, flags);
    pthread_mutex_lock(&u.lock);
    struct inode_key key = key_of(path, &mode);
    if (key.ino && !(flags & AT_REMOVEDIR))
        stash(key, -1, path);
    int result = REAL(unlinkat)(dirfd, name, flags);
    if (result == 0)
        add_name(flags & AT_REMOVEDIR ? CHANGE_RMDIR : CHANGE_UNLINK, key, dir, path)->mode =
            mode & 07777;
    else if (key.ino)
        unstash(key);
    pthread_mutex_unlock(&u.lock);
    return result;
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

int rmdir(const char *name)
{
    return unlinkat(AT_FDCWD, name, AT_REMOVEDIR);
}

int mkdirat(int dirfd, const char *name, mode_t mode)
{
    char path[PATH_MAX];
    struct inode_key dir;
    if (!resolve(dirfd, name, path, &dir))
        return REAL(mkdirat)(dirfd, name, mode);
    pthread_mutex_lock(&u.lock);
    int result = REAL(mkdirat)(dirfd, name, mode);
    if (result == 0)
        add_name(CHANGE_MKDIR, key_of(path, NULL), dir, path);
    pthread_mutex_unlock(&u.lock);
    return result;
}

int mkdir(const char *name, mode_t mode)
{
    return mkdirat(AT_FDCWD, name, mode);
}

int linkat(int fromfd, const char *from, int tofd, const char *to, int flags)
{
    char path[PATH_MAX];
    struct inode_key dir;
    if (!resolve(tofd, to, path, &dir))
        return REAL(linkat)(fromfd, from, tofd, to, flags);
    pthread_mutex_lock(&u.lock);
    int result = REAL(linkat)(fromfd, from, tofd, to, flags);
    if (result == 0)
        add_name(CHANGE_CREATE, key_of(path, NULL), dir, path);
    pthread_mutex_unlock(&u.lock);
    return result;
}

int link(const char *from, const char *to)
{
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat2(int fromfd, const char *from, int tofd, const char *to, unsigned flags)
{
    char path[PATH_MAX], target[PATH_MAX];
    struct inode_key from_dir, dir;
    if (!resolve(tofd, to, target, &dir) || !resolve(fromfd, from, path, &from_dir))
        return REAL(renameat2)(fromfd, from, tofd, to, flags);
    pthread_mutex_lock(&u.lock);
    mode_t mode = 0;
    struct inode_key key = key_of(path, NULL), replaced = key_of(target, &mode);
    if (replaced.ino && !S_ISDIR(mode))
        stash(replaced, -1, target);
    int result = REAL(renameat2)(fromfd, from, tofd, to, flags);
    if (result == 0 && !same(key, replaced)) {
        bool exchange = flags & RENAME_EXCHANGE;
        struct entry *e = add_name(exchange ? CHANGE_EXCHANGE : CHANGE_RENAME, key, dir, path);
        e->to = strdup(target);
        if (!exchange && !S_ISDIR(mode))
            e->replaced = replaced;
    } else if (replaced.ino) {
        unstash(replaced);
    }
    pthread_mutex_unlock(&u.lock);
    return result;
}

int renameat(int fromfd, const char *from, int tofd, const char *to)
{
    return renameat2(fromfd, from, tofd, to, 0);
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int remove(const char *path)
{
    int result = unlink(path);
    return result && errno == EISDIR ? rmdir(path) : result;
}

/* The names that programs built with or without 64-bit offsets use; one and the same here. */
int open64(const char *name, int flags, ...) __attribute__((alias("open")));
int openat64(int dirfd, const char *name, int flags, ...) __attribute__((alias("openat")));
int creat64(const char *name, mode_t mode) __attribute__((alias("creat")));
ssize_t pwrite64(int fd, const void *p, size_t n, off_t off) __attribute__((alias("pwrite")));
ssize_t pwritev64(int fd, const struct iovec *v, int n, off_t off)
    __attribute__((alias("pwritev")));
int ftruncate64(int fd, off_t size) __attribute__((alias("ftruncate")));
int fallocate64(int fd, int mode, off_t off, off_t len) __attribute__((alias("fallocate")));
int posix_fallocate64(int fd, off_t off, off_t len) __attribute__((alias("posix_fallocate")));
