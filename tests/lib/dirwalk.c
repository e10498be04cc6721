// SPDX-License-Identifier: Apache-2.0
/* Reads a large directory again and again while others change it.
 *
 *   dirwalk fill DIR N         makes the files keep-0 … keep-(N-1) (and, if N is 0, changes
 * nothing) dirwalk churn DIR NAME     makes and removes NAME-… there, and renames some, until it is
 * killed dirwalk read DIR N ROUNDS  reads it: each keep-… exactly once, no other name twice, and
 * seekdir to where telldir was leads to the same name, if that is a keep-…
 *
 * Exit status 0: as claimed; 1: not, with a line that says what; 2: usage.
 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHURN_FILES 500 /* that a churner has at a time */
#define MARKS 64        /* positions remembered in a round */
#define OTHERS_MAX (1u << 20)

static _Noreturn void fail(const char *what, const char *name)
{
    printf("%s %s (%s)\n", what, name, strerror(errno));
    exit(1);
}

static void fill(unsigned n)
{
    char name[64];
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof name, "keep-%u", i);
        if (mknod(name, S_IFREG | 0644, 0) != 0)
            fail("cannot make", name);
    }
}

static void churn(const char *prefix)
{
    char name[128], old[128];
    for (unsigned long i = 0;; i++) {
        snprintf(name, sizeof name, "%s-%lu", prefix, i);
        if (mknod(name, S_IFREG | 0644, 0) != 0)
            fail("cannot make", name);
        if (i % 7 == 0) { /* comes back under its old name, too */
            snprintf(old, sizeof old, "%s-back", prefix);
            if (rename(name, old) != 0 || rename(old, name) != 0)
                fail("cannot rename", name);
        }
        snprintf(old, sizeof old, "%s-%lu", prefix, i - CHURN_FILES);
        if (i >= CHURN_FILES && unlink(old) != 0)
            fail("cannot remove", old);
    }
}

/* Names other than keep-…: a set of hashes, which do not meet among so few. */
static uint64_t others[OTHERS_MAX];
static size_t others_n;

static bool seen_before(const char *name)
{
    uint64_t h = 14695981039346656037ull;
    for (const char *p = name; *p; p++)
        h = (h ^ (uint8_t)*p) * 1099511628211ull;
    size_t at = h % OTHERS_MAX;
    while (others[at] != 0 && others[at] != h)
        at = (at + 1) % OTHERS_MAX;
    if (others[at] == h)
        return true;
    if (++others_n == OTHERS_MAX)
        fail("too many names besides", name);
    others[at] = h;
    return false;
}

struct mark {
    long at;
    char name[64];
};

static void check_marks(DIR *d, const struct mark *marks, size_t n)
{
    for (size_t i = n; i-- > 0;) {
        seekdir(d, marks[i].at);
        errno = 0;
        const struct dirent *e = readdir(d);
        while (e != NULL && strncmp(e->d_name, "keep-", 5) != 0) /* one that was made in between */
            e = readdir(d);
        if (e == NULL || strcmp(e->d_name, marks[i].name) != 0)
            fail("seekdir does not lead to", marks[i].name);
    }
}

static void read_once(DIR *d, unsigned n, uint8_t *seen)
{
    struct mark marks[MARKS];
    size_t marks_n = 0;
    unsigned found = 0;
    memset(seen, 0, n);
    memset(others, 0, sizeof others);
    others_n = 0;
    rewinddir(d);
    for (;;) {
        long at = telldir(d);
        errno = 0;
        const struct dirent *e = readdir(d);
        if (e == NULL)
            break;
        unsigned i;
        if (sscanf(e->d_name, "keep-%u", &i) != 1) {
            if (seen_before(e->d_name))
                fail("twice:", e->d_name);
            continue;
        }
        if (i >= n || seen[i]++)
            fail("twice:", e->d_name);
        if (found++ % (n / MARKS + 1) == 0) {
            marks[marks_n].at = at;
            snprintf(marks[marks_n++].name, sizeof marks[0].name, "%.60s", e->d_name);
        }
    }
    if (errno != 0)
        fail("readdir", "");
    for (unsigned i = 0; i < n && found != n; i++)
        if (!seen[i]) {
            char name[32];
            snprintf(name, sizeof name, "keep-%u", i);
            fail("missed:", name);
        }
    check_marks(d, marks, marks_n);
}

int main(int argc, char **argv)
{
    if (argc < 4 || chdir(argv[2]) != 0) {
        fprintf(stderr, "usage: dirwalk fill DIR N | churn DIR NAME | read DIR N ROUNDS\n");
        return 2;
    }
    if (strcmp(argv[1], "fill") == 0) {
        fill((unsigned)atoi(argv[3]));
    } else if (strcmp(argv[1], "churn") == 0) {
        churn(argv[3]);
    } else if (strcmp(argv[1], "read") == 0 && argc == 5) {
        unsigned n = (unsigned)atoi(argv[3]);
        uint8_t *seen = malloc(n + 1u);
        DIR *d = opendir(".");
        if (seen == NULL || d == NULL)
            fail("cannot open", argv[2]);
        for (int i = atoi(argv[4]); i > 0; i--)
            read_once(d, n, seen);
        closedir(d);
        free(seen);
    } else {
        return 2;
    }
    return 0;
}
