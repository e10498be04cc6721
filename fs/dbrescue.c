// SPDX-License-Identifier: Apache-2.0
/* How: the file's pages are copied, then those of the log over them, frame by frame.
 *
 * SQLite itself takes nothing of a log from the first frame on whose checksum is wrong: one flipped
 * bit would cost all later transactions. Each frame's checksum goes on from the one that is stored
 * in the frame before it, so that every frame can be checked by itself, and only the damaged ones
 * are left out. What is then read may mix states; who reads it looks at each row. A file whose
 * first page is damaged gets the pages of a sound file that list the tables: a schema made in one
 * go has its tables at the same pages in every file.
 *
 * https://www.sqlite.org/fileformat2.html
 */
#include "dbrescue.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tree.h"

#define WAL_HEADER 32
#define FRAME_HEADER 24
#define WAL_MAGIC 0x377f0682u /* the last bit: checksums over big-endian words */
#define PAGE_MAX 65536u
#define COPY_BYTES (1u << 20)

static uint32_t be32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return be32toh(v);
}

static void be32_put(uint8_t *p, uint32_t v)
{
    v = htobe32(v);
    memcpy(p, &v, sizeof v);
}

static int full_pwrite(int fd, const uint8_t *p, size_t n, uint64_t off)
{
    while (n) {
        ssize_t w = pwrite(fd, p, n, (off_t)off);
        if (w < 0)
            return -errno;
        p += w;
        n -= (size_t)w;
        off += (uint64_t)w;
    }
    return 0;
}

static int copy_file(int from, int to)
{
    uint8_t *buf = malloc(COPY_BYTES);
    uint64_t off = 0;
    ssize_t n = buf ? 1 : -1;
    int err = buf ? 0 : -ENOMEM;
    while (!err && (n = pread(from, buf, COPY_BYTES, (off_t)off)) > 0) {
        err = full_pwrite(to, buf, (size_t)n, off);
        off += (uint64_t)n;
    }
    free(buf);
    return err ? err : n < 0 ? -errno : 0;
}

/* ---- the log ---- */
struct wal {
    int fd;
    uint32_t page, salt[2], sum[2]; /* sum: what the next frame's goes on from */
    bool big, seeded;
    uint64_t frames;
    uint8_t *frame; /* FRAME_HEADER + page bytes */
};

static void checksum(bool big, uint32_t s[2], const uint8_t *p, size_t n)
{
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint32_t x, y;
        memcpy(&x, p + i, 4);
        memcpy(&y, p + i + 4, 4);
        s[0] += (big ? be32toh(x) : le32toh(x)) + s[1];
        s[1] += (big ? be32toh(y) : le32toh(y)) + s[0];
    }
}

static bool page_size_ok(uint32_t n)
{
    return n >= 512 && n <= PAGE_MAX && (n & (n - 1)) == 0;
}

/* Where the header cannot say it: all frames have the same salts. 0: there is but one frame. */
static uint32_t page_by_salts(int fd, const uint8_t first[FRAME_HEADER])
{
    uint8_t salts[8];
    for (uint32_t page = 512; page <= PAGE_MAX; page *= 2)
        if (pread(fd, salts, sizeof salts, WAL_HEADER + FRAME_HEADER + page + 8) == sizeof salts &&
            memcmp(salts, first + 8, sizeof salts) == 0)
            return page;
    return 0;
}

/* A damaged header costs the first frame's check alone: the salts are in every frame. */
static int wal_begin(struct wal *w)
{
    struct stat st;
    uint8_t h[WAL_HEADER + FRAME_HEADER] = {0};
    if (fstat(w->fd, &st))
        return -errno;
    if (pread(w->fd, h, sizeof h, 0) < (ssize_t)sizeof h)
        return -ENODATA;
    uint32_t sum[2] = {0}, magic = be32_at(h);
    w->big = magic & 1;
    checksum(w->big, sum, h, 24);
    w->seeded = (magic & ~1u) == WAL_MAGIC && page_size_ok(be32_at(h + 8)) &&
                sum[0] == be32_at(h + 24) && sum[1] == be32_at(h + 28);
    const uint8_t *salt = w->seeded ? h + 16 : h + WAL_HEADER + 8;
    w->page = w->seeded ? be32_at(h + 8) : page_by_salts(w->fd, h + WAL_HEADER);
    if (!w->page)
        w->page = (uint32_t)atoi(TREE_PAGE);
    w->big = w->seeded && w->big;
    for (int k = 0; k < 2; k++) {
        w->salt[k] = be32_at(salt + 4 * k);
        w->sum[k] = be32_at(h + 24 + 4 * k);
    }
    w->frames = ((uint64_t)st.st_size - WAL_HEADER) / (FRAME_HEADER + w->page);
    w->frame = malloc(FRAME_HEADER + w->page);
    return w->frame ? 0 : -ENOMEM;
}

/* Reads the next frame. 1: good; 0: damaged, or of an older log (*old). */
static int wal_frame(struct wal *w, uint64_t k, bool *old)
{
    size_t n = FRAME_HEADER + w->page;
    *old = false;
    if (pread(w->fd, w->frame, n, (off_t)(WAL_HEADER + k * n)) != (ssize_t)n)
        return 0;
    const uint8_t *h = w->frame;
    uint32_t sum[2] = {w->sum[0], w->sum[1]};
    checksum(w->big, sum, h, 8);
    checksum(w->big, sum, h + FRAME_HEADER, w->page);
    *old = be32_at(h + 8) != w->salt[0] || be32_at(h + 12) != w->salt[1];
    bool good = !*old && be32_at(h) > 0 && be32_at(h) < UINT32_MAX / 2 &&
                (!w->seeded || (sum[0] == be32_at(h + 16) && sum[1] == be32_at(h + 20)));
    w->sum[0] = be32_at(h + 16);
    w->sum[1] = be32_at(h + 20);
    w->seeded = true;
    return good;
}

static int wal_apply(const char *path, int to, bool *torn)
{
    struct wal w = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (w.fd < 0)
        return errno == ENOENT ? 0 : -errno;
    int err = wal_begin(&w);
    struct wal again = w;
    uint64_t end = 0, bad = 0, pages = 0;
    bool old;
    *torn |= err == -ENODATA ? false : !err && !w.seeded;
    for (uint64_t k = 0; !err && k < w.frames; k++) { /* up to which frame it is committed */
        bool good = wal_frame(&w, k, &old) == 1;
        bad += !good && !old;
        if (good && be32_at(w.frame + 4)) {
            end = k + 1;
            pages = be32_at(w.frame + 4);
            *torn |= bad > 0;
        }
    }
    *torn |= bad > 1; /* one alone may be the torn end of what never was committed */
    for (uint64_t k = 0; !err && k < end; k++)
        if (wal_frame(&again, k, &old) == 1)
            err = full_pwrite(to, again.frame + FRAME_HEADER, again.page,
                              (uint64_t)(be32_at(again.frame) - 1) * again.page);
    if (!err && end && ftruncate(to, (off_t)(pages * w.page)))
        err = -errno;
    free(w.frame);
    close(w.fd);
    return err == -ENODATA ? 0 : err;
}

int wal_look(const char *path, struct wal_state *out)
{
    struct wal w = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
    *out = (struct wal_state){0};
    if (w.fd < 0)
        return -errno;
    int err = wal_begin(&w);
    bool old;
    out->header_sound = !err && w.seeded;
    for (int k = 0; !err && k < 2; k++)
        be32_put(out->salts + 4 * k, w.salt[k]);
    for (uint64_t k = 0; !err && k < w.frames && wal_frame(&w, k, &old) == 1; k++)
        if (be32_at(w.frame + 4))
            out->frames = k + 1;
    free(w.frame);
    close(w.fd);
    return err;
}

/* ---- the first page ---- */
unsigned db_page_size(const char *path)
{
    char name[4400];
    uint8_t h[100];
    unsigned page = 0;
    snprintf(name, sizeof name, "%.4300s-wal", path);
    struct wal w = {.fd = open(name, O_RDONLY | O_CLOEXEC)};
    if (w.fd >= 0 && wal_begin(&w) == 0)
        page = w.page;
    free(w.frame);
    if (w.fd >= 0)
        close(w.fd);
    int fd = page ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && pread(fd, h, sizeof h, 0) == sizeof h && memcmp(h, "SQLite format 3", 16) == 0)
        page = (unsigned)h[16] << 8 | h[17];
    if (fd >= 0)
        close(fd);
    page = page == 1 ? PAGE_MAX : page;
    return page_size_ok(page) ? page : 0;
}

/* Takes the file out of WAL mode and makes its own size true. */
static int header_fix(int fd)
{
    uint8_t h[100];
    struct stat st;
    if (fstat(fd, &st) || pread(fd, h, sizeof h, 0) != (ssize_t)sizeof h)
        return 0; /* too short for one: the sound file's comes */
    uint32_t page = (uint32_t)h[16] << 8 | h[17];
    page = page == 1 ? PAGE_MAX : page;
    if (!page_size_ok(page))
        return 0;
    h[18] = h[19] = 1;
    be32_put(h + 28, (uint32_t)(((uint64_t)st.st_size + page - 1) / page));
    memcpy(h + 92, h + 24, 4);
    return full_pwrite(fd, h, sizeof h, 0);
}

/* The tables and where they are, as text; NULL: cannot be read. */
static char *tables_of(const char *path)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    char *text = NULL;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(db,
                           "SELECT group_concat(name || ' ' || rootpage) FROM"
                           " (SELECT name, rootpage FROM sqlite_master ORDER BY name)",
                           -1, &st, NULL) == SQLITE_OK &&
        sqlite3_step(st) == SQLITE_ROW && sqlite3_column_text(st, 0))
        text = strdup((const char *)sqlite3_column_text(st, 0));
    sqlite3_finalize(st);
    sqlite3_close(db);
    return text;
}

static int page_graft(int from, int to, uint32_t page, uint32_t no)
{
    uint8_t *p = malloc(page);
    int err = !p                                                              ? -ENOMEM
              : pread(from, p, page, (off_t)(no - 1) * page) != (ssize_t)page ? -EIO
                                                                              : 0;
    if (!err)
        err = full_pwrite(to, p, page, (uint64_t)(no - 1) * page);
    free(p);
    return err;
}

/* The sound file's first page, and those below it in the list of tables. */
static int tables_graft(int sound, int to)
{
    uint8_t h[PAGE_MAX];
    if (pread(sound, h, sizeof h, 0) < 512)
        return -EIO;
    uint32_t page = (uint32_t)h[16] << 8 | h[17];
    page = page == 1 ? PAGE_MAX : page;
    int err = page_size_ok(page) ? page_graft(sound, to, page, 1) : -EIO;
    if (!err && h[100] == 5) { /* an interior page: cells of a child's number and a key */
        unsigned cells = (unsigned)h[103] << 8 | h[104];
        err = page_graft(sound, to, page, be32_at(h + 108));
        for (unsigned i = 0; !err && i < cells && 114 + 2 * i <= page; i++) {
            unsigned at = (unsigned)h[112 + 2 * i] << 8 | h[113 + 2 * i];
            err = at + 4 <= page ? page_graft(sound, to, page, be32_at(h + at)) : -EIO;
        }
    }
    static const uint8_t none[8] = {0}; /* no free pages: none is believed to be free */
    if (!err)
        err = full_pwrite(to, none, sizeof none, 32);
    return err ? err : header_fix(to);
}

int db_rescue(const char *from, const char *to, const char *sound, bool *torn)
{
    char wal[4400];
    *torn = false;
    int out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0)
        return -errno;
    int in = open(from, O_RDONLY | O_CLOEXEC), good = -1;
    int err = in >= 0 ? copy_file(in, out) : errno == ENOENT ? 0 : -errno;
    snprintf(wal, sizeof wal, "%s-wal", from);
    if (!err)
        err = wal_apply(wal, out, torn);
    if (!err)
        err = header_fix(out);
    if (!err) {
        char *have = tables_of(to), *want = tables_of(sound);
        if (!want)
            err = -EIO;
        else if (!have || strcmp(have, want) != 0) {
            good = open(sound, O_RDONLY | O_CLOEXEC);
            err = good < 0 ? -errno : tables_graft(good, out);
            *torn = true;
        }
        free(have);
        free(want);
    }
    if (in >= 0)
        close(in);
    if (good >= 0)
        close(good);
    close(out);
    return err;
}
