// SPDX-License-Identifier: Apache-2.0
/* mountinfo is read rather than each path tried, because a mount whose process is gone answers
 * every system call with an error, and must still be found: to report it and to unmount it.
 *
 * A path belongs to the longest mount point above it, of any file system: a directory of another
 * file system mounted inside a steadfs mount is not ours. */
#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cli.h"
#include "control.h"
#include "json.h"

#define FSTYPE "fuse.steadfs"
#define CONTROL_XATTR "user.steadfs.control"
#define ANSWER_MS 10000u
#define ASK_MS 10000 /* a mount answers this from memory */

void mount_list_free(struct mount_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->v[i].mountpoint);
        free(l->v[i].control);
    }
    free(l->v);
    *l = (struct mount_list){0};
}

/* mountinfo writes space, tab, newline and backslash as \ooo. In place. */
static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++)
        if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
            s[3] >= '0' && s[3] <= '7') {
            *to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
            s += 3;
        } else {
            *to++ = *s;
        }
    *to = 0;
}

/* Whether path is at or below dir. */
static bool below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    if (n == 1 && dir[0] == '/')
        return true;
    return !strncmp(path, dir, n) && (path[n] == 0 || path[n] == '/');
}

static void remove_at(struct mount_list *l, size_t i)
{
    free(l->v[i].mountpoint);
    memmove(&l->v[i], &l->v[i + 1], (l->n - i - 1) * sizeof *l->v);
    l->n--;
}

/* "36 35 98:0 /root /mount/point options [optional…] - type source superoptions" */
static void take_line(struct mount_list *l, char *line)
{
    char *field[5], *rest = line;
    for (size_t i = 0; i < 5; i++)
        if (!(field[i] = strsep(&rest, " ")))
            return;
    char *type = rest ? strstr(rest, " - ") : NULL;
    if (!type)
        return;
    type += 3;
    type[strcspn(type, " ")] = 0;
    unescape(field[4]);
    for (size_t i = l->n; i-- > 0;)
        if (below(l->v[i].mountpoint, field[4]))
            remove_at(l, i);
    struct mount *grown = realloc(l->v, (l->n + 1) * sizeof *grown);
    if (!grown)
        abort();
    l->v = grown;
    l->v[l->n++] =
        (struct mount){.ours = !strcmp(type, FSTYPE), .mountpoint = cli_format("%s", field[4])};
}

void mount_list_parse(struct mount_list *l, FILE *mountinfo)
{
    *l = (struct mount_list){0};
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, mountinfo) > 0) {
        line[strcspn(line, "\n")] = 0;
        take_line(l, line);
    }
    free(line);
}

int mount_list_read(struct mount_list *l)
{
    *l = (struct mount_list){0};
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (!f)
        return -errno;
    mount_list_parse(l, f);
    fclose(f);
    return 0;
}

char *mount_absolute(const char *path)
{
    char *real = realpath(path, NULL);
    if (real)
        return real;
    char cwd[PATH_MAX] = "";
    if (path[0] != '/' && !getcwd(cwd, sizeof cwd))
        return cli_format("%s", path);
    char *typed = path[0] == '/' ? cli_format("%s", path) : cli_format("%s/%s", cwd, path);
    for (size_t n = strlen(typed); n > 1 && typed[n - 1] == '/'; n--)
        typed[n - 1] = 0;
    char *slash = strrchr(typed, '/');
    if (slash == typed)
        return typed;
    *slash = 0;
    real = realpath(typed, NULL);
    *slash = '/';
    if (!real)
        return typed;
    char *joined = cli_format("%s%s", strcmp(real, "/") ? real : "", slash);
    free(real);
    free(typed);
    return joined;
}

const struct mount *mount_at(const struct mount_list *l, const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].ours && strlen(l->v[i].mountpoint) == n && !memcmp(l->v[i].mountpoint, path, n))
            return &l->v[i];
    return NULL;
}

const struct mount *mount_of(const struct mount_list *l, const char *absolute)
{
    const struct mount *best = NULL;
    for (size_t i = 0; i < l->n; i++)
        if (below(absolute, l->v[i].mountpoint) &&
            (!best || strlen(l->v[i].mountpoint) > strlen(best->mountpoint)))
            best = &l->v[i];
    return best && best->ours ? best : NULL;
}

const char *mount_inside(const struct mount *m, const char *absolute)
{
    const char *inside = absolute + strlen(m->mountpoint);
    while (*inside == '/')
        inside++;
    return inside;
}

/* In the process that asks: the value, or the number of the error, behind a byte that tells which.
 */
static _Noreturn void answer(int fd, const char *mountpoint, const char *name)
{
    char text[PATH_MAX + 1];
    ssize_t n = getxattr(mountpoint, name, text + 1, sizeof text - 1);
    text[0] = n > 0;
    if (n <= 0)
        n = snprintf(text + 1, sizeof text - 1, "%d", n < 0 ? errno : ENODATA);
    _exit(write(fd, text, (size_t)n + 1) != n + 1);
}

/* The attribute's value, malloc'd, or NULL and an error. A process of its own asks: a mount that
 * hangs would keep it in the kernel, where it still can be killed, but not timed out. */
static char *ask(const char *mountpoint, const char *name, int *err)
{
    int fds[2];
    *err = -ETIMEDOUT;
    if (pipe2(fds, O_CLOEXEC)) {
        *err = -errno;
        return NULL;
    }
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        answer(fds[1], mountpoint, name);
    close(fds[1]);
    char text[PATH_MAX + 2];
    ssize_t n = 0;
    struct pollfd p = {.fd = fds[0], .events = POLLIN};
    if (child > 0 && poll(&p, 1, ASK_MS) == 1)
        n = read(fds[0], text, sizeof text - 1);
    close(fds[0]);
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    if (n <= 1)
        return NULL;
    text[n] = 0;
    *err = text[0] ? 0 : -atoi(text + 1);
    return text[0] ? cli_format("%s", text + 1) : NULL;
}

void mount_ask(struct mount *m)
{
    if (!m->control)
        m->control = ask(m->mountpoint, CONTROL_XATTR, &m->error);
}

const char *mount_error(const struct mount *m)
{
    return m->error == -ENOTCONN    ? "its process is gone"
           : m->error == -ETIMEDOUT ? "it does not answer"
           : m->error == -EACCES    ? "only the user who mounted it may enter it"
                                    : strerror(-m->error);
}

char *mount_state(const struct mount *m)
{
    char text[512];
    cleanup_buf struct buf body = {0};
    cleanup_arena struct arena a = {0};
    if (!m->control || control_ask(m->control, "status", ANSWER_MS, NULL, NULL, &body, text, NULL))
        return NULL;
    const char *state = json_text(json_parse(&a, (const char *)body.p, body.n), "state");
    return *state ? cli_format("%s", state) : NULL;
}

/* The second line of STATE/lock is where the state is mounted. malloc'd, or NULL. */
static char *mountpoint_of_state(const char *state)
{
    cleanup_free char *file = cli_format("%s/lock", state);
    cleanup_free char *text = cli_read_file(file, PATH_MAX + 256);
    char *line = text ? strchr(text, '\n') : NULL;
    return line ? cli_format("%.*s", (int)strcspn(line + 1, "\n"), line + 1) : NULL;
}

int mount_find(const struct subcommand *c, const char *path, struct mount_list *l,
               struct mount **found, char **absolute)
{
    int err = mount_list_read(l);
    if (err)
        return cli_fail(c, EXIT_FAILED, "/proc/self/mountinfo: %s", strerror(-err));
    const char *state = getenv("STEADFS_STATE");
    cleanup_free char *of_state = !path && state ? mountpoint_of_state(state) : NULL;
    *absolute = mount_absolute(path ? path : of_state ? of_state : ".");
    const struct mount *m = mount_of(l, *absolute);
    if (!m)
        return cli_fail(c, EXIT_NOT_STEADFS, "%s is not in a steadfs mount", *absolute);
    *found = &l->v[m - l->v];
    mount_ask(*found);
    if (!(*found)->control)
        return cli_fail(
            c, EXIT_UNREACHABLE, "the mount at %s: %s%s", m->mountpoint, mount_error(m),
            m->error == -ENOTCONN ? ": unmount it with steadfs unmount and mount it again" : "");
    return EXIT_DONE;
}
