// SPDX-License-Identifier: Apache-2.0
/* Checks of contents: read, write, append, truncate, holes, mmap. See posixcheck.h. */
#include "posixcheck.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static int read_and_write(void)
{
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    char b[16];
    MUST(fd >= 0 && write(fd, "0123456789", 10) == 10 && lseek(fd, 0, SEEK_CUR) == 10);
    MUST(read(fd, b, sizeof b) == 0 && pread(fd, b, sizeof b, 4) == 6 && !memcmp(b, "456789", 6));
    MUST(pread(fd, b, sizeof b, 100) == 0 && write(fd, "", 0) == 0);
    struct iovec v[2] = {{"ab", 2}, {"cd", 2}};
    MUST(pwritev(fd, v, 2, 3) == 4 && has_bytes(fd, 0, "012abcd789", 10));
    MUST(lseek(fd, -2, SEEK_END) == 8 && read(fd, b, 1) == 1 && b[0] == '8');
    FAILS(lseek(fd, -1, SEEK_SET), EINVAL);
    MUST(!fsync(fd) && !fdatasync(fd) && !close(fd));
    fd = open("f", O_RDONLY);
    FAILS(write(fd, "x", 1), EBADF);
    MUST(!close(fd));
    fd = open("f", O_WRONLY);
    FAILS(read(fd, b, 1), EBADF);
    MUST(!close(fd));
    fd = open("f", O_WRONLY | O_TRUNC);
    MUST(fd >= 0 && stat_of("f").st_size == 0 && !close(fd));
    int dir = open(".", O_RDONLY | O_DIRECTORY);
    MUST(dir >= 0 && !fsync(dir) && !close(dir));
    return 0;
}

/* Bytes that tell their own place. */
static void pattern(unsigned char *p, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t z = (seed + i / 8) * 0x9e3779b97f4a7c15u;
        p[i] = (unsigned char)((z ^ (z >> 29)) >> (i % 8 * 8));
    }
}

/* A model in memory and the file, changed alike at random places, stay the same. */
static int random_writes(void)
{
    enum { SIZE = 6 << 20, ROUNDS = 400 };
    unsigned char *model = calloc(1, SIZE), *piece = malloc(1 << 20);
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    uint64_t r = 88172645463325252u;
    size_t size = 0;
    MUST(model && piece && fd >= 0);
    for (int i = 0; i < ROUNDS; i++) {
        r ^= r << 13;
        r ^= r >> 7;
        r ^= r << 17;
        size_t off = (size_t)(r % SIZE), len = (size_t)(r >> 32) % (i % 5 ? 9000 : 1 << 20) + 1;
        len = off + len > SIZE ? SIZE - off : len;
        if (i % 23 == 22) {
            MUST(!ftruncate(fd, (off_t)off));
            if (off < size)
                memset(model + off, 0, size - off);
            size = off;
            continue;
        }
        pattern(piece, len, r);
        MUST(pwrite(fd, piece, len, (off_t)off) == (ssize_t)len);
        memcpy(model + off, piece, len);
        size = off + len > size ? off + len : size;
        if (i % 17 == 0)
            MUST(!fsync(fd));
        if (i % 11 == 0) {
            MUST(!close(fd));
            fd = open("f", O_RDWR);
            MUST(fd >= 0);
        }
        MUST(has_bytes(fd, 0, model, i % 50 ? (size < 65536 ? size : 65536) : size));
    }
    MUST((size_t)stat_of("f").st_size == size && has_bytes(fd, 0, model, size) && !close(fd));
    free(model);
    free(piece);
    return 0;
}

static int truncate_files(void)
{
    MUST(!put_file("f", "0123456789") && !truncate("f", 4) && has_text("f", "0123"));
    MUST(!truncate("f", 8) && stat_of("f").st_size == 8);
    int fd = open("f", O_RDWR);
    MUST(fd >= 0 && has_bytes(fd, 0, "0123\0\0\0\0", 8));
    MUST(!ftruncate(fd, 0) && !ftruncate(fd, 3) && has_bytes(fd, 0, "\0\0\0", 3) && !close(fd));
    fd = open("f", O_RDONLY);
    FAILS(ftruncate(fd, 1), EINVAL);
    MUST(!close(fd) && !mkdir("d", 0755));
    FAILS(truncate("d", 0), EISDIR);
    FAILS(truncate("missing", 0), ENOENT);
    FAILS(truncate("f", -1), EINVAL);
    return 0;
}

static int appends(void)
{
    int a = open("f", O_CREAT | O_WRONLY | O_APPEND, 0644), b = open("f", O_WRONLY | O_APPEND);
    MUST(a >= 0 && b >= 0);
    MUST(write(a, "1", 1) == 1 && write(b, "2", 1) == 1 && write(a, "3", 1) == 1);
    MUST(lseek(a, 0, SEEK_SET) == 0 && write(a, "4", 1) == 1);
    MUST(!close(a) && !close(b) && has_text("f", "1234"));
    return 0;
}

/* Four writers, 200 lines each: every line whole, none lost. */
static int appends_of_many(void)
{
    enum { WRITERS = 4, LINES = 200, LEN = 64 };
    for (int w = 0; w < WRITERS; w++) {
        fflush(NULL);
        if (fork() == 0) {
            char line[LEN];
            memset(line, 'a' + w, LEN - 1);
            line[LEN - 1] = '\n';
            int fd = open("f", O_CREAT | O_WRONLY | O_APPEND, 0644), bad = fd < 0;
            for (int i = 0; i < LINES; i++)
                bad |= write(fd, line, LEN) != LEN;
            _exit(bad);
        }
    }
    int status, bad = 0, count[WRITERS] = {0};
    for (int w = 0; w < WRITERS; w++)
        bad |= wait(&status) < 0 || status;
    MUST(!bad && stat_of("f").st_size == WRITERS * LINES * LEN);
    int fd = open("f", O_RDONLY);
    MUST(fd >= 0);
    for (int i = 0; i < WRITERS * LINES; i++) {
        char line[LEN];
        MUST(read(fd, line, LEN) == LEN && line[LEN - 1] == '\n');
        for (int k = 1; k < LEN - 1; k++)
            MUST(line[k] == line[0]);
        count[line[0] - 'a']++;
    }
    for (int w = 0; w < WRITERS; w++)
        MUST(count[w] == LINES);
    return close(fd);
}

static int holes(void)
{
    static const char zero[4096];
    const off_t far = (off_t)1 << 40;
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    MUST(fd >= 0 && pwrite(fd, "end", 3, far) == 3);
    struct stat st;
    MUST(!fstat(fd, &st) && st.st_size == far + 3 && st.st_blocks < 1 << 20);
    MUST(has_bytes(fd, 0, zero, sizeof zero) && has_bytes(fd, far / 2, zero, sizeof zero));
    MUST(has_bytes(fd, far, "end", 3));
    /* a filesystem may report where holes are, or say that all is data */
    off_t hole = lseek(fd, 0, SEEK_HOLE), data = lseek(fd, 0, SEEK_DATA);
    MUST(hole == 0 || hole == far + 3);
    MUST(data == 0 || (data <= far && data > far - (1 << 20)));
    FAILS(lseek(fd, far + 3, SEEK_DATA), ENXIO);
    MUST(lseek(fd, far, SEEK_HOLE) == far + 3);
    MUST(!ftruncate(fd, 10) && has_bytes(fd, 0, zero, 10) && !close(fd));
    return 0;
}

/* What was written takes room from then on: tar takes a file without any for one hole. */
static int room_taken(void)
{
    static char page[4096];
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    memset(page, 'x', sizeof page);
    MUST(fd >= 0 && pwrite(fd, page, sizeof page, 0) == sizeof page && stat_of("f").st_blocks >= 8);
    MUST(pwrite(fd, page, sizeof page, 1 << 20) == sizeof page && stat_of("f").st_blocks >= 16);
    MUST(!ftruncate(fd, 5 << 20) && stat_of("f").st_blocks >= 16);
    blkcnt_t most = stat_of("f").st_blocks;
    MUST(!fsync(fd) && stat_of("f").st_blocks >= 16 && stat_of("f").st_blocks <= most);
    MUST(pwrite(fd, page, sizeof page, 0) == sizeof page && stat_of("f").st_blocks <= most);
    MUST(pwrite(fd, page, sizeof page, 3 << 20) == sizeof page && stat_of("f").st_blocks >= 24);
    MUST(!close(fd) && stat_of("f").st_blocks >= 24 && stat_of("f").st_blocks < 1024);
    return 0;
}

static int map_shared(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    MUST(fd >= 0 && !ftruncate(fd, (off_t)(3 * page)));
    char *m = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MUST(m != MAP_FAILED);
    memcpy(m + page - 2, "over", 4);
    MUST(has_bytes(fd, (off_t)page - 2, "over", 4)); /* one cache for both */
    MUST(pwrite(fd, "file", 4, (off_t)(2 * page)) == 4 && !memcmp(m + 2 * page, "file", 4));
    MUST(!msync(m, 3 * page, MS_SYNC) && !munmap(m, 3 * page) && !fsync(fd) && !close(fd));
    fd = open("f", O_RDONLY);
    MUST(fd >= 0 && has_bytes(fd, (off_t)page - 2, "over", 4));
    m = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, (off_t)page);
    MUST(m != MAP_FAILED && !memcmp(m, "er", 2));
    m[0] = 'X';
    MUST(has_bytes(fd, (off_t)page, "er", 2) && !munmap(m, page) && !close(fd));
    /* written through a mapping after its descriptor was closed */
    fd = open("f", O_RDWR);
    m = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MUST(fd >= 0 && m != MAP_FAILED && !close(fd));
    m[0] = 'Q';
    MUST(!munmap(m, page));
    fd = open("f", O_RDONLY);
    MUST(fd >= 0 && has_bytes(fd, 0, "Q", 1) && !close(fd));
    return 0;
}

static int direct_io(void)
{
    enum { LEN = 1 << 16 };
    unsigned char *b = NULL;
    int fd = open("f", O_CREAT | O_RDWR | O_DIRECT, 0644);
    if (fd < 0 && errno == EINVAL)
        return 0; /* this filesystem has none */
    MUST(fd >= 0 && !posix_memalign((void **)&b, 4096, 2 * LEN));
    pattern(b, LEN, 7);
    MUST(pwrite(fd, b, LEN, 0) == LEN && pwrite(fd, b, 4096, LEN) == 4096);
    int plain = open("f", O_RDWR);
    MUST(plain >= 0 && has_bytes(plain, 0, b, LEN) && has_bytes(plain, LEN, b, 4096));
    MUST(pwrite(plain, "plain", 5, 4096) == 5);
    MUST(pread(fd, b + LEN, LEN, 0) == LEN && !memcmp(b + LEN, b, 4096));
    MUST(!memcmp(b + LEN + 4096, "plain", 5) && !close(fd) && !close(plain));
    free(b);
    return 0;
}

/* A mapping and direct I/O of one file: each sees at once what went through the other. */
static int mapped_and_direct(void)
{
    enum { PAGE = 4096, PAGES = 8 };
    unsigned char *b = NULL;
    int fd = open("f", O_CREAT | O_RDWR | O_DIRECT, 0644);
    if (fd < 0 && errno == EINVAL)
        return 0; /* this filesystem has none */
    MUST(fd >= 0 && !posix_memalign((void **)&b, PAGE, PAGES * PAGE));
    int plain = open("f", O_RDWR);
    MUST(plain >= 0 && !ftruncate(fd, PAGES * PAGE));
    unsigned char *m = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, plain, 0);
    MUST(m != MAP_FAILED);
    for (unsigned round = 0; round < 20; round++) {
        size_t at = round * 3 % (PAGES - 1) * PAGE;
        memset(m + at + 100, 'a' + (int)round, PAGE); /* of two pages, dirty in the mapping only */
        MUST(pread(fd, b, 2 * PAGE, (off_t)at) == 2 * PAGE && !memcmp(b, m + at, 2 * PAGE));
        MUST(b[100] == 'a' + round && b[PAGE + 99] == 'a' + round);
        pattern(b, 2 * PAGE, round);
        m[at + PAGE] = 1; /* what is dirty here goes with what is written there */
        MUST(pwrite(fd, b, 2 * PAGE, (off_t)at) == 2 * PAGE && !memcmp(b, m + at, 2 * PAGE));
        MUST(has_bytes(plain, (off_t)at, b, 2 * PAGE));
    }
    memset(m, 'z', PAGE);
    MUST(!munmap(m, PAGES * PAGE) && pread(fd, b, PAGE, 0) == PAGE && b[0] == 'z');
    MUST(!close(fd) && !close(plain));
    free(b);
    return 0;
}

static int copies_in_the_kernel(void)
{
    enum { LEN = 300000 };
    unsigned char *b = malloc(LEN);
    MUST(b);
    pattern(b, LEN, 3);
    int from = open("a", O_CREAT | O_RDWR, 0644), to = open("b", O_CREAT | O_RDWR, 0644);
    MUST(from >= 0 && to >= 0 && write(from, b, LEN) == LEN);
    off_t in = 1000, out = 0;
    while (out < LEN - 1000) {
        ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(LEN - 1000 - out), 0);
        if (n < 0 && (errno == EXDEV || errno == EOPNOTSUPP))
            break;
        MUST(n > 0);
    }
    if (out)
        MUST(stat_of("b").st_size == LEN - 1000 && has_bytes(to, 0, b + 1000, LEN - 1000));
    MUST(!ftruncate(to, 0) && lseek(to, 0, SEEK_SET) == 0);
    in = 0;
    while (in < LEN)
        MUST(sendfile(to, from, &in, (size_t)(LEN - in)) > 0);
    MUST(has_bytes(to, 0, b, LEN) && !close(from) && !close(to));
    free(b);
    return 0;
}

static int allocation(void)
{
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    MUST(fd >= 0 && write(fd, "0123456789", 10) == 10);
    int err = fallocate(fd, 0, 0, 20) ? errno : 0;
    MUST(!err || err == EOPNOTSUPP);
    if (!err)
        MUST(stat_of("f").st_size == 20 && has_bytes(fd, 0, "0123456789\0\0\0\0\0\0\0\0\0\0", 20));
    err = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 3) ? errno : 0;
    MUST(!err || err == EOPNOTSUPP);
    if (!err)
        MUST(has_bytes(fd, 0,
                       "01\0\0\0"
                       "56789",
                       10));
    off_t before = stat_of("f").st_size;
    if (!fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 4096))
        MUST(stat_of("f").st_size == before);
    MUST(!posix_fallocate(fd, 0, 8192) && stat_of("f").st_size == 8192 && !close(fd));
    return 0;
}

/* Zeroes what was there, whatever the file's end is: within it, over it, behind it. */
static int zeroed_ranges(void)
{
    enum { LEN = 40000 };
    unsigned char *model = calloc(1, 2 * LEN);
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    MUST(model && fd >= 0);
    pattern(model, LEN, 5);
    MUST(write(fd, model, LEN) == LEN);
    if (fallocate(fd, FALLOC_FL_ZERO_RANGE, 4000, 9000)) {
        int why = errno; /* MUST begins with none */
        MUST(why == EOPNOTSUPP);
        free(model);
        return close(fd);
    }
    memset(model + 4000, 0, 9000);
    MUST(stat_of("f").st_size == LEN && has_bytes(fd, 0, model, LEN));
    MUST(!fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, LEN - 10, 5000));
    memset(model + LEN - 10, 0, 10);
    MUST(stat_of("f").st_size == LEN && has_bytes(fd, 0, model, LEN));
    MUST(!fallocate(fd, FALLOC_FL_ZERO_RANGE, LEN - 100, 5100));
    memset(model + LEN - 100, 0, 100);
    MUST(stat_of("f").st_size == LEN + 5000 && has_bytes(fd, 0, model, LEN + 5000));
    MUST(!fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 2 * LEN, 4096));
    MUST(stat_of("f").st_size == LEN + 5000);
    MUST(pwrite(fd, "in it", 5, 6000) == 5);
    memcpy(model + 6000, "in it", 5);
    MUST(!fsync(fd) && !close(fd));
    fd = open("f", O_RDONLY);
    MUST(fd >= 0 && has_bytes(fd, 0, model, LEN + 5000));
    FAILS(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 10), EBADF);
    MUST(!close(fd) && (fd = open("f", O_RDWR)) >= 0);
    FAILS(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 0), EINVAL);
    FAILS(fallocate(fd, FALLOC_FL_ZERO_RANGE, -1, 10), EINVAL);
    FAILS(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 10),
          EOPNOTSUPP);
    free(model);
    return close(fd);
}

static int filesystem_size(void)
{
    struct statfs s;
    MUST(!statfs(".", &s) && s.f_bsize >= 512 && s.f_blocks > 0 && s.f_namelen == 255);
    MUST(s.f_bfree <= s.f_blocks && s.f_bavail <= s.f_bfree);
    return 0;
}

static int within_a_limit(void)
{
    struct rlimit l = {.rlim_cur = 10000, .rlim_max = RLIM_INFINITY};
    char b[100] = "";
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    MUST(fd >= 0 && signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    MUST(!getrlimit(RLIMIT_FSIZE, &l));
    l.rlim_cur = 10000;
    MUST(!setrlimit(RLIMIT_FSIZE, &l));
    MUST(pwrite(fd, b, sizeof b, 9900) == 100 && pwrite(fd, b, sizeof b, 9950) == 50);
    FAILS(pwrite(fd, b, sizeof b, 10000), EFBIG);
    FAILS(ftruncate(fd, 10001), EFBIG);
    MUST(!ftruncate(fd, 10000) && stat_of("f").st_size == 10000);
    return close(fd);
}

static int size_limits(void)
{
    MUST(!in_child(within_a_limit));
    int fd = open("f", O_RDWR);
    char c = 'x';
    MUST(fd >= 0);
    errno = 0; /* the largest offset is the kernel's, or the filesystem's before it */
    MUST(pwrite(fd, &c, 1, LLONG_MAX) == -1 && (errno == EFBIG || errno == EINVAL));
    MUST(stat_of("f").st_size == 10000);
    return close(fd);
}

static int change_in_child(void)
{
    int fd = open("f", O_WRONLY);
    MUST(fd >= 0 && pwrite(fd, "child", 5, 0) == 5 && !close(fd));
    return 0;
}

static int seen_by_other_processes(void)
{
    MUST(!put_file("f", "parent."));
    int fd = open("f", O_RDONLY);
    MUST(fd >= 0 && has_bytes(fd, 0, "parent.", 7));
    MUST(!in_child(change_in_child));
    MUST(has_bytes(fd, 0, "childt.", 7) && !close(fd));
    return 0;
}

const struct check checks_data[] = {
    {"read-and-write", read_and_write},
    {"random-writes", random_writes},
    {"truncate", truncate_files},
    {"append", appends},
    {"appends-of-many", appends_of_many},
    {"holes", holes},
    {"room-taken", room_taken},
    {"mmap", map_shared},
    {"direct-io", direct_io},
    {"mapped-and-direct", mapped_and_direct},
    {"copies-in-the-kernel", copies_in_the_kernel},
    {"allocation", allocation},
    {"zeroed-ranges", zeroed_ranges},
    {"filesystem-size", filesystem_size},
    {"size-limits", size_limits},
    {"seen-by-other-processes", seen_by_other_processes},
    {NULL, NULL},
};
