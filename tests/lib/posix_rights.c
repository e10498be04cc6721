// SPDX-License-Identifier: Apache-2.0
/* Checks of set-id bits, access lists, files without a name, and file handles. See posixcheck.h. */
#include "posixcheck.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ACCESS "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

/* ---- set-id bits ----------------------------------------------------------------------------- */

/* Asks for nothing but the mode, so that what else is stale does not refresh it. */
static mode_t bits_of(const char *path)
{
    struct statx st;
    return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_MODE, &st) ? 0 : st.stx_mode & 07777;
}

static int again(const char *path)
{
    return chmod(path, 06777);
}

static int changes_of_nobody(void)
{
    char block[4096] = "";
    int fd = open("f", O_RDWR);
    MUST(fd >= 0 && pwrite(fd, "x", 1, 0) == 1);
    MUST(bits_of("f") == 0777);
    MUST(!again("f") && !ftruncate(fd, 10000) && bits_of("f") == 0777);
    MUST(!again("f") && !truncate("f", 9000) && bits_of("f") == 0777);
    MUST(!again("f") && !fallocate(fd, 0, 0, 20000) && bits_of("f") == 0777);
    MUST(!again("f") && !fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    MUST(bits_of("f") == 0777);
    int from = open("from", O_RDWR | O_CREAT, 0644);
    MUST(from >= 0 && write(from, block, sizeof block) == sizeof block);
    MUST(!again("f") && copy_file_range(from, (off64_t[]){0}, fd, (off64_t[]){0}, 4096, 0) == 4096);
    MUST(bits_of("f") == 0777 && !close(from));
    MUST(!again("f") && !close(open("f", O_WRONLY | O_TRUNC)) && bits_of("f") == 0777);
    int direct = open("f", O_WRONLY | O_DIRECT);
    if (direct >= 0) {
        void *aligned;
        MUST(!posix_memalign(&aligned, 4096, 4096) && !again("f"));
        memset(aligned, 0, 4096);
        MUST(pwrite(direct, aligned, 4096, 0) == 4096 && bits_of("f") == 0777 && !close(direct));
        free(aligned);
    }
    /* without the group's right to execute, set-gid is no such bit to those in the group */
    MUST(!chmod("f", 02767) && pwrite(fd, "x", 1, 0) == 1 && bits_of("f") == 02767);
    MUST(!fallocate(fd, 0, 0, 40000) && bits_of("f") == 02767);
    int other = open("g", O_RDWR);
    MUST(other >= 0 && !fallocate(other, 0, 0, 40000) && bits_of("g") == 0766);
    MUST(!close(other));
    MUST(!chmod("f", 06777) && !chown("f", (uid_t)-1, getgid()) && bits_of("f") == 0777);
    return close(fd);
}

static int set_ids(void)
{
    if (!is_root())
        return 0; /* the bits of one's own files go, too, but the checks run as another user anyway
                   */
    MUST(!put_file("f", "text") && !chown("f", 65534, 65534) && !chown(".", 65534, 65534));
    MUST(!put_file("g", "text") && !chown("g", 65534, 5) && !chmod("g", 02766));
    MUST(!again("f") && !as_nobody(changes_of_nobody));
    int fd = open("f", O_RDWR); /* root may keep them */
    MUST(fd >= 0 && !again("f") && write(fd, "x", 1) == 1 && bits_of("f") == 06777);
    return close(fd);
}

/* ---- access lists ---------------------------------------------------------------------------- */

struct entry {
    unsigned tag, perm, id;
};
enum { OWNER = 1, USER = 2, OWNING_GROUP = 4, GROUP = 8, MASK = 16, OTHERS = 32 };

static size_t encode(const struct entry *e, size_t n, unsigned char *out)
{
    memcpy(out, "\2\0\0\0", 4);
    for (size_t i = 0; i < n; i++) {
        unsigned char *p = out + 4 + i * 8;
        p[0] = (unsigned char)e[i].tag;
        p[2] = (unsigned char)e[i].perm;
        p[1] = p[3] = 0;
        for (unsigned k = 0; k < 4; k++)
            p[4 + k] = (unsigned char)(e[i].id >> (8 * k));
    }
    return 4 + n * 8;
}

static int set_list(const char *path, const char *name, const struct entry *e, size_t n)
{
    unsigned char list[4 + 8 * 16];
    return setxattr(path, name, list, encode(e, n, list), 0);
}

/* Permissions of the entry with this tag and id; -1: no list, -2: no such entry. */
static int perm_of(const char *path, const char *name, unsigned tag, unsigned id)
{
    unsigned char list[4 + 8 * 16];
    ssize_t n = getxattr(path, name, list, sizeof list);
    for (ssize_t at = 4; at + 8 <= n; at += 8) {
        unsigned of = list[at + 4] | (unsigned)list[at + 5] << 8 | (unsigned)list[at + 6] << 16;
        if (list[at] == tag && (of == id || (tag != USER && tag != GROUP)))
            return list[at + 2];
    }
    return n < 0 ? -1 : -2;
}

static const unsigned nobody = 65534;
#define LIST(...)                                                                                  \
    (const struct entry[]){__VA_ARGS__},                                                           \
        sizeof((struct entry[]){__VA_ARGS__}) / sizeof(struct entry)

static int nobody_may_read(void)
{
    MUST(!close(open("f", O_RDONLY)));
    FAILS(open("f", O_WRONLY), EACCES);
    return 0;
}

static int nobody_may_not(void)
{
    FAILS(open("f", O_RDONLY), EACCES);
    return 0;
}

static int access_lists(void)
{
    MUST(!put_file("f", "text") && !chmod("f", 0600));
    if (set_list("f", ACCESS,
                 LIST({OWNER, 6, 0}, {USER, 4, nobody}, {OWNING_GROUP, 0, 0}, {MASK, 4, 0},
                      {OTHERS, 0, 0}))) {
        int why = errno;         /* MUST begins with none */
        MUST(why == EOPNOTSUPP); /* a mount whose permissions are not the kernel's */
        return 0;
    }
    MUST(bits_of("f") == 0640 && perm_of("f", ACCESS, USER, nobody) == 4);
    MUST(!is_root() || !as_nobody(nobody_may_read));
    MUST(!chmod("f", 0616) && perm_of("f", ACCESS, MASK, 0) == 1);
    MUST(perm_of("f", ACCESS, USER, nobody) == 4 && perm_of("f", ACCESS, OTHERS, 0) == 6);
    MUST(!is_root() || !as_nobody(nobody_may_not)); /* the mask holds for those who are named */
    /* no more than a mode: no list is kept */
    MUST(!set_list("f", ACCESS, LIST({OWNER, 7, 0}, {OWNING_GROUP, 5, 0}, {OTHERS, 1, 0})));
    MUST(bits_of("f") == 0751 && perm_of("f", ACCESS, OWNER, 0) == -1);
    MUST(!set_list("f", ACCESS, LIST({OWNER, 6, 0}, {OWNING_GROUP, 4, 0}, {OTHERS, 0, 0})));
    MUST(bits_of("f") == 0640 && perm_of("f", ACCESS, OWNER, 0) == -1);
    MUST(!removexattr("f", ACCESS)); /* none to remove is fine */
    FAILS(set_list("f", ACCESS, LIST({OWNER, 7, 0}, {OTHERS, 1, 0})), EINVAL);
    FAILS(set_list("f", DEFAULT, LIST({OWNER, 7, 0}, {OWNING_GROUP, 5, 0}, {OTHERS, 1, 0})),
          EACCES);
    return 0;
}

static int inherited_lists(void)
{
    MUST(!mkdir("d", 0755));
    if (set_list("d", DEFAULT,
                 LIST({OWNER, 7, 0}, {USER, 6, nobody}, {OWNING_GROUP, 5, 0}, {MASK, 7, 0},
                      {OTHERS, 4, 0}))) {
        int why = errno; /* MUST begins with none */
        MUST(why == EOPNOTSUPP);
        return 0;
    }
    mode_t old = umask(077); /* does not count where a default list does */
    int made = put_file("d/f", "x") || mkdir("d/sub", 0777) || mkfifo("d/fifo", 0620);
    umask(old);
    MUST(!made && bits_of("d/f") == 0644 && bits_of("d/sub") == 0774 && bits_of("d/fifo") == 0620);
    MUST(perm_of("d/f", ACCESS, USER, nobody) == 6 && perm_of("d/f", ACCESS, MASK, 0) == 4);
    MUST(perm_of("d/f", ACCESS, OWNING_GROUP, 0) == 5 && perm_of("d/f", DEFAULT, OWNER, 0) == -1);
    MUST(perm_of("d/sub", DEFAULT, USER, nobody) == 6 && perm_of("d/sub", ACCESS, MASK, 0) == 7);
    MUST(!symlink("f", "d/link") && perm_of("d/fifo", ACCESS, USER, nobody) == 6);
    MUST(!removexattr("d", DEFAULT) && !put_file("d/plain", "x") && bits_of("d/plain") == 0644);
    MUST(perm_of("d/plain", ACCESS, USER, nobody) == -1);
    return 0;
}

/* ---- files without a name ---------------------------------------------------------------------
 */

static int nameless_files(void)
{
    char path[64];
    int fd = open(".", O_TMPFILE | O_RDWR, 0640);
    struct stat st;
    MUST(fd >= 0 && write(fd, "text", 4) == 4 && !fsync(fd) && !fstat(fd, &st));
    MUST(st.st_nlink == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0640);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    MUST(!linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW) && !fstat(fd, &st));
    MUST(st.st_nlink == 1 && !close(fd) && has_text("named", "text"));
    MUST(bits_of("named") == 0640);
    fd = open(".", O_TMPFILE | O_WRONLY | O_EXCL, 0600);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    MUST(fd >= 0);
    FAILS(linkat(AT_FDCWD, path, AT_FDCWD, "never", AT_SYMLINK_FOLLOW), ENOENT);
    return close(fd);
}

/* ---- file handles ------------------------------------------------------------------------------
 */

struct place {
    struct file_handle h;
    unsigned char room[MAX_HANDLE_SZ];
};

static int handle_of(const char *path, struct place *p)
{
    int mount;
    p->h.handle_bytes = MAX_HANDLE_SZ;
    return name_to_handle_at(AT_FDCWD, path, &p->h, &mount, 0);
}

static int file_handles(void)
{
    struct place file, dir;
    MUST(!put_file("f", "text") && !mkdir("d", 0755) && !put_file("d/g", ""));
    MUST(!handle_of("f", &file) && !handle_of("d", &dir));
    if (!is_root())
        return 0; /* only root may open one */
    int here = open(".", O_RDONLY | O_DIRECTORY);
    MUST(here >= 0 && !rename("f", "d/f"));
    int fd = open_by_handle_at(here, &file.h, O_RDONLY);
    MUST(fd >= 0 && has_bytes(fd, 0, "text", 4) && !close(fd));
    fd = open_by_handle_at(here, &dir.h, O_RDONLY | O_DIRECTORY);
    MUST(fd >= 0 && !faccessat(fd, "f", F_OK, 0) && !close(fd));
    MUST(!unlink("d/f"));
    FAILS(open_by_handle_at(here, &file.h, O_RDONLY), ESTALE);
    return close(here);
}

/* ---- errnos ------------------------------------------------------------------------------------
 */

static int errnos(void)
{
    struct statfs st;
    MUST(!put_file("f", "text") && !statfs(".", &st));
    int fd = open("f", O_RDWR);
    off_t more = (off_t)(st.f_bavail + 1024 * 1024) * (off_t)st.f_bsize;
    MUST(fd >= 0);
    if (st.f_type == 0x65735546) /* others may take all that there is before they say so */
        FAILS(fallocate(fd, 0, 0, more), ENOSPC);
    FAILS(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 1),
          st.f_type == 0x65735546 ? EOPNOTSUPP : EINVAL);
    FAILS(setxattr("f", "strange.name", "x", 1, 0), EOPNOTSUPP);
    FAILS(setxattr("f", "system.strange", "x", 1, 0), EOPNOTSUPP);
    FAILS(getxattr("f", "strange.name", NULL, 0), EOPNOTSUPP);
    struct timespec t[2] = {{5, 0}, {0, UTIME_OMIT}}, before = stat_of("f").st_ctim, after;
    do
        MUST(!futimens(fd, t));
    while (after = stat_of("f").st_ctim,
           after.tv_sec == before.tv_sec && after.tv_nsec == before.tv_nsec);
    return close(fd);
}

const struct check checks_rights[] = {
    {"set-id-bits", set_ids},
    {"access-lists", access_lists},
    {"inherited-lists", inherited_lists},
    {"nameless-files", nameless_files},
    {"file-handles", file_handles},
    {"errnos", errnos},
    {NULL, NULL},
};
