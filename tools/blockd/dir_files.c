// SPDX-License-Identifier: Apache-2.0
/* Files of larger blocks.
 *
 * A batch is written first (the kernel is told to start writing out at once), then synced file by
 * file, linked into its place, and the directory is synced once for all; its names in tmp go when
 * the index has recorded it. A new numbered directory is made durable before anything is put into
 * it. So what a crash leaves without a record has a name in tmp, and only what has one is ever
 * removed at a start: that the index does not know a file tells nothing, it may be gone, or be an
 * older copy. (Where a disk that lost power forgets the name in tmp, but not the other one that was
 * made after it, some space is lost.)
 */
#include "dir_files.h"

#include "blockid.h"
#include "durable.h"
#include "token.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_PER_DIR 4096
#define FAILURES_MAX 32 /* more in a row: it is not these files, it is the disk */
#define NEWEST_DIRS 4   /* a batch may still be under way while the next directories fill up */

struct dir_files {
    char *dir;
    int blocks_fd, tmp_fd, corrupt_fd;
    atomic_uint failures; /* of the disk, with no file read since */
    pthread_mutex_t lock; /* guards current and used */
    unsigned current;     /* number of the directory being filled; 0: none yet */
    size_t used;          /* names given out in it */
};

static int open_dir(const char *dir, const char *name, int *fd)
{
    struct buf path cleanup_buf = {0};
    buf_printf(&path, "%s/%s", dir, name);
    buf_append(&path, "", 1);
    int r = durable_mkdir((char *)path.p);
    if (!r && (*fd = open((char *)path.p, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        r = -errno;
    return r;
}

/* Calls fn for every entry but . and .. until it returns an error: that one, or -errno. */
static int try_entries(int dir_fd, int (*fn)(void *arg, int dir_fd, const char *name), void *arg)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        r = -errno;
        if (fd >= 0)
            close(fd);
        return r;
    }
    while (!r) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (!e) {
            r = -errno;
            break;
        }
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = fn(arg, dirfd(d), e->d_name);
    }
    closedir(d);
    return r;
}

struct entries {
    void (*fn)(void *arg, int dir_fd, const char *name);
    void *arg;
};

static int one_entry(void *arg, int dir_fd, const char *name)
{
    struct entries *e = arg;
    e->fn(e->arg, dir_fd, name);
    return 0;
}

/* The same for what is only counted or tidied. */
static void each_entry(int dir_fd, void (*fn)(void *arg, int dir_fd, const char *name), void *arg)
{
    struct entries e = {.fn = fn, .arg = arg};
    try_entries(dir_fd, one_entry, &e);
}

static void note_number(void *arg, int dir_fd, const char *name)
{
    (void)dir_fd;
    unsigned *highest = arg;
    char *end;
    unsigned long n = strtoul(name, &end, 10);
    if (!*end && n < UINT32_MAX && n > *highest)
        *highest = (unsigned)n;
}

static void count_entry(void *arg, int dir_fd, const char *name)
{
    (void)dir_fd;
    (void)name;
    ++*(size_t *)arg;
}

static int open_numbered(struct dir_files *f, unsigned number)
{
    char name[16];
    snprintf(name, sizeof name, "%08u", number);
    return openat(f->blocks_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int dir_files_open(struct dir_files **out, const char *dir, char *err)
{
    *out = NULL;
    struct dir_files *f = calloc(1, sizeof *f);
    if (!f || !(f->dir = strdup(dir)))
        abort();
    f->blocks_fd = f->tmp_fd = f->corrupt_fd = -1;
    pthread_mutex_init(&f->lock, NULL);
    int r = open_dir(dir, "blocks", &f->blocks_fd);
    if (!r)
        r = open_dir(dir, "tmp", &f->tmp_fd);
    if (!r)
        r = open_dir(dir, "corrupt", &f->corrupt_fd);
    if (r) {
        snprintf(err, 512, "cannot make directories in %s: %s", dir, strerror(-r));
        dir_files_close(f);
        return r;
    }
    each_entry(f->blocks_fd, note_number, &f->current);
    int fd = f->current ? open_numbered(f, f->current) : -1;
    if (fd >= 0) {
        each_entry(fd, count_entry, &f->used);
        close(fd);
    }
    *out = f;
    return 0;
}

void dir_files_close(struct dir_files *f)
{
    if (!f)
        return;
    int fds[] = {f->blocks_fd, f->tmp_fd, f->corrupt_fd};
    for (size_t i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    pthread_mutex_destroy(&f->lock);
    free(f->dir);
    free(f);
}

static const char *base_of(const char *name)
{
    const char *slash = strchr(name, '/');
    return slash ? slash + 1 : name;
}

void dir_files_write(struct dir_files *f, const struct block_id *id, struct bytes data,
                     struct dir_file *file)
{
    char hex[BLOCK_HEX_LEN + 1];
    uint64_t unique;
    block_id_hex(id, hex);
    random_bytes(&unique, sizeof unique);
    /* the number comes when the file is settled */
    snprintf(file->name, sizeof file->name, "00000000/%s-%016llx", hex, (unsigned long long)unique);
    file->err = 0;
    file->fd =
        openat(f->tmp_fd, base_of(file->name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file->fd < 0) {
        file->err = write_error(errno);
        return;
    }
    file->err = write_all(file->fd, data.p, data.n);
    if (!file->err)
        sync_file_range(file->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

/* The number of the directory for n more files, made if it is new. 0 or -errno. */
static int take_place(struct dir_files *f, size_t n, unsigned *number)
{
    int r = 0;
    pthread_mutex_lock(&f->lock);
    if (!f->current || f->used >= FILES_PER_DIR) {
        char name[16];
        snprintf(name, sizeof name, "%08u", f->current + 1);
        if (mkdirat(f->blocks_fd, name, 0700) < 0 && errno != EEXIST)
            r = write_error(errno);
        else if (fsync(f->blocks_fd) < 0)
            r = -errno;
        if (!r) {
            f->current++;
            f->used = 0;
        }
    }
    f->used += n;
    *number = f->current;
    pthread_mutex_unlock(&f->lock);
    return r;
}

static void settle_one(struct dir_files *f, struct dir_file *v, unsigned number, int dir_fd)
{
    char tmp[DIR_FILE_NAME], digits[16];
    snprintf(tmp, sizeof tmp, "%s", base_of(v->name));
    snprintf(digits, sizeof digits, "%08u", number);
    memcpy(v->name, digits, 8);
    if (v->err || !linkat(f->tmp_fd, tmp, dir_fd, tmp, 0)) {
        /* as it should be */
    } else if (errno != EPERM && errno != EOPNOTSUPP && errno != EMLINK) {
        v->err = write_error(errno);
    } else if (renameat(f->tmp_fd, tmp, dir_fd, tmp) < 0) { /* a file system without links */
        v->err = write_error(errno);
    }
    if (v->err)
        unlinkat(f->tmp_fd, tmp, 0);
}

void dir_files_settle(struct dir_files *f, struct dir_file *v, size_t n)
{
    size_t files = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i].fd < 0)
            continue;
        files++;
        if (!v[i].err && fdatasync(v[i].fd) < 0)
            v[i].err = write_error(errno);
        close(v[i].fd);
    }
    if (!files)
        return;
    unsigned number = 0;
    int dir_fd = -1;
    int r = take_place(f, files, &number);
    if (!r && (dir_fd = open_numbered(f, number)) < 0)
        r = -errno;
    for (size_t i = 0; i < n; i++) {
        if (v[i].fd < 0)
            continue;
        v[i].err = v[i].err ? v[i].err : r;
        settle_one(f, &v[i], number, dir_fd);
    }
    if (!r && fsync(dir_fd) < 0)
        r = -errno;
    if (dir_fd >= 0)
        close(dir_fd);
    for (size_t i = 0; r && i < n; i++) {
        if (v[i].fd >= 0 && !v[i].err) {
            dir_files_discard(f, v[i].name);
            v[i].err = r;
        }
    }
}

void dir_files_remove(struct dir_files *f, const char *name)
{
    unlinkat(f->blocks_fd, name, 0);
}

void dir_files_recorded(struct dir_files *f, const char *name)
{
    unlinkat(f->tmp_fd, base_of(name), 0);
}

void dir_files_discard(struct dir_files *f, const char *name)
{
    dir_files_remove(f, name);
    dir_files_recorded(f, name); /* last: by it the next start finds the other */
}

/* A file that is gone was lost; a directory that is gone may be on a disk that is not mounted. */
static int cannot_open(struct dir_files *f, const char *name, int err)
{
    char dir[DIR_FILE_NAME];
    struct stat st;
    snprintf(dir, sizeof dir, "%.*s", (int)strcspn(name, "/"), name);
    if (err == ENOENT && !fstatat(f->blocks_fd, dir, &st, 0) && S_ISDIR(st.st_mode))
        return -EUCLEAN;
    return -EIO;
}

static int disk_failed(struct dir_files *f)
{
    return atomic_fetch_add(&f->failures, 1) < FAILURES_MAX ? -ENODATA : -EIO;
}

static int read_all(struct dir_files *f, int fd, uint64_t len, struct buf *out)
{
    size_t chunk_n = 1 << 18;
    uint8_t *chunk = malloc(chunk_n);
    int r = 0;
    if (!chunk)
        abort();
    for (uint64_t left = len; !r && left;) {
        ssize_t n = read(fd, chunk, chunk_n < left ? chunk_n : (size_t)left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            r = n == 0 ? -EUCLEAN : errno == EIO ? disk_failed(f) : -EIO;
            break;
        }
        buf_append(out, chunk, (size_t)n);
        left -= (uint64_t)n;
    }
    if (!r)
        atomic_store(&f->failures, 0);
    free(chunk);
    return r;
}

int dir_files_read(struct dir_files *f, const char *name, uint64_t len, struct buf *out)
{
    int fd = openat(f->blocks_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cannot_open(f, name, errno);
    struct stat st;
    int r = fstat(fd, &st) < 0 ? -EIO : (uint64_t)st.st_size != len ? -EUCLEAN : 0;
    if (!r)
        r = read_all(f, fd, len, out);
    close(fd);
    return r;
}

int dir_files_length(struct dir_files *f, const char *name, uint64_t *len)
{
    struct stat st;
    if (fstatat(f->blocks_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? -ENOENT : -EIO;
    *len = (uint64_t)st.st_size;
    return S_ISREG(st.st_mode) ? 0 : -ENOENT;
}

void dir_files_uncache(struct dir_files *f, const char *name)
{
    int fd = openat(f->blocks_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

int dir_files_probe(struct dir_files *f, const char *name, uint64_t len)
{
    struct stat st;
    if (fstatat(f->blocks_fd, name, &st, 0))
        return cannot_open(f, name, errno);
    return (uint64_t)st.st_size == len ? 0 : -EUCLEAN;
}

void dir_files_move_aside(struct dir_files *f, const char *name)
{
    renameat(f->blocks_fd, name, f->corrupt_fd, base_of(name));
}

void dir_files_keep_aside(struct dir_files *f, const struct block_id *id, struct bytes data)
{
    char hex[BLOCK_HEX_LEN + 1];
    block_id_hex(id, hex);
    int fd = openat(f->corrupt_fd, hex, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (write_all(fd, data.p, data.n))
        unlinkat(f->corrupt_fd, hex, 0);
    close(fd);
}

int dir_files_read_aside(struct dir_files *f, const char *name, size_t max, struct buf *out)
{
    int fd = openat(f->corrupt_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? -ENOENT : -EIO;
    struct stat st;
    size_t start = out->n;
    int r = fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ? -EIO : 0;
    if (!r && (uint64_t)st.st_size > max)
        r = -EFBIG;
    if (!r && read_all(f, fd, (uint64_t)st.st_size, out))
        r = -EIO;
    if (r)
        out->n = start;
    close(fd);
    return r;
}

void dir_files_remove_aside(struct dir_files *f, const char *name)
{
    unlinkat(f->corrupt_fd, name, 0);
}

/* ---- all of them ----------------------------------------------------------------------------- */

struct visit {
    unsigned number; /* 0: DIR/corrupt */
    int (*fn)(void *arg, const char *name);
    void *arg;
};

static int visit_one(void *arg, int dir_fd, const char *name)
{
    (void)dir_fd;
    struct visit *v = arg;
    char full[DIR_FILE_NAME];
    int n = v->number ? snprintf(full, sizeof full, "%08u/%s", v->number, name)
                      : snprintf(full, sizeof full, "%s", name);
    return n < (int)sizeof full ? v->fn(v->arg, full) : 0;
}

int dir_files_each(struct dir_files *f, unsigned number, int (*fn)(void *arg, const char *name),
                   void *arg)
{
    struct visit v = {.number = number, .fn = fn, .arg = arg};
    int fd = open_numbered(f, number);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    int r = try_entries(fd, visit_one, &v);
    close(fd);
    return r;
}

int dir_files_each_aside(struct dir_files *f, int (*fn)(void *arg, const char *name), void *arg)
{
    struct visit v = {.fn = fn, .arg = arg};
    return try_entries(f->corrupt_fd, visit_one, &v);
}

unsigned dir_files_newest(struct dir_files *f)
{
    pthread_mutex_lock(&f->lock);
    unsigned number = f->current;
    pthread_mutex_unlock(&f->lock);
    return number;
}

struct sweep {
    struct dir_files *f;
    bool (*known)(void *arg, const char *name);
    void *arg;
    unsigned number; /* of the directory looked at */
    size_t unknown;
};

static bool same_file(int a_fd, const char *a, int b_fd, const char *b)
{
    struct stat x, y;
    return !fstatat(a_fd, a, &x, AT_SYMLINK_NOFOLLOW) &&
           !fstatat(b_fd, b, &y, AT_SYMLINK_NOFOLLOW) && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

static void sweep_tmp(void *arg, int tmp_fd, const char *name)
{
    struct sweep *s = arg;
    struct dir_files *f = s->f;
    for (unsigned i = 0; s->known && i < NEWEST_DIRS && i < f->current; i++) {
        char full[DIR_FILE_NAME];
        int n = snprintf(full, sizeof full, "%08u/%s", f->current - i, name);
        if (n < (int)sizeof full && same_file(tmp_fd, name, f->blocks_fd, full) &&
            !s->known(s->arg, full))
            dir_files_remove(f, full);
    }
    unlinkat(tmp_fd, name, 0);
}

void dir_files_sweep(struct dir_files *f, bool (*known)(void *arg, const char *name), void *arg)
{
    struct sweep s = {.f = f, .known = known, .arg = arg};
    each_entry(f->tmp_fd, sweep_tmp, &s);
}

static void count_unknown(void *arg, int dir_fd, const char *name)
{
    (void)dir_fd;
    struct sweep *s = arg;
    char full[DIR_FILE_NAME];
    int n = snprintf(full, sizeof full, "%08u/%s", s->number, name);
    s->unknown += n >= (int)sizeof full || !s->known(s->arg, full);
}

size_t dir_files_unknown(struct dir_files *f, bool (*known)(void *arg, const char *name), void *arg)
{
    struct sweep s = {.f = f, .known = known, .arg = arg};
    for (unsigned i = 0; i < NEWEST_DIRS && i < f->current; i++) {
        s.number = f->current - i;
        int fd = open_numbered(f, s.number);
        if (fd < 0)
            continue;
        each_entry(fd, count_unknown, &s);
        close(fd);
    }
    return s.unknown;
}
