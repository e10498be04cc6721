// SPDX-License-Identifier: Apache-2.0
/* Writers that never stop, and the judge of what they were promised.
 *
 *   ackwriter write DIR LOG WRITERS STOP
 *       WRITERS processes work in DIR (on the mount) until the file STOP exists; what was
 *       acknowledged goes to LOG.N (outside the mount)
 *   ackwriter verify DIR LOG WRITERS
 *       whether DIR holds what the logs promise
 *   ackwriter hits LOG WRITERS TIME…
 *       at how many of these times (microseconds) a writer was inside an fsync
 *
 * A writer works on files named wN-K, one after the other, and saves in two ways: write, fsync,
 * close: promised when the fsync returned 0 ("S"); every third file only write, close: promised
 * when the close returned 0 ("C"), because a kill of the mount loses nothing that was closed. Every
 * second file is later overwritten in place, one page, with an fsync. A step that fails (the mount
 * was killed) is tried again on a fresh descriptor, with the same bytes, until it succeeds: one
 * that was not acknowledged may have happened or not.
 *
 * Each log line is one write(2): KIND FILE VERSION TIME. "B": this version is begun; "F": its fsync
 * begins. The content of a page is a function of (writer, file, page, version). A page may hold the
 * promised version or a later one that was begun; never an earlier one, zeros, or a mixture.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 4, FILES_MAX = 200000, RETRY_MS = 20, GIVE_UP_S = 120 };

struct writer {
    const char *dir, *stop;
    unsigned number;
    int log;
};

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* The page's words tell file, page and version, so that a wrong one is recognised. */
static void make_page(uint64_t *page, unsigned writer, unsigned file, unsigned index,
                      unsigned version)
{
    uint64_t z = ((uint64_t)writer << 48) ^ ((uint64_t)file << 16) ^ ((uint64_t)index << 56) ^
                 (uint64_t)version * 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < PAGE / sizeof *page; i++) {
        z ^= z >> 12;
        z ^= z << 25;
        z ^= z >> 27;
        page[i] = z * 0x2545f4914f6cdd1du + i;
    }
    page[0] = version;
}

static void say(int log, char kind, unsigned file, unsigned version)
{
    char line[64];
    int n =
        snprintf(line, sizeof line, "%c %u %u %lld\n", kind, file, version, (long long)now_us());
    if (write(log, line, (size_t)n) != n) {
        perror("ackwriter: log");
        exit(1);
    }
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* Writes pages [from, to) of a file at `version`; then fsync or only close. 0 or -1. */
static int save(const struct writer *w, unsigned file, unsigned version, unsigned from, unsigned to,
                bool sync)
{
    char path[4096];
    uint64_t page[PAGE / sizeof(uint64_t)];
    snprintf(path, sizeof path, "%s/w%u-%u", w->dir, w->number, file);
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    if (fd < 0)
        return -1;
    int bad = 0;
    for (unsigned i = from; i < to && !bad; i++) {
        make_page(page, w->number, file, i, version);
        bad = pwrite(fd, page, PAGE, (off_t)i * PAGE) != PAGE;
    }
    if (!bad && sync) {
        say(w->log, 'F', file, version);
        bad = fsync(fd) != 0;
        if (!bad)
            say(w->log, 'S', file, version);
    }
    if (close(fd))
        bad = 1;
    if (!bad && !sync)
        say(w->log, 'C', file, version);
    return bad ? -1 : 0;
}

/* Until it is acknowledged, or the test ends; the bytes are the same each time. */
static int save_until_done(const struct writer *w, unsigned file, unsigned version, unsigned from,
                           unsigned to, bool sync)
{
    int64_t begin = now_us();
    say(w->log, 'B', file, version);
    while (save(w, file, version, from, to, sync)) {
        if (access(w->stop, F_OK) == 0)
            return -1;
        if (now_us() - begin > GIVE_UP_S * 1000000ll) {
            fprintf(stderr, "ackwriter: w%u-%u: %s for two minutes\n", w->number, file,
                    strerror(errno));
            exit(1);
        }
        pause_ms(RETRY_MS);
    }
    return 0;
}

/* Versions rise: 1 the whole file, 2 its second page in place (fsynced). Every third file is only
 * closed at first. */
static int work(const struct writer *w)
{
    for (unsigned file = 0; file < FILES_MAX && access(w->stop, F_OK); file++) {
        if (save_until_done(w, file, 1, 0, PAGES, file % 3 != 2))
            return 0;
        if (file % 2 && save_until_done(w, file - 1, 2, 1, 2, true))
            return 0;
    }
    return 0;
}

static int start(const char *dir, const char *log, unsigned writers, const char *stop)
{
    int bad = 0, status;
    for (unsigned i = 0; i < writers; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s.%u", log, i);
        struct writer w = {dir, stop, i,
                           open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644)};
        if (w.log < 0) {
            perror(path);
            return 1;
        }
        if (fork() == 0)
            exit(work(&w));
        close(w.log);
    }
    while (wait(&status) > 0)
        bad |= status;
    return bad ? 1 : 0;
}

struct promise {
    uint8_t begun, kept; /* versions */
};

/* Reads a writer's log; the largest file number, or -1. kept: acknowledged. */
static long read_log(const char *log, unsigned writer, struct promise *p)
{
    char path[4096], kind;
    unsigned file, version;
    long long time;
    long last = -1;
    snprintf(path, sizeof path, "%s.%u", log, writer);
    FILE *f = fopen(path, "r");
    while (f && fscanf(f, " %c %u %u %lld", &kind, &file, &version, &time) == 4) {
        if (file >= FILES_MAX || version > 2)
            return -1;
        last = (long)file > last ? (long)file : last;
        if (kind == 'B')
            p[file].begun = (uint8_t)version;
        if (kind == 'S' || kind == 'C')
            p[file].kept = (uint8_t)version;
    }
    if (f)
        fclose(f);
    return last;
}

/* The version that a page holds, or -1. */
static int version_of(const uint64_t *page, unsigned writer, unsigned file, unsigned index)
{
    uint64_t want[PAGE / sizeof(uint64_t)];
    if (page[0] < 1 || page[0] > 2)
        return -1;
    make_page(want, writer, file, index, (unsigned)page[0]);
    return memcmp(page, want, PAGE) ? -1 : (int)page[0];
}

static unsigned verify_file(const char *dir, unsigned writer, unsigned file,
                            const struct promise *p)
{
    char path[4096];
    uint64_t page[PAGE / sizeof(uint64_t)];
    unsigned bad = 0;
    snprintf(path, sizeof path, "%s/w%u-%u", dir, writer, file);
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        printf("MISSING %s: %s\n", path, strerror(errno));
        return 1;
    }
    for (unsigned i = 0; i < PAGES; i++) {
        int want = i == 1 && p->kept == 2 ? 2 : 1;
        ssize_t n = pread(fd, page, PAGE, (off_t)i * PAGE);
        int have = n == PAGE ? version_of(page, writer, file, i) : -1;
        if (have < want || have > p->begun) {
            printf("WRONG %s page %u: promised version %d, begun %d, found %d (%zd bytes)\n", path,
                   i, want, p->begun, have, n);
            bad = 1;
        }
    }
    close(fd);
    return bad;
}

static int verify(const char *dir, const char *log, unsigned writers)
{
    struct promise *p = calloc(FILES_MAX, sizeof *p);
    unsigned long files = 0, bad = 0;
    for (unsigned w = 0; p && w < writers; w++) {
        memset(p, 0, FILES_MAX * sizeof *p);
        long last = read_log(log, w, p);
        for (long i = 0; i <= last; i++)
            if (p[i].kept) {
                files++;
                bad += verify_file(dir, w, (unsigned)i, &p[i]);
            }
    }
    free(p);
    printf("%lu files promised, %lu not kept\n", files, bad);
    return bad || !files ? 1 : 0;
}

/* Whether this writer was inside an fsync at the time: the last line before it says so. */
static bool was_in_fsync(const char *log, unsigned writer, long long at_us)
{
    char path[4096], kind, before = 0;
    unsigned file, version;
    long long time;
    bool after = false;
    snprintf(path, sizeof path, "%s.%u", log, writer);
    FILE *f = fopen(path, "r");
    while (f && !after && fscanf(f, " %c %u %u %lld", &kind, &file, &version, &time) == 4) {
        after = time > at_us;
        if (!after)
            before = kind;
    }
    if (f)
        fclose(f);
    return before == 'F' && after;
}

static int hits(const char *log, unsigned writers, char **times)
{
    unsigned n = 0;
    for (; *times; times++) {
        bool hit = false;
        for (unsigned w = 0; w < writers && !hit; w++)
            hit = was_in_fsync(log, w, atoll(*times));
        n += hit;
    }
    printf("%u\n", n);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 6 && !strcmp(argv[1], "write"))
        return start(argv[2], argv[3], (unsigned)atoi(argv[4]), argv[5]);
    if (argc == 5 && !strcmp(argv[1], "verify"))
        return verify(argv[2], argv[3], (unsigned)atoi(argv[4]));
    if (argc >= 4 && !strcmp(argv[1], "hits"))
        return hits(argv[2], (unsigned)atoi(argv[3]), argv + 4);
    fputs("usage: ackwriter write DIR LOG WRITERS STOP\n"
          "       ackwriter verify DIR LOG WRITERS\n"
          "       ackwriter hits LOG WRITERS TIME…\n",
          stderr);
    return 2;
}
