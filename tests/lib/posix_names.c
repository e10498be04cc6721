// SPDX-License-Identifier: Apache-2.0
/* Checks of names: creating, removing, links, rename, directories. See posixcheck.h. */
#include "posixcheck.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

static int create_and_open(void)
{
    int fd = open("f", O_CREAT | O_EXCL | O_RDWR, 0640);
    MUST(fd >= 0);
    struct stat st;
    MUST(!fstat(fd, &st) && S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0640);
    MUST(st.st_nlink == 1 && st.st_size == 0 && st.st_uid == geteuid());
    MUST(!close(fd));
    FAILS(open("f", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
    FAILS(open("missing", O_RDONLY), ENOENT);
    FAILS(open("missing/f", O_CREAT | O_RDWR, 0644), ENOENT);
    FAILS(open("f/x", O_RDONLY), ENOTDIR);
    FAILS(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
    FAILS(open(".", O_WRONLY), EISDIR);
    MUST(!symlink("nowhere", "dangling"));
    FAILS(open("dangling", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
    FAILS(open("dangling", O_RDONLY | O_NOFOLLOW), ELOOP);
    return 0;
}

static int long_names(void)
{
    char name[258];
    memset(name, 'n', sizeof name);
    name[255] = 0;
    MUST(!put_file(name, "x") && has_text(name, "x"));
    MUST(!unlink(name) && !mkdir(name, 0755) && !rmdir(name));
    name[255] = 'n';
    name[256] = 0;
    FAILS(open(name, O_CREAT | O_RDWR, 0644), ENAMETOOLONG);
    FAILS(mkdir(name, 0755), ENAMETOOLONG);
    FAILS(symlink("x", name), ENAMETOOLONG);
    MUST(!put_file("f", ""));
    FAILS(link("f", name), ENAMETOOLONG);
    FAILS(rename("f", name), ENAMETOOLONG);
    FAILS(access(name, F_OK), ENAMETOOLONG);
    /* any bytes but / and NUL */
    MUST(!put_file("\xff\xfe \n\"'*?\\", "odd") && has_text("\xff\xfe \n\"'*?\\", "odd"));
    return 0;
}

static int directories(void)
{
    MUST(!mkdir("d", 0750));
    MUST(S_ISDIR(stat_of("d").st_mode) && (stat_of("d").st_mode & 07777) == 0750);
    nlink_t before = stat_of("d").st_nlink;
    FAILS(mkdir("d", 0755), EEXIST);
    FAILS(mkdir("missing/d", 0755), ENOENT);
    MUST(!mkdir("d/sub", 0755) && !put_file("d/f", "x"));
    MUST(stat_of("d").st_nlink == before + 1);
    FAILS(rmdir("d"), ENOTEMPTY);
    FAILS(rmdir("d/f"), ENOTDIR);
    FAILS(rmdir("d/."), EINVAL);
    FAILS(unlink("d/sub"), EISDIR);
    FAILS(unlink("d/missing"), ENOENT);
    FAILS(rmdir("d/missing"), ENOENT);
    MUST(!unlink("d/f") && !rmdir("d/sub") && stat_of("d").st_nlink == before);
    int fd = open("d", O_RDONLY | O_DIRECTORY);
    MUST(fd >= 0);
    char c;
    FAILS(read(fd, &c, 1), EISDIR);
    MUST(!rmdir("d"));
    FAILS(openat(fd, "f", O_CREAT | O_RDWR, 0644), ENOENT);
    MUST(!close(fd));
    FAILS(access("d", F_OK), ENOENT);
    return 0;
}

static int special_files(void)
{
    MUST(!mkfifo("fifo", 0600) && S_ISFIFO(stat_of("fifo").st_mode));
    FAILS(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
    int r = open("fifo", O_RDONLY | O_NONBLOCK), w = open("fifo", O_WRONLY | O_NONBLOCK);
    char c = 0;
    MUST(r >= 0 && w >= 0 && write(w, "p", 1) == 1 && read(r, &c, 1) == 1 && c == 'p');
    MUST(!close(r) && !close(w));
    int s = socket(AF_UNIX, SOCK_STREAM, 0), peer = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = "sock"};
    MUST(s >= 0 && !bind(s, (struct sockaddr *)&addr, sizeof addr) && !listen(s, 1));
    MUST(S_ISSOCK(stat_of("sock").st_mode));
    MUST(!connect(peer, (struct sockaddr *)&addr, sizeof addr));
    MUST(!close(s) && !close(peer) && !unlink("sock"));
    if (is_root()) {
        MUST(!mknod("chr", S_IFCHR | 0600, makedev(1, 3)));
        MUST(S_ISCHR(stat_of("chr").st_mode) && stat_of("chr").st_rdev == makedev(1, 3));
        MUST(!mknod("blk", S_IFBLK | 0600, makedev(7, 99)));
        MUST(S_ISBLK(stat_of("blk").st_mode) && stat_of("blk").st_rdev == makedev(7, 99));
    }
    MUST(!mknod("reg", S_IFREG | 0600, 0) && S_ISREG(stat_of("reg").st_mode));
    return 0;
}

static int symbolic_links(void)
{
    char target[4096], got[4097];
    MUST(!symlink("f", "l") && S_ISLNK(stat_of("l").st_mode));
    MUST(stat_of("l").st_size == 1 && readlink("l", got, sizeof got) == 1 && got[0] == 'f');
    FAILS(open("l", O_RDONLY), ENOENT);
    MUST(!put_file("f", "via link") && has_text("l", "via link"));
    FAILS(symlink("x", "l"), EEXIST);
    FAILS(readlink("f", got, sizeof got), EINVAL);
    memset(target, 't', sizeof target);
    target[4095] = 0;
    MUST(!symlink(target, "long"));
    MUST(readlink("long", got, sizeof got) == 4095 && !memcmp(got, target, 4095));
    MUST(!symlink("loop2", "loop1") && !symlink("loop1", "loop2"));
    FAILS(access("loop1", F_OK), ELOOP);
    MUST(!rename("l", "l2") && has_text("l2", "via link") && !unlink("l2") &&
         has_text("f", "via link"));
    MUST(!mkdir("d", 0755) && !symlink("../f", "d/up") && has_text("d/up", "via link"));
    return 0;
}

static int hard_links(void)
{
    MUST(!put_file("a", "one") && !link("a", "b"));
    MUST(stat_of("a").st_ino == stat_of("b").st_ino && stat_of("a").st_nlink == 2);
    FAILS(link("a", "b"), EEXIST);
    FAILS(link("missing", "c"), ENOENT);
    MUST(!mkdir("d", 0755));
    FAILS(link("d", "d2"), EPERM);
    MUST(!link("a", "d/c") && stat_of("b").st_nlink == 3);
    int fd = open("b", O_WRONLY | O_APPEND);
    MUST(fd >= 0 && write(fd, "+two", 4) == 4 && !close(fd));
    MUST(has_text("a", "one+two") && has_text("d/c", "one+two"));
    MUST(!unlink("a") && has_text("b", "one+two") && stat_of("b").st_nlink == 2);
    MUST(!chmod("b", 0600) && (stat_of("d/c").st_mode & 07777) == 0600);
    /* two names of one file: rename does nothing, and both stay */
    MUST(!rename("b", "d/c") && stat_of("b").st_ino == stat_of("d/c").st_ino);
    MUST(!symlink("b", "l") && !linkat(AT_FDCWD, "l", AT_FDCWD, "l2", 0));
    MUST(S_ISLNK(stat_of("l2").st_mode) && stat_of("l").st_nlink == 2);
    MUST(!linkat(AT_FDCWD, "l", AT_FDCWD, "b2", AT_SYMLINK_FOLLOW));
    MUST(stat_of("b2").st_ino == stat_of("b").st_ino);
    return 0;
}

static int rename_files(void)
{
    MUST(!put_file("a", "a") && !put_file("b", "b"));
    ino_t ino = stat_of("a").st_ino;
    int old = open("b", O_RDONLY);
    MUST(old >= 0 && !rename("a", "b"));
    MUST(stat_of("b").st_ino == ino && has_text("b", "a") && has_bytes(old, 0, "b", 1));
    struct stat st;
    MUST(!fstat(old, &st) && st.st_nlink == 0 && !close(old));
    FAILS(access("a", F_OK), ENOENT);
    FAILS(rename("missing", "x"), ENOENT);
    FAILS(rename("b", "missing/x"), ENOENT);
    MUST(!mkdir("d", 0755));
    FAILS(rename("b", "d"), EISDIR);
    FAILS(rename("d", "b"), ENOTDIR);
    MUST(!rename("b", "b") && !rename("b", "d/b") && has_text("d/b", "a"));
    int fd = open("d/b", O_RDWR);
    MUST(fd >= 0 && !rename("d", "e") && pwrite(fd, "z", 1, 0) == 1 && !close(fd));
    MUST(has_text("e/b", "z"));
    return 0;
}

static int rename_directories(void)
{
    MUST(!mkdir("a", 0755) && !mkdir("b", 0755) && !put_file("a/f", "x") && !put_file("b/g", "y"));
    FAILS(rename("a", "b"), ENOTEMPTY);
    FAILS(rename("a", "a/sub"), EINVAL);
    MUST(!unlink("b/g") && !rename("a", "b") && has_text("b/f", "x"));
    MUST(!mkdir("p", 0755) && !mkdir("q", 0755) && !mkdir("p/child", 0755));
    nlink_t p = stat_of("p").st_nlink, q = stat_of("q").st_nlink;
    MUST(!rename("p/child", "q/child"));
    MUST(stat_of("p").st_nlink == p - 1 && stat_of("q").st_nlink == q + 1);
    MUST(stat_of("q/child/..").st_ino == stat_of("q").st_ino);
    MUST(!mkdir("q/child/deep", 0755));
    FAILS(rename("q", "q/child/deep/q"), EINVAL);
    FAILS(rename("q/child", "q"), ENOTEMPTY);
    return 0;
}

static int rename_flags(void)
{
    MUST(!put_file("a", "a") && !put_file("b", "b") && !mkdir("d", 0755) && !put_file("d/f", "x"));
    FAILS(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST);
    MUST(!renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE) && has_text("c", "a"));
    MUST(!renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE));
    MUST(has_text("b", "a") && has_text("c", "b"));
    MUST(!renameat2(AT_FDCWD, "b", AT_FDCWD, "d", RENAME_EXCHANGE));
    MUST(has_text("d", "a") && has_text("b/f", "x"));
    FAILS(renameat2(AT_FDCWD, "b", AT_FDCWD, "missing", RENAME_EXCHANGE), ENOENT);
    FAILS(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    /* a name that goes and leaves an overlayfs' sign that it did */
    MUST(!renameat2(AT_FDCWD, "c", AT_FDCWD, "e", RENAME_WHITEOUT) && has_text("e", "b"));
    MUST(S_ISCHR(stat_of("c").st_mode) && stat_of("c").st_rdev == 0);
    MUST(!put_file("g", "over") && !renameat2(AT_FDCWD, "e", AT_FDCWD, "g", RENAME_WHITEOUT));
    MUST(has_text("g", "b") && S_ISCHR(stat_of("e").st_mode));
    FAILS(renameat2(AT_FDCWD, "b", AT_FDCWD, "g", RENAME_EXCHANGE | RENAME_WHITEOUT), EINVAL);
    return 0;
}

static int unlinked_but_open(void)
{
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    struct stat st;
    MUST(fd >= 0 && write(fd, "before", 6) == 6 && !unlink("f"));
    MUST(!fstat(fd, &st) && st.st_nlink == 0 && st.st_size == 6);
    MUST(pwrite(fd, "after!!", 7, 0) == 7 && has_bytes(fd, 0, "after!!", 7));
    MUST(!ftruncate(fd, 3) && !fsync(fd) && !fchmod(fd, 0600) && !fstat(fd, &st));
    MUST(st.st_size == 3 && (st.st_mode & 07777) == 0600);
    MUST(!put_file("f", "another") && has_bytes(fd, 0, "aft", 3) && !close(fd));
    MUST(has_text("f", "another"));
    return 0;
}

static int count_entries(DIR *d, const char *prefix, bool check)
{
    struct dirent *e;
    int n = 0;
    while ((e = readdir(d))) {
        if (strncmp(e->d_name, prefix, strlen(prefix)))
            continue;
        n++;
        if (check) {
            struct stat st;
            MUST(!fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW));
            MUST(st.st_ino == e->d_ino);
            MUST(e->d_type == DT_REG || e->d_type == DT_UNKNOWN);
        }
    }
    return n;
}

static int list_a_directory(void)
{
    enum { N = 3000 };
    char name[64];
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "entry-%04d", i);
        MUST(!put_file(name, ""));
    }
    DIR *d = opendir(".");
    MUST(d);
    MUST(count_entries(d, "", false) == N + 2);
    rewinddir(d);
    MUST(count_entries(d, "entry-", true) == N);
    /* a position told is a position found again */
    rewinddir(d);
    for (int i = 0; i < N / 2; i++)
        MUST(readdir(d));
    long at = telldir(d);
    struct dirent *e = readdir(d);
    MUST(e);
    snprintf(name, sizeof name, "%.60s", e->d_name);
    MUST(count_entries(d, "", false) == N / 2 + 1);
    seekdir(d, at);
    e = readdir(d);
    MUST(e && !strcmp(e->d_name, name));
    /* removing what was listed, while listing, skips nothing (rm -r) */
    rewinddir(d);
    int removed = 0;
    while ((e = readdir(d)))
        if (e->d_name[0] == 'e') {
            MUST(!unlink(e->d_name));
            removed++;
        }
    MUST(removed == N);
    MUST(!put_file("new", ""));
    rewinddir(d);
    MUST(count_entries(d, "", false) == 3 && !closedir(d));
    return 0;
}

/* Entries that exist for the whole listing appear exactly once, whatever others come and go. */
static int list_while_it_changes(void)
{
    enum { N = 1000 };
    char name[64];
    bool seen[N] = {false};
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "stay-%04d", i);
        MUST(!put_file(name, ""));
    }
    DIR *d = opendir(".");
    MUST(d);
    struct dirent *e;
    for (int i = 0; (e = readdir(d)); i++) {
        snprintf(name, sizeof name, "come-%04d", i);
        if (i < 2000)
            MUST(!put_file(name, ""));
        if (i % 2)
            MUST(!unlink(name) || i >= 2000);
        if (!strncmp(e->d_name, "stay-", 5)) {
            int k = atoi(e->d_name + 5);
            MUST(!seen[k]);
            seen[k] = true;
        }
    }
    MUST(!closedir(d));
    for (int i = 0; i < N; i++)
        MUST(seen[i]);
    return 0;
}

/* Who renames what he lists comes to an end, and has met each name that was there. */
static int rename_while_listing(void)
{
    enum { N = 1500 };
    char name[300], to[320];
    int met = 0, left = 0;
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "r-%04d", i);
        MUST(!put_file(name, ""));
    }
    DIR *d = opendir(".");
    MUST(d);
    for (struct dirent *e; (e = readdir(d)) && met < 4 * N;) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(to, sizeof to, "%sx", e->d_name);
        MUST(!rename(e->d_name, to));
        met++;
    }
    MUST(met >= N && met < 4 * N);
    rewinddir(d);
    while (readdir(d))
        left++;
    MUST(left == N + 2);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "r-%04d", i);
        MUST(access(name, F_OK) == -1);
    }
    return closedir(d);
}

static int deep_paths(void)
{
    enum { DEPTH = 60 };
    int at = open(".", O_RDONLY | O_DIRECTORY);
    MUST(at >= 0);
    for (int i = 0; i < DEPTH; i++) {
        MUST(!mkdirat(at, "directory", 0755));
        int next = openat(at, "directory", O_RDONLY | O_DIRECTORY);
        MUST(next >= 0 && !close(at));
        at = next;
    }
    int fd = openat(at, "leaf", O_CREAT | O_RDWR, 0644);
    MUST(fd >= 0 && write(fd, "x", 1) == 1 && !close(fd) && !close(at));
    MUST(!rename("directory", "top"));
    char path[1024];
    size_t n = (size_t)snprintf(path, sizeof path, "top");
    for (int i = 1; i < DEPTH; i++)
        n += (size_t)snprintf(path + n, sizeof path - n, "/directory");
    snprintf(path + n, sizeof path - n, "/leaf");
    MUST(has_text(path, "x"));
    return 0;
}

const struct check checks_names[] = {
    {"create-and-open", create_and_open},
    {"long-names", long_names},
    {"directories", directories},
    {"special-files", special_files},
    {"symbolic-links", symbolic_links},
    {"hard-links", hard_links},
    {"rename-files", rename_files},
    {"rename-directories", rename_directories},
    {"rename-flags", rename_flags},
    {"unlinked-but-open", unlinked_but_open},
    {"list-a-directory", list_a_directory},
    {"list-while-it-changes", list_while_it_changes},
    {"rename-while-listing", rename_while_listing},
    {"deep-paths", deep_paths},
    {NULL, NULL},
};
