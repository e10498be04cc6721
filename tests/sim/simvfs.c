// SPDX-License-Identifier: Apache-2.0
/* A file is its content now, its content on disk, and the operations between them in order. A sync
 * replays the operations on the disk's copy; power loss replays a random choice of them. A file
 * that was never synced is not there after power loss; a deletion that was not followed by a sync
 * of the directory may come undone.
 *
 * The content after power loss need not be any state that the file ever had: the operations are
 * chosen one by one, and the last kept one may be torn at a sector. That is what SQLite promises to
 * stand, and what the servers and the mount promise to their users on top of it.
 */
#include "simvfs.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX 16
#define NAME_MAX_LEN 64
#define SECTOR 512
#define REGIONS_MAX 64

struct image {
    uint8_t *p;
    size_t n, cap;
};

struct op { /* data in simfile.data; len 0: truncate to off */
    uint64_t off;
    size_t len, at;
};

struct simfile {
    char name[NAME_MAX_LEN]; /* "" : free */
    bool exists, on_disk, temporary;
    struct image now, disk;
    struct op *ops;
    size_t ops_n, ops_cap;
    struct image data; /* of ops */
};

struct region { /* of the memory that connections of a database share */
    void *p;
    size_t n;
};

struct simvfs {
    sqlite3_vfs vfs;
    char name[NAME_MAX_LEN];
    struct simfile files[FILES_MAX];
    struct region shm[REGIONS_MAX]; /* of the one database; where they are stays, see warm.c */
    struct rng rng;
    bool crashed;
    unsigned countdown; /* 0: none */
    unsigned life;      /* counts restarts: what was open before is looked up again */
};

struct handle {
    sqlite3_file base;
    struct simvfs *v;
    struct simfile *f;
    const char *name; /* SQLite keeps it as long as the file is open; NULL: temporary */
    unsigned life;
};

/* ---- images ------------------------------------------------------------------------------- */
static void image_room(struct image *m, size_t n)
{
    if (n <= m->cap)
        return;
    m->cap = n + n / 2 + 4096;
    m->p = realloc(m->p, m->cap);
    if (!m->p)
        abort();
}

static void image_size(struct image *m, size_t n)
{
    image_room(m, n);
    if (n > m->n)
        memset(m->p + m->n, 0, n - m->n);
    m->n = n;
}

static void image_write(struct image *m, uint64_t off, const uint8_t *p, size_t len)
{
    if (off > m->n)
        image_size(m, (size_t)off);
    image_room(m, (size_t)off + len);
    memcpy(m->p + off, p, len);
    if (off + len > m->n)
        m->n = (size_t)off + len;
}

static void image_copy(struct image *to, const struct image *from)
{
    to->n = 0;
    if (from->n)
        image_write(to, 0, from->p, from->n);
}

static void op_add(struct simfile *f, uint64_t off, const void *p, size_t len)
{
    if (f->ops_n == f->ops_cap) {
        f->ops_cap = f->ops_cap ? 2 * f->ops_cap : 64;
        f->ops = realloc(f->ops, f->ops_cap * sizeof *f->ops);
        if (!f->ops)
            abort();
    }
    f->ops[f->ops_n++] = (struct op){off, len, f->data.n};
    if (len)
        image_write(&f->data, f->data.n, p, len);
}

static void op_apply(struct simfile *f, const struct op *o, size_t len)
{
    if (o->len)
        image_write(&f->disk, o->off, f->data.p + o->at, len);
    else
        image_size(&f->disk, (size_t)o->off);
}

static void ops_clear(struct simfile *f)
{
    f->ops_n = 0;
    f->data.n = 0;
}

static void file_sync(struct simfile *f)
{
    for (size_t i = 0; i < f->ops_n; i++)
        op_apply(f, &f->ops[i], f->ops[i].len);
    ops_clear(f);
    f->on_disk = true;
}

static void file_clear(struct simfile *f)
{
    f->exists = f->on_disk = f->temporary = false;
    f->now.n = f->disk.n = 0;
    f->name[0] = 0;
    ops_clear(f);
}

/* The shared memory is gone with the processes; a connection that outlives its process (warm.c)
 * finds it empty and reads the log, as a new one does. */
static void shm_clear(struct simvfs *v)
{
    for (int i = 0; i < REGIONS_MAX && v->shm[i].p; i++)
        memset(v->shm[i].p, 0, v->shm[i].n);
}

/* ---- crashing ------------------------------------------------------------------------------ */
/* Whether the operation that is about to change the disk still happens. */
static bool alive(struct simvfs *v)
{
    if (v->countdown && --v->countdown == 0)
        v->crashed = true;
    return !v->crashed;
}

void simvfs_crash(struct simvfs *v)
{
    v->crashed = true;
}

void simvfs_crash_after(struct simvfs *v, unsigned n)
{
    v->countdown = n;
}

bool simvfs_crashed(const struct simvfs *v)
{
    return v->crashed;
}

static void lose_power(struct simvfs *v, struct simfile *f)
{
    unsigned kept = rng_below(&v->rng, 3) * 50; /* percent: nothing, half, all but a tear */
    for (size_t i = 0; i < f->ops_n; i++) {
        const struct op *o = &f->ops[i];
        if (!rng_percent(&v->rng, kept))
            continue;
        bool torn = o->len > SECTOR && rng_percent(&v->rng, 5);
        op_apply(f, o, torn ? rng_below(&v->rng, (unsigned)(o->len / SECTOR)) * SECTOR : o->len);
    }
    ops_clear(f);
    if (!f->exists)
        f->exists = f->on_disk && rng_percent(&v->rng, 50);
    else if (!f->on_disk)
        f->exists = rng_percent(&v->rng, 50);
    f->on_disk = f->exists;
    if (!f->exists)
        f->disk.n = 0;
    image_copy(&f->now, &f->disk);
}

void simvfs_restart(struct simvfs *v, bool power_lost)
{
    shm_clear(v);
    for (int i = 0; i < FILES_MAX; i++) {
        struct simfile *f = &v->files[i];
        if (f->name[0] && power_lost)
            lose_power(v, f);
        if (f->name[0] && (f->temporary || (!f->exists && !f->on_disk)))
            file_clear(f);
    }
    v->crashed = false;
    v->countdown = 0;
    v->life++;
}

/* ---- files --------------------------------------------------------------------------------- */
static struct simfile *find(struct simvfs *v, const char *name)
{
    for (int i = 0; i < FILES_MAX; i++)
        if (v->files[i].name[0] && !strcmp(v->files[i].name, name))
            return &v->files[i];
    return NULL;
}

static struct simfile *make(struct simvfs *v, const char *name)
{
    for (int i = 0; i < FILES_MAX; i++) {
        struct simfile *f = &v->files[i];
        if (f->name[0])
            continue;
        if (name)
            snprintf(f->name, sizeof f->name, "%s", name);
        else
            snprintf(f->name, sizeof f->name, "*%d", i);
        f->temporary = !name;
        return f;
    }
    abort();
}

/* The file that a handle is of: after a restart, as if it had been opened again. */
static struct simfile *file_of(struct handle *h)
{
    if (h->life == h->v->life)
        return h->f;
    struct simfile *f = find(h->v, h->name);
    if (!f)
        f = make(h->v, h->name);
    if (!f->exists) {
        f->exists = true;
        f->now.n = 0;
        f->disk.n = 0;
        ops_clear(f);
    }
    h->life = h->v->life;
    return h->f = f;
}

static int f_close(sqlite3_file *file)
{
    struct handle *h = (struct handle *)file;
    if (h->life == h->v->life && h->f->temporary)
        file_clear(h->f);
    return SQLITE_OK;
}

static int f_read(sqlite3_file *file, void *p, int n, sqlite3_int64 off)
{
    struct handle *h = (struct handle *)file;
    if (h->v->crashed)
        return SQLITE_IOERR_READ;
    const struct image *m = &file_of(h)->now;
    size_t have = (size_t)off < m->n ? m->n - (size_t)off : 0;
    if (have > (size_t)n)
        have = (size_t)n;
    if (have)
        memcpy(p, m->p + off, have);
    memset((uint8_t *)p + have, 0, (size_t)n - have);
    return have == (size_t)n ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int f_write(sqlite3_file *file, const void *p, int n, sqlite3_int64 off)
{
    struct handle *h = (struct handle *)file;
    if (!alive(h->v))
        return SQLITE_IOERR_WRITE;
    struct simfile *f = file_of(h);
    image_write(&f->now, (uint64_t)off, p, (size_t)n);
    if (!f->temporary)
        op_add(f, (uint64_t)off, p, (size_t)n);
    return SQLITE_OK;
}

static int f_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    struct handle *h = (struct handle *)file;
    if (!alive(h->v))
        return SQLITE_IOERR_TRUNCATE;
    struct simfile *f = file_of(h);
    image_size(&f->now, (size_t)size);
    if (!f->temporary)
        op_add(f, (uint64_t)size, NULL, 0);
    return SQLITE_OK;
}

static int f_sync(sqlite3_file *file, int flags)
{
    struct handle *h = (struct handle *)file;
    (void)flags;
    if (!alive(h->v))
        return SQLITE_IOERR_FSYNC;
    file_sync(file_of(h));
    return SQLITE_OK;
}

static int f_size(sqlite3_file *file, sqlite3_int64 *size)
{
    struct handle *h = (struct handle *)file;
    if (h->v->crashed)
        return SQLITE_IOERR_FSTAT;
    *size = (sqlite3_int64)file_of(h)->now.n;
    return SQLITE_OK;
}

/* One process, one connection: nobody else ever holds a lock. */
static int f_lock(sqlite3_file *file, int kind)
{
    (void)kind;
    return ((struct handle *)file)->v->crashed ? SQLITE_IOERR_LOCK : SQLITE_OK;
}

static int f_unlock(sqlite3_file *file, int kind)
{
    (void)file;
    (void)kind;
    return SQLITE_OK;
}

static int f_reserved(sqlite3_file *file, int *out)
{
    (void)file;
    *out = 0;
    return SQLITE_OK;
}

static int f_control(sqlite3_file *file, int op, void *arg)
{
    (void)file;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int f_sector(sqlite3_file *file)
{
    (void)file;
    return 4096;
}

static int f_device(sqlite3_file *file)
{
    (void)file;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static int f_shm_map(sqlite3_file *file, int region, int size, int extend, void volatile **out)
{
    struct handle *h = (struct handle *)file;
    *out = NULL;
    if (h->v->crashed || region >= REGIONS_MAX)
        return SQLITE_IOERR_SHMMAP;
    struct region *r = &h->v->shm[region];
    if (!r->p && extend) {
        *r = (struct region){calloc(1, (size_t)size), (size_t)size};
        if (!r->p)
            abort();
    }
    *out = r->p;
    return SQLITE_OK;
}

static int f_shm_lock(sqlite3_file *file, int off, int n, int flags)
{
    (void)file;
    (void)off;
    (void)n;
    (void)flags;
    return SQLITE_OK;
}

static void f_shm_barrier(sqlite3_file *file)
{
    (void)file;
}

static int f_shm_unmap(sqlite3_file *file, int delete)
{
    struct handle *h = (struct handle *)file;
    (void)delete;
    shm_clear(h->v);
    return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = f_close,
    .xRead = f_read,
    .xWrite = f_write,
    .xTruncate = f_truncate,
    .xSync = f_sync,
    .xFileSize = f_size,
    .xLock = f_lock,
    .xUnlock = f_unlock,
    .xCheckReservedLock = f_reserved,
    .xFileControl = f_control,
    .xSectorSize = f_sector,
    .xDeviceCharacteristics = f_device,
    .xShmMap = f_shm_map,
    .xShmLock = f_shm_lock,
    .xShmBarrier = f_shm_barrier,
    .xShmUnmap = f_shm_unmap,
};

/* ---- the file system ----------------------------------------------------------------------- */
static int v_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *out)
{
    struct simvfs *v = (struct simvfs *)vfs;
    struct handle *h = (struct handle *)file;
    struct simfile *f = name ? find(v, name) : NULL;
    h->base.pMethods = NULL;
    if (v->crashed)
        return SQLITE_CANTOPEN;
    if ((!f || !f->exists) && !(flags & SQLITE_OPEN_CREATE))
        return SQLITE_CANTOPEN;
    if (!f)
        f = make(v, name);
    if (!f->exists) {
        f->exists = true;
        f->now.n = 0;
        f->disk.n = 0;
        ops_clear(f);
    }
    *h = (struct handle){.base.pMethods = &methods, .v = v, .f = f, .name = name, .life = v->life};
    if (out)
        *out = flags;
    return SQLITE_OK;
}

static int v_delete(sqlite3_vfs *vfs, const char *name, int sync_dir)
{
    struct simvfs *v = (struct simvfs *)vfs;
    struct simfile *f = find(v, name);
    if (!alive(v))
        return SQLITE_IOERR_DELETE;
    if (!f || !f->exists)
        return SQLITE_IOERR_DELETE_NOENT;
    f->exists = false;
    f->now.n = 0;
    ops_clear(f);
    if (sync_dir || !f->on_disk)
        file_clear(f);
    return SQLITE_OK;
}

static int v_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    struct simvfs *v = (struct simvfs *)vfs;
    struct simfile *f = find(v, name);
    (void)flags;
    *out = f && f->exists && (flags != SQLITE_ACCESS_EXISTS || f->now.n > 0);
    return v->crashed ? SQLITE_IOERR_ACCESS : SQLITE_OK;
}

static int v_path(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
    (void)vfs;
    snprintf(out, (size_t)n, "%s", name);
    return SQLITE_OK;
}

static int v_random(sqlite3_vfs *vfs, int n, char *out)
{
    struct simvfs *v = (struct simvfs *)vfs;
    for (int i = 0; i < n; i++)
        out[i] = (char)rng_below(&v->rng, 256);
    return n;
}

static int v_sleep(sqlite3_vfs *vfs, int us)
{
    (void)vfs;
    return us;
}

static int v_time(sqlite3_vfs *vfs, double *out)
{
    (void)vfs;
    *out = 2460000.5;
    return SQLITE_OK;
}

struct simvfs *simvfs_new(const char *name)
{
    struct simvfs *v = calloc(1, sizeof *v);
    if (!v)
        abort();
    snprintf(v->name, sizeof v->name, "%s", name);
    v->vfs = (sqlite3_vfs){.iVersion = 1,
                           .szOsFile = sizeof(struct handle),
                           .mxPathname = NAME_MAX_LEN - 1,
                           .zName = v->name,
                           .xOpen = v_open,
                           .xDelete = v_delete,
                           .xAccess = v_access,
                           .xFullPathname = v_path,
                           .xRandomness = v_random,
                           .xSleep = v_sleep,
                           .xCurrentTime = v_time};
    if (sqlite3_vfs_register(&v->vfs, 0) != SQLITE_OK)
        abort();
    return v;
}

void simvfs_free(struct simvfs *v)
{
    if (!v)
        return;
    sqlite3_vfs_unregister(&v->vfs);
    for (int i = 0; i < FILES_MAX; i++) {
        free(v->files[i].now.p);
        free(v->files[i].disk.p);
        free(v->files[i].data.p);
        free(v->files[i].ops);
    }
    for (int i = 0; i < REGIONS_MAX; i++)
        free(v->shm[i].p);
    free(v);
}

struct simvfs *simvfs_find(const char *name)
{
    sqlite3_vfs *vfs = name ? sqlite3_vfs_find(name) : NULL;
    return vfs && vfs->xOpen == v_open ? (struct simvfs *)vfs : NULL;
}

bool simvfs_has_wal(struct simvfs *v, const char *path)
{
    const struct simfile *f = find(v, path); /* bytes 18 and 19 of the header, sqlite3.c */
    return f && f->exists && f->now.n > 100 && f->now.p[18] == 2 && f->now.p[19] == 2;
}

void simvfs_remove_log(struct simvfs *v, const char *path)
{
    char log[NAME_MAX_LEN + 8];
    snprintf(log, sizeof log, "%s-wal", path);
    v_delete(&v->vfs, log, 0); /* no sync of the directory, as sqlite3WalClose */
    shm_clear(v);
    v->life++;
}

void simvfs_small_pages(struct simvfs *v, const char *path)
{
    sqlite3 *db = NULL;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, v->name) !=
            SQLITE_OK ||
        sqlite3_exec(db, "PRAGMA page_size = 1024; CREATE TABLE t(x); DROP TABLE t", NULL, NULL,
                     NULL) != SQLITE_OK)
        abort();
    sqlite3_close(db);
}

const char *simvfs_name(const struct simvfs *v)
{
    return v->name;
}

void simvfs_reset(struct simvfs *v, uint64_t seed)
{
    shm_clear(v);
    for (int i = 0; i < FILES_MAX; i++)
        file_clear(&v->files[i]);
    v->rng = rng_of(seed, 1, 0);
    v->crashed = false;
    v->countdown = 0;
    v->life++;
}

void simvfs_copy(struct simvfs *v, const struct simvfs *from)
{
    shm_clear(v);
    v->life++;
    for (int i = 0; i < FILES_MAX; i++) {
        struct simfile *f = &v->files[i];
        const struct simfile *g = &from->files[i];
        file_clear(f);
        if (!g->name[0] || !g->exists || g->temporary)
            continue;
        memcpy(f->name, g->name, sizeof f->name);
        f->exists = f->on_disk = true;
        image_copy(&f->now, &g->now);
        image_copy(&f->disk, &g->now);
    }
}
