// SPDX-License-Identifier: Apache-2.0
/* bench_work: one workload on one directory, timed; each result is a line `MEASURE UNIT VALUE`.
 *
 *   write FILE MIB            write in pieces of 1 MiB, fsync, close             W1
 *   read FILE cold|warm       read it in pieces of 1 MiB                         W2
 *   create DIR DIRS N         N files of 4 KiB in DIRS directories               W3
 *   create-fsync DIR DIRS N   the same, each file fsynced before it is closed    W3
 *   walk DIR cold|warm        list and stat all of it                            W4
 *   overwrite FILE N          4 KiB at a random page, fsync; N times             W5
 *   rename FROM TO                                                               W6
 *   visible A B N new|over W  write, fsync, close in A until its bytes are       W7, W8
 *                             read in B; as a new file, or over one that B knows
 *
 * The bytes written are new in every run, so that no block is known to a server already.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, PAGE = 4096, VISIBLE_LIMIT_S = 20, SAMPLES_MAX = 100000 };

/* What a run works with: random bytes, and the time of each step. */
struct bench {
    uint64_t random;
    uint64_t *data; /* MIB bytes */
    double *ms;
    size_t n;
};

static void die(const char *what)
{
    fprintf(stderr, "bench_work: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t draw(struct bench *b)
{
    b->random ^= b->random >> 12;
    b->random ^= b->random << 25;
    b->random ^= b->random >> 27;
    return b->random * 0x2545f4914f6cdd1du;
}

static const void *fresh_bytes(struct bench *b, size_t n)
{
    for (size_t i = 0; i < n / 8; i++)
        b->data[i] = draw(b);
    return b->data;
}

static void sample(struct bench *b, double from)
{
    if (b->n < SAMPLES_MAX)
        b->ms[b->n++] = (seconds() - from) * 1e3;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void tell_samples(struct bench *b, const char *measure)
{
    if (!b->n)
        return;
    qsort(b->ms, b->n, sizeof *b->ms, ascending);
    printf("%s-p50 ms %.3f\n%s-p99 ms %.3f\n", measure, b->ms[b->n / 2], measure,
           b->ms[b->n * 99 / 100]);
    b->n = 0;
}

static int open_or_die(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0644);
    if (fd < 0)
        die(path);
    return fd;
}

static void put(int fd, const void *p, size_t n)
{
    while (n) {
        ssize_t done = write(fd, p, n);
        if (done <= 0)
            die("write");
        p = (const char *)p + done;
        n -= (size_t)done;
    }
}

/* Making the bytes is not counted. */
static void run_write(struct bench *b, const char *path, unsigned mib)
{
    int fd = open_or_die(path, O_CREAT | O_TRUNC | O_WRONLY);
    double spent = 0, from;
    for (unsigned i = 0; i < mib; i++) {
        const void *p = fresh_bytes(b, MIB);
        from = seconds();
        put(fd, p, MIB);
        spent += seconds() - from;
    }
    from = seconds();
    if (fsync(fd) || close(fd))
        die("fsync, close");
    spent += seconds() - from;
    printf("W1.write+fsync+close MiB/s %.1f\nW1.fsync s %.3f\n", mib / spent, seconds() - from);
}

static void run_read(struct bench *b, const char *path, const char *temper)
{
    double from = seconds(), bytes = 0;
    int fd = open_or_die(path, O_RDONLY);
    ssize_t n;
    while ((n = read(fd, b->data, MIB)) > 0)
        bytes += (double)n;
    if (n < 0 || close(fd))
        die(path);
    printf("W2.read-%s MiB/s %.1f\n", temper, bytes / MIB / (seconds() - from));
}

static void run_create(struct bench *b, const char *top, unsigned dirs, unsigned files, bool sync)
{
    char path[4096];
    double from = seconds();
    if (mkdir(top, 0755))
        die(top);
    for (unsigned i = 0; i < files; i++) {
        unsigned per = files / dirs, d = i / per;
        double begin = seconds();
        if (i % per == 0) {
            snprintf(path, sizeof path, "%s/%u", top, d);
            if (mkdir(path, 0755))
                die(path);
        }
        snprintf(path, sizeof path, "%s/%u/%u", top, d, i);
        int fd = open_or_die(path, O_CREAT | O_EXCL | O_WRONLY);
        put(fd, fresh_bytes(b, PAGE), PAGE);
        if ((sync && fsync(fd)) || close(fd))
            die(path);
        sample(b, begin);
    }
    const char *measure = sync ? "W3.create+fsync" : "W3.create";
    printf("%s files/s %.0f\n", measure, files / (seconds() - from));
    tell_samples(b, measure);
}

static unsigned walk(const char *path)
{
    char child[4096];
    struct dirent *e;
    struct stat st;
    unsigned n = 0;
    DIR *d = opendir(path);
    if (!d)
        die(path);
    while ((e = readdir(d))) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
            die(e->d_name);
        n++;
        if (S_ISDIR(st.st_mode) &&
            snprintf(child, sizeof child, "%s/%s", path, e->d_name) < (int)sizeof child)
            n += walk(child);
    }
    closedir(d);
    return n;
}

static void run_walk(const char *path, const char *temper)
{
    double from = seconds();
    unsigned n = walk(path);
    printf("W4.walk-%s us/entry %.2f\n", temper, (seconds() - from) * 1e6 / n);
}

static void run_overwrite(struct bench *b, const char *path, unsigned n)
{
    int fd = open_or_die(path, O_WRONLY);
    struct stat st;
    if (fstat(fd, &st) || st.st_size < 2 * PAGE)
        die(path);
    for (unsigned i = 0; i < n; i++) {
        off_t at = (off_t)(draw(b) % (uint64_t)(st.st_size / PAGE)) * PAGE;
        const void *p = fresh_bytes(b, PAGE);
        double from = seconds();
        if (pwrite(fd, p, PAGE, at) != PAGE || fsync(fd))
            die(path);
        sample(b, from);
    }
    if (close(fd))
        die(path);
    tell_samples(b, "W5.overwrite+fsync");
}

static void run_rename(const char *from, const char *to)
{
    double begin = seconds();
    if (rename(from, to))
        die(from);
    printf("W6.rename ms %.3f\n", (seconds() - begin) * 1e3);
}

static bool holds(const char *path, const void *want)
{
    char got[PAGE];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool same = fd >= 0 && read(fd, got, PAGE) == PAGE && !memcmp(got, want, PAGE);
    if (fd >= 0)
        close(fd);
    return same;
}

/* From the close on one side to the bytes on the other; the reader looks again every 100 us. */
static void save_and_see(struct bench *b, const char *from, const char *to, bool count)
{
    const void *p = fresh_bytes(b, PAGE);
    int fd = open_or_die(from, O_CREAT | O_WRONLY);
    put(fd, p, PAGE);
    if (fsync(fd) || close(fd))
        die(from);
    double saved = seconds();
    while (!holds(to, p)) {
        if (seconds() - saved > VISIBLE_LIMIT_S) {
            errno = ETIMEDOUT;
            die(to);
        }
        nanosleep(&(struct timespec){0, 100000}, NULL);
    }
    if (count)
        sample(b, saved);
}

static void run_visible(struct bench *b, char **dir, unsigned n, const char *mode,
                        const char *workload)
{
    bool over = !strcmp(mode, "over");
    for (unsigned i = 0; i < n; i++) {
        char from[4096], to[4096], measure[64];
        snprintf(from, sizeof from, "%s/seen-%s-%u", dir[0], mode, i);
        snprintf(to, sizeof to, "%s/seen-%s-%u", dir[1], mode, i);
        save_and_see(b, from, to, !over);
        if (over)
            save_and_see(b, from, to, true);
        if (i + 1 == n) {
            snprintf(measure, sizeof measure, "%s.visible-%s", workload, mode);
            tell_samples(b, measure);
        }
    }
}

static int run(struct bench *b, int argc, char **a)
{
    const char *what = argc ? a[0] : "";
    if (argc == 3 && !strcmp(what, "write"))
        run_write(b, a[1], (unsigned)atoi(a[2]));
    else if (argc == 3 && !strcmp(what, "read"))
        run_read(b, a[1], a[2]);
    else if (argc == 4 && (!strcmp(what, "create") || !strcmp(what, "create-fsync")))
        run_create(b, a[1], (unsigned)atoi(a[2]), (unsigned)atoi(a[3]), what[6] != 0);
    else if (argc == 3 && !strcmp(what, "walk"))
        run_walk(a[1], a[2]);
    else if (argc == 3 && !strcmp(what, "overwrite"))
        run_overwrite(b, a[1], (unsigned)atoi(a[2]));
    else if (argc == 3 && !strcmp(what, "rename"))
        run_rename(a[1], a[2]);
    else if (argc == 6 && !strcmp(what, "visible"))
        run_visible(b, a + 1, (unsigned)atoi(a[3]), a[4], a[5]);
    else
        return 2;
    return 0;
}

int main(int argc, char **argv)
{
    struct bench b = {.data = malloc(MIB), .ms = malloc(SAMPLES_MAX * sizeof(double))};
    if (!b.data || !b.ms || getrandom(&b.random, sizeof b.random, 0) != sizeof b.random)
        die("start");
    b.random |= 1;
    int status = run(&b, argc - 1, argv + 1);
    if (status)
        fputs("usage: bench_work write|read|create|create-fsync|walk|overwrite|rename|visible …\n",
              stderr);
    free(b.data);
    free(b.ms);
    return status;
}
