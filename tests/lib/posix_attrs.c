// SPDX-License-Identifier: Apache-2.0
/* Checks of attributes, permissions, times, extended attributes and locks. See posixcheck.h. */
#include "posixcheck.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool later(struct timespec a, struct timespec b)
{
    return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static int modes(void)
{
    MUST(!put_file("f", "x") && !mkdir("d", 0755) && !symlink("f", "l"));
    MUST(!chmod("f", 04751) && (stat_of("f").st_mode & 07777) == 04751);
    MUST(!chmod("d", 01777) && (stat_of("d").st_mode & 07777) == 01777);
    MUST(!chmod("l", 0600) && (stat_of("f").st_mode & 07777) == 0600);
    struct timespec before = stat_of("f").st_ctim, mtime = stat_of("f").st_mtim;
    do
        MUST(!chmod("f", 0640));
    while (!later(stat_of("f").st_ctim, before));
    MUST(same_time(stat_of("f").st_mtim, mtime));
    FAILS(chmod("missing", 0600), ENOENT);
    mode_t old = umask(077);
    MUST(!put_file("masked", "") && (stat_of("masked").st_mode & 07777) == 0600);
    MUST(!mkdir("maskedd", 0777) && (stat_of("maskedd").st_mode & 07777) == 0700);
    umask(old);
    return 0;
}

static int owners(void)
{
    MUST(!put_file("f", "x") && !symlink("f", "l"));
    MUST(!chown("f", (uid_t)-1, (gid_t)-1));
    if (!is_root()) { /* nobody gives a file away */
        FAILS(chown("f", 0, (gid_t)-1), EPERM);
        FAILS(chown("f", (uid_t)-1, 0), EPERM);
        return 0;
    }
    MUST(!chown("f", 12, 34) && stat_of("f").st_uid == 12 && stat_of("f").st_gid == 34);
    MUST(!lchown("l", 56, 78) && stat_of("l").st_uid == 56 && stat_of("f").st_uid == 12);
    MUST(!chown("f", (uid_t)-1, 4000000000u) && stat_of("f").st_gid == 4000000000u);
    MUST(stat_of("f").st_uid == 12);
    MUST(!mkdir("d", 0755) && !chown("d", 0, 34) && !chmod("d", 02775));
    MUST(!put_file("d/f", "") && stat_of("d/f").st_gid == 34);
    MUST(!mkdir("d/sub", 0755) && stat_of("d/sub").st_gid == 34);
    MUST(stat_of("d/sub").st_mode & S_ISGID);
    return 0;
}

static int times(void)
{
    struct timespec t[2] = {{1234567890, 123456789}, {4102444800, 987654321}}; /* 2009, 2100 */
    MUST(!put_file("f", "x") && !utimensat(AT_FDCWD, "f", t, 0));
    MUST(same_time(stat_of("f").st_mtim, t[1]) && same_time(stat_of("f").st_atim, t[0]));
    struct timespec past[2] = {{0, UTIME_OMIT}, {-300000000, 5}}; /* 1960 */
    MUST(!utimensat(AT_FDCWD, "f", past, 0) && same_time(stat_of("f").st_mtim, past[1]));
    MUST(same_time(stat_of("f").st_atim, t[0]));
    struct timespec far[2] = {{1099511627776, 5}, {-1099511627776, 5}}; /* the nearest there is */
    MUST(!utimensat(AT_FDCWD, "f", far, 0));
    MUST(stat_of("f").st_atim.tv_sec >= 9223372036 && stat_of("f").st_mtim.tv_sec < 0);
    struct timespec now[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}}, clock;
    MUST(!clock_gettime(CLOCK_REALTIME, &clock) && !utimensat(AT_FDCWD, "f", now, 0));
    MUST(stat_of("f").st_mtim.tv_sec >= clock.tv_sec - 1);
    MUST(!symlink("f", "l") && !utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW));
    MUST(same_time(stat_of("l").st_mtim, t[1]) && !same_time(stat_of("f").st_mtim, t[1]));
    MUST(!mkdir("d", 0755) && !utimensat(AT_FDCWD, "d", t, 0));
    MUST(same_time(stat_of("d").st_mtim, t[1]));
    /* set while open and written: what was set last stays */
    int fd = open("f", O_RDWR);
    MUST(fd >= 0 && write(fd, "more", 4) == 4 && !futimens(fd, t) && !close(fd));
    MUST(same_time(stat_of("f").st_mtim, t[1]));
    /* whoever makes backups leaves no trace */
    char c;
    fd = open("f", O_RDONLY | O_NOATIME);
    MUST(fd >= 0 && read(fd, &c, 1) == 1 && !close(fd) && same_time(stat_of("f").st_atim, t[0]));
    return 0;
}

static int times_follow_changes(void)
{
    struct timespec old[2] = {{1000000000, 0}, {1000000000, 0}};
    MUST(!put_file("f", "x") && !mkdir("d", 0755));
    MUST(!utimensat(AT_FDCWD, "f", old, 0));
    int fd = open("f", O_WRONLY);
    MUST(fd >= 0 && pwrite(fd, "y", 1, 0) == 1 && !close(fd));
    MUST(later(stat_of("f").st_mtim, old[1]));
    struct timespec ahead[2] = {{2000000000, 0}, {2000000000, 0}}; /* until then, it is */
    MUST(!utimensat(AT_FDCWD, "f", ahead, 0) && stat_of("f").st_mtim.tv_sec == 2000000000);
    fd = open("f", O_WRONLY);
    MUST(fd >= 0 && pwrite(fd, "z", 1, 0) == 1 && later(ahead[1], stat_of("f").st_mtim));
    MUST(!close(fd) && later(ahead[1], stat_of("f").st_mtim));
    MUST(later(stat_of("f").st_mtim, old[1]) && later(stat_of("f").st_ctim, old[1]));
    MUST(!utimensat(AT_FDCWD, "f", old, 0) && !truncate("f", 0));
    MUST(later(stat_of("f").st_mtim, old[1]));
    MUST(!utimensat(AT_FDCWD, "d", old, 0) && !put_file("d/f", ""));
    MUST(later(stat_of("d").st_mtim, old[1]));
    MUST(!utimensat(AT_FDCWD, "d", old, 0) && !rename("d/f", "d/g"));
    MUST(later(stat_of("d").st_mtim, old[1]));
    MUST(!utimensat(AT_FDCWD, "d", old, 0) && !unlink("d/g"));
    MUST(later(stat_of("d").st_mtim, old[1]));
    struct timespec ctime = stat_of("f").st_ctim;
    do {
        unlink("f2");
        MUST(!link("f", "f2"));
    } while (!later(stat_of("f").st_ctim, ctime));
    return 0;
}

/* Some ask for the attributes of a directory while another changes it: whoever believes an
 * answer that is older than the change does not go on believing it. */
#define RACES 4000
#define RACES_LOST 3 /* so many are enough */
#define ASKS 4
struct race {
    pthread_barrier_t turn;
    atomic_bool over;
};

static void *who_asks(void *arg)
{
    struct race *r = arg;
    struct statx x;
    for (pthread_barrier_wait(&r->turn); !r->over; pthread_barrier_wait(&r->turn)) {
        statx(AT_FDCWD, "d", AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &x);
        pthread_barrier_wait(&r->turn);
    }
    return NULL;
}

/* Whether the directory's time is that of its last change; within some seconds. */
static bool settles(struct timespec changed, unsigned *lost)
{
    for (int i = 0; i < 5000; i++) {
        if (!later(changed, stat_of("d").st_mtim))
            return true;
        *lost += i == 0;
        usleep(1000);
    }
    return false;
}

/* Busy: a sleep is longer than what it is to hit. */
static void pause_ns(long ns)
{
    struct timespec from, now;
    clock_gettime(CLOCK_MONOTONIC, &from);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - from.tv_sec) * 1000000000 + now.tv_nsec - from.tv_nsec < ns);
}

static int directory_times_settle(void)
{
    struct race r = {.over = false};
    struct timespec now; /* as files get it */
    pthread_t asks[ASKS];
    unsigned lost = 0;
    bool settled = true, made = true;
    MUST(!mkdir("d", 0755) && !pthread_barrier_init(&r.turn, NULL, ASKS + 1));
    for (int i = 0; i < ASKS; i++)
        MUST(!pthread_create(&asks[i], NULL, who_asks, &r));
    for (int i = 0; i < RACES && settled && made && lost < RACES_LOST; i++) {
        pthread_barrier_wait(&r.turn);
        pause_ns(i % 64 * 2000);
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
        made = !(i % 2 ? rmdir("d/x") : mkdir("d/x", 0755));
        pthread_barrier_wait(&r.turn);
        settled = settles(now, &lost);
    }
    r.over = true;
    pthread_barrier_wait(&r.turn);
    for (int i = 0; i < ASKS; i++)
        pthread_join(asks[i], NULL);
    pthread_barrier_destroy(&r.turn);
    MUST(made && settled);
    return 0;
}

static int others_may_not(void)
{
    FAILS(open("secret", O_RDONLY), EACCES);
    FAILS(open("readable", O_WRONLY), EACCES);
    FAILS(open("new", O_CREAT | O_RDWR, 0644), EACCES);
    FAILS(chmod("readable", 0666), EPERM);
    FAILS(chown("readable", 65534, 65534), EPERM);
    FAILS(utimensat(AT_FDCWD, "readable", (struct timespec[2]){{1, 0}, {1, 0}}, 0), EPERM);
    FAILS(unlink("sticky/theirs"), EPERM);
    FAILS(rename("sticky/theirs", "sticky/mine"), EPERM);
    FAILS(access("closed/f", F_OK), EACCES);
    FAILS(access("readable", X_OK), EACCES);
    FAILS(setxattr("readable", "user.x", "y", 1, 0), EACCES);
    MUST(has_text("readable", "r") && !put_file("sticky/own", "o") && !unlink("sticky/own"));
    MUST(!put_file("sticky/set", "x") && !chmod("sticky/set", 04777));
    int fd = open("sticky/set", O_WRONLY);
    MUST(fd >= 0 && write(fd, "y", 1) == 1 && !close(fd));
    MUST(!(stat_of("sticky/set").st_mode & S_ISUID)); /* a write takes set-id away */
    return 0;
}

static int permissions(void)
{
    if (!is_root())
        return 0; /* needs a second user */
    MUST(!put_file("secret", "s") && !chmod("secret", 0600));
    MUST(!put_file("readable", "r") && !mkdir("closed", 0755) && !put_file("closed/f", ""));
    MUST(!chmod("closed", 0700) && !mkdir("sticky", 0755) && !chmod("sticky", 01777));
    MUST(!put_file("sticky/theirs", ""));
    MUST(!as_nobody(others_may_not));
    FAILS(access("readable", X_OK), EACCES); /* root too, when nobody may */
    return 0;
}

/* A program's capabilities are kept with it, and gone when it is another program. */
static int security_attributes(void)
{
    static const char caps[20] =
        "\1\0\0\2\0\4"; /* VFS_CAP_REVISION_2, effective: CAP_NET_BIND_SERVICE */
    char v[64], list[256];
    MUST(!put_file("s", "program"));
    if (setxattr("s", "security.capability", caps, sizeof caps, 0)) {
        int why = errno; /* MUST begins with none */
        MUST(why == EPERM);
        return 0; /* not in every container */
    }
    MUST(getxattr("s", "security.capability", v, sizeof v) == sizeof caps);
    MUST(!memcmp(v, caps, sizeof caps));
    ssize_t n = listxattr("s", list, sizeof list);
    MUST(n > 0 && memmem(list, (size_t)n, "security.capability", 20));
    FAILS(setxattr("s", "security.capability", caps, sizeof caps, XATTR_CREATE), EEXIST);
    int fd = open("s", O_WRONLY);
    MUST(fd >= 0 && write(fd, "x", 1) == 1 && !close(fd));
    FAILS(getxattr("s", "security.capability", v, sizeof v), ENODATA);
    MUST(!setxattr("s", "security.note", "kept", 4, 0));
    MUST(getxattr("s", "security.note", v, sizeof v) == 4 && !removexattr("s", "security.note"));
    return 0;
}

static int extended_attributes(void)
{
    char v[4096], list[4096], big[2000];
    MUST(!put_file("f", "x") && !mkdir("d", 0755));
    MUST(!setxattr("f", "user.a", "one", 3, XATTR_CREATE));
    MUST(getxattr("f", "user.a", v, sizeof v) == 3 && !memcmp(v, "one", 3));
    MUST(getxattr("f", "user.a", NULL, 0) == 3);
    FAILS(getxattr("f", "user.a", v, 2), ERANGE);
    FAILS(getxattr("f", "user.missing", v, sizeof v), ENODATA);
    FAILS(setxattr("f", "user.a", "x", 1, XATTR_CREATE), EEXIST);
    FAILS(setxattr("f", "user.b", "x", 1, XATTR_REPLACE), ENODATA);
    MUST(!setxattr("f", "user.a", "", 0, XATTR_REPLACE));
    MUST(getxattr("f", "user.a", v, sizeof v) == 0);
    memset(big, 'b', sizeof big);
    MUST(!setxattr("f", "user.big", big, sizeof big, 0));
    MUST(getxattr("f", "user.big", v, sizeof v) == sizeof big && !memcmp(v, big, sizeof big));
    ssize_t n = listxattr("f", list, sizeof list);
    MUST(n > 0 && memmem(list, (size_t)n, "user.a", 7) && memmem(list, (size_t)n, "user.big", 9));
    FAILS(listxattr("f", list, 3), ERANGE);
    MUST(!removexattr("f", "user.a"));
    FAILS(removexattr("f", "user.a"), ENODATA);
    MUST(!link("f", "g") && getxattr("g", "user.big", v, sizeof v) == sizeof big);
    MUST(!setxattr("d", "user.dir", "d", 1, 0) && getxattr("d", "user.dir", v, sizeof v) == 1);
    char name[257];
    memset(name, 'n', sizeof name);
    memcpy(name, "user.", 5);
    name[256] = 0;
    FAILS(setxattr("f", name, "x", 1, 0), ERANGE);
    if (is_root())
        MUST(!setxattr("f", "trusted.t", "t", 1, 0) && getxattr("f", "trusted.t", v, 9) == 1);
    return is_root() ? security_attributes() : 0;
}

static int many_attributes(void)
{
    enum { N = 500 };
    char name[32], value[64];
    static char list[N * sizeof name];
    MUST(!put_file("f", "x"));
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "user.many-%d", i);
        snprintf(value, sizeof value, "value %d", i);
        if (setxattr("f", name, value, strlen(value), 0)) {
            int why = errno;     /* MUST begins with none */
            MUST(why == ENOSPC); /* others have room for a few only */
            return 0;
        }
    }
    ssize_t n = listxattr("f", list, sizeof list);
    int listed = 0;
    for (ssize_t at = 0; at < n; at += (ssize_t)strlen(list + at) + 1)
        listed += !strncmp(list + at, "user.many-", 10);
    MUST(listed == N);
    for (int i = 0; i < N; i += 7) {
        char want[64];
        snprintf(name, sizeof name, "user.many-%d", i);
        snprintf(want, sizeof want, "value %d", i);
        n = getxattr("f", name, value, sizeof value);
        MUST(n == (ssize_t)strlen(want) && !memcmp(value, want, (size_t)n));
    }
    return 0;
}

static int try_flock(void)
{
    int fd = open("f", O_RDWR);
    MUST(fd >= 0);
    FAILS(flock(fd, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    return close(fd);
}

static int take_flock(void)
{
    int fd = open("f", O_RDWR);
    MUST(fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB));
    return close(fd);
}

static int whole_file_locks(void)
{
    MUST(!put_file("f", "x"));
    int fd = open("f", O_RDWR);
    MUST(fd >= 0 && !flock(fd, LOCK_EX) && !in_child(try_flock));
    MUST(!flock(fd, LOCK_UN) && !in_child(take_flock) && !close(fd));
    return 0;
}

static int try_range(void)
{
    int fd = open("f", O_RDWR);
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 10};
    MUST(fd >= 0);
    errno = 0;
    MUST(fcntl(fd, F_SETLK, &l) == -1 && (errno == EAGAIN || errno == EACCES));
    MUST(!fcntl(fd, F_GETLK, &l) && l.l_type == F_WRLCK && l.l_pid == getppid());
    MUST(l.l_start == 0 && l.l_len == 10);
    l = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
    MUST(!fcntl(fd, F_SETLK, &l));
    return close(fd);
}

static int range_locks(void)
{
    MUST(!put_file("f", "x"));
    int fd = open("f", O_RDWR);
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
    MUST(fd >= 0 && !fcntl(fd, F_SETLK, &l) && !in_child(try_range) && !close(fd));
    return 0;
}

const struct check checks_attrs[] = {
    {"modes", modes},
    {"owners", owners},
    {"times", times},
    {"times-follow-changes", times_follow_changes},
    {"directory-times-settle", directory_times_settle},
    {"permissions", permissions},
    {"extended-attributes", extended_attributes},
    {"many-attributes", many_attributes},
    {"whole-file-locks", whole_file_locks},
    {"range-locks", range_locks},
    {NULL, NULL},
};
