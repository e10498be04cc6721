// SPDX-License-Identifier: Apache-2.0
/* posixcheck DIR [NAME…]: runs the checks of posixcheck.h in a new directory below DIR, which is
 * removed again. Prints one line per failed check and a count; exit status 1 if any failed. */
#include "posixcheck.h"

#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int put_file(const char *path, const char *text)
{
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, text, strlen(text));
    return close(fd) || n != (ssize_t)strlen(text) ? -1 : 0;
}

bool has_bytes(int fd, off_t off, const void *want, size_t len)
{
    char *got = malloc(len ? len : 1);
    if (!got)
        return false;
    size_t have = 0;
    ssize_t n = 1;
    while (have < len && (n = pread(fd, got + have, len - have, off + (off_t)have)) > 0)
        have += (size_t)n;
    bool same = have == len && memcmp(got, want, len) == 0;
    free(got);
    return same;
}

bool has_text(const char *path, const char *text)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return false;
    bool same = !fstat(fd, &st) && st.st_size == (off_t)strlen(text) &&
                has_bytes(fd, 0, text, strlen(text));
    close(fd);
    return same;
}

struct stat stat_of(const char *path)
{
    struct stat st = {0};
    if (lstat(path, &st))
        memset(&st, 0, sizeof st);
    return st;
}

int is_root(void)
{
    return geteuid() == 0;
}

int in_child(int (*fn)(void))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(fn() ? 1 : 0);
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return -1;
    return status ? -1 : 0;
}

int as_nobody(int (*fn)(void))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (is_root() && (setgroups(0, NULL) || setgid(65534) || setuid(65534)))
            _exit(2);
        _exit(fn() ? 1 : 0);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return -1;
    return status ? -1 : 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static bool wanted(const char *name, char **names)
{
    if (!*names)
        return true;
    for (; *names; names++)
        if (!strcmp(*names, name))
            return true;
    return false;
}

/* Runs one table; adds to the counts. The work directory is the current one before and after. */
static int run_table(const struct check *c, char **names, unsigned *ran, unsigned *failed)
{
    for (; c->name; c++) {
        if (!wanted(c->name, names))
            continue;
        if (mkdir(c->name, 0755) || chmod(c->name, 0755) || chdir(c->name)) {
            fprintf(stderr, "posixcheck: %s: %s\n", c->name, strerror(errno));
            return -1;
        }
        ++*ran;
        if (c->run()) {
            ++*failed;
            printf("FAILED %s\n", c->name);
        }
        if (chdir("..") || nftw(c->name, remove_one, 16, FTW_DEPTH | FTW_PHYS)) {
            printf("FAILED %s: cannot be removed: %s\n", c->name, strerror(errno));
            ++*failed;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    char top[] = "posixcheck.XXXXXX";
    unsigned ran = 0, failed = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 2 || chdir(argv[1]) || !mkdtemp(top) || chmod(top, 0755) || chdir(top)) {
        fprintf(stderr, "usage: posixcheck DIR [NAME…]   (%s)\n", strerror(errno));
        return 2;
    }
    umask(022);
    int err = run_table(checks_names, argv + 2, &ran, &failed);
    if (!err)
        err = run_table(checks_data, argv + 2, &ran, &failed);
    if (!err)
        err = run_table(checks_attrs, argv + 2, &ran, &failed);
    if (!err)
        err = run_table(checks_rights, argv + 2, &ran, &failed);
    if (!err)
        err = run_table(checks_locks, argv + 2, &ran, &failed);
    if (chdir("..") || rmdir(top))
        fprintf(stderr, "posixcheck: %s stays: %s\n", top, strerror(errno));
    printf("%u checks, %u failed\n", ran, failed);
    return err || failed || !ran ? 1 : 0;
}
