// SPDX-License-Identifier: Apache-2.0
/* Checks of locks that are waited for, and of when locks end. See posixcheck.h. */
#include "posixcheck.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int *released; /* shared with children: set just before a lock is given up */

static struct flock span(short type, off_t start, off_t len)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
}

static int wait_for_flock(void)
{
    int fd = open("f", O_RDWR);
    MUST(fd >= 0 && !flock(fd, LOCK_EX) && *released);
    return close(fd);
}

static int wait_for_range(void)
{
    int fd = open("f", O_RDWR);
    struct flock l = span(F_WRLCK, 5, 1);
    MUST(fd >= 0 && !fcntl(fd, F_SETLKW, &l) && *released);
    return close(fd);
}

/* A child is to get the lock only after `release` gave it up. */
static int hands_over(int (*waits)(void), int (*release)(int fd), int fd)
{
    int status = -1;
    *released = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) /* its copy of the descriptor would keep a flock */
        _exit(close(fd) || waits() ? 1 : 0);
    for (int i = 0; i < 100; i++) { /* most of the time it waits by then; the claim holds anyway */
        struct flock l = span(F_RDLCK, 100 + i, 1);
        MUST(!fcntl(fd, F_SETLK, &l));
    }
    *released = 1;
    MUST(!release(fd) && waitpid(child, &status, 0) == child && status == 0);
    return 0;
}

static int unlock_flock(int fd)
{
    return flock(fd, LOCK_UN);
}

static int unlock_range(int fd)
{
    struct flock l = span(F_UNLCK, 5, 1);
    return fcntl(fd, F_SETLK, &l);
}

/* Closing any descriptor of the file ends the process's ranges. */
static int close_another(int fd)
{
    (void)fd;
    return close(open("f", O_RDONLY));
}

static int waits_end(void)
{
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    struct flock all = span(F_WRLCK, 0, 0);
    MUST(fd >= 0 && !flock(fd, LOCK_EX) && !hands_over(wait_for_flock, unlock_flock, fd));
    MUST(!fcntl(fd, F_SETLK, &all) && !hands_over(wait_for_range, unlock_range, fd));
    MUST(!fcntl(fd, F_SETLK, &all) && !hands_over(wait_for_range, close_another, fd));
    MUST(!flock(fd, LOCK_EX) && !hands_over(wait_for_flock, close, fd));
    return 0;
}

static void no_more(int sig)
{
    (void)sig;
}

static int interrupted_waits(void)
{
    int fd = open("f", O_RDWR);
    struct sigaction a = {.sa_handler = no_more};
    struct itimerval soon = {.it_value = {.tv_usec = 50000}, .it_interval = {.tv_usec = 50000}};
    struct flock l = span(F_WRLCK, 0, 0);
    MUST(fd >= 0 && !sigaction(SIGALRM, &a, NULL) && !setitimer(ITIMER_REAL, &soon, NULL));
    FAILS(fcntl(fd, F_SETLKW, &l), EINTR);
    FAILS(flock(fd, LOCK_EX), EINTR);
    return close(fd);
}

static int waits_are_interrupted(void)
{
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    struct flock l = span(F_RDLCK, 0, 0);
    MUST(fd >= 0 && !fcntl(fd, F_SETLK, &l) && !flock(fd, LOCK_SH));
    MUST(!in_child(interrupted_waits));
    return close(fd);
}

static int ends_killed(void)
{
    int fd = open("f", O_RDWR);
    struct flock l = span(F_WRLCK, 0, 0);
    if (fd < 0 || fcntl(fd, F_SETLK, &l) || flock(fd, LOCK_EX) || kill(getpid(), SIGKILL))
        return -1;
    return 0;
}

static int killed_holders(void)
{
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    struct flock l = span(F_WRLCK, 0, 0);
    MUST(fd >= 0 && in_child(ends_killed)); /* it does not end well */
    MUST(!fcntl(fd, F_SETLKW, &l) && !flock(fd, LOCK_EX));
    return close(fd);
}

/* Two processes, each with what the other wants: one of them is told. */
static int circles(void)
{
    int there[2], status = -1;
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    struct flock mine = span(F_WRLCK, 0, 1), theirs = span(F_WRLCK, 1, 1);
    MUST(fd >= 0 && !pipe(there) && !fcntl(fd, F_SETLK, &mine));
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        int own = open("f", O_RDWR);
        if (own < 0 || fcntl(own, F_SETLK, &theirs) || write(there[1], "x", 1) != 1)
            _exit(2);
        _exit(fcntl(own, F_SETLKW, &mine) ? errno == EDEADLK ? 1 : 3 : 0);
    }
    char c;
    MUST(read(there[0], &c, 1) == 1);
    int told = fcntl(fd, F_SETLKW, &theirs) ? errno : 0;
    MUST(told == 0 || told == EDEADLK);
    MUST(!close(fd) && waitpid(child, &status, 0) == child && WIFEXITED(status));
    MUST(WEXITSTATUS(status) == (told == 0));
    return 0;
}

static int open_file_locks(void)
{
    int a = open("f", O_CREAT | O_RDWR, 0644), b = open("f", O_RDWR);
    struct flock l = span(F_WRLCK, 0, 10), m = span(F_RDLCK, 9, 1), n = span(F_WRLCK, 2, 3);
    MUST(a >= 0 && b >= 0 && !fcntl(a, F_OFD_SETLK, &l));
    FAILS(fcntl(b, F_OFD_SETLK, &m), EAGAIN);
    FAILS(fcntl(b, F_SETLK, &m), EAGAIN); /* the process is another owner than its file */
    MUST(!fcntl(b, F_OFD_GETLK, &m) && m.l_type == F_WRLCK && m.l_start == 0 && m.l_len == 10);
    n.l_type = F_UNLCK;
    MUST(!fcntl(a, F_OFD_SETLK, &n)); /* a hole in it */
    n.l_type = F_WRLCK;
    MUST(!fcntl(b, F_OFD_SETLK, &n) && !close(open("f", O_RDONLY)));
    l = span(F_WRLCK, 0, 1);
    FAILS(fcntl(b, F_OFD_SETLK, &l), EAGAIN); /* closing another descriptor ends none of these */
    MUST(!close(a) && !fcntl(b, F_OFD_SETLK, &l));
    return close(b);
}

/* Of several locks in the way, F_GETLK tells the one that begins first, whichever was taken last.
 */
static int first_in_the_way(void)
{
    int a = open("f", O_CREAT | O_RDWR, 0644), b = open("f", O_RDWR);
    static const off_t begin[] = {20, 10, 30};
    MUST(a >= 0 && b >= 0);
    for (size_t i = 0; i < sizeof begin / sizeof *begin; i++) {
        struct flock l = span(i == 1 ? F_WRLCK : F_RDLCK, begin[i], 5);
        MUST(!fcntl(a, F_OFD_SETLK, &l));
    }
    struct flock l = span(F_WRLCK, 0, 0), m = span(F_WRLCK, 15, 0), n = span(F_RDLCK, 10, 1);
    MUST(!fcntl(b, F_OFD_GETLK, &l) && l.l_type == F_WRLCK && l.l_start == 10 && l.l_len == 5);
    MUST(!fcntl(b, F_OFD_GETLK, &m) && m.l_type == F_RDLCK && m.l_start == 20 && m.l_len == 5);
    MUST(!fcntl(b, F_OFD_GETLK, &n) && n.l_type == F_WRLCK && n.l_start == 10);
    return close(a) || close(b) ? -1 : 0;
}

static int with_shared(int (*check)(void))
{
    released =
        mmap(NULL, sizeof *released, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(released != MAP_FAILED);
    int err = check();
    munmap((void *)(uintptr_t)released, sizeof *released);
    return err;
}

static int lock_waits(void)
{
    return with_shared(waits_end);
}

const struct check checks_locks[] = {
    {"lock-waits", lock_waits},
    {"lock-waits-interrupted", waits_are_interrupted},
    {"locks-of-the-killed", killed_holders},
    {"lock-circles", circles},
    {"open-file-locks", open_file_locks},
    {"first-lock-in-the-way", first_in_the_way},
    {NULL, NULL},
};
