// SPDX-License-Identifier: Apache-2.0
/* The state directory's identity and its lock.
 *
 * The lock is flock on STATE/lock: it ends with the process, however that ends. Its first line says
 * what the holder does and its second where, so that a refused mount can tell its user.
 */
#include "identity.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockid.h"
#include "control.h"
#include "token.h"

#define FILE_MAX_BYTES 65536
#define KILLED_MS 2000
#define HANDOVER_MS 15000 /* a finishing process reaches a durable point well within this */

static int say(char *err, int result, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int say(char *err, int result, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err, 512, fmt, ap);
    va_end(ap);
    return result;
}

/* The whole of a small file with a NUL behind it. */
static int slurp(const char *dir, const char *name, char **out, size_t *n)
{
    char *path;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        return -ENOMEM;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    free(path);
    if (fd < 0)
        return -errno;
    char *p = malloc(FILE_MAX_BYTES + 1);
    size_t got = 0;
    ssize_t r = -1;
    while (p && got < FILE_MAX_BYTES && (r = read(fd, p + got, FILE_MAX_BYTES - got)) > 0)
        got += (size_t)r;
    int err = !p ? -ENOMEM : r < 0 ? -errno : 0;
    close(fd);
    if (err) {
        free(p);
        return err;
    }
    p[got] = 0;
    *out = p;
    *n = got;
    return 0;
}

static void identity_line(struct identity *id, char *line)
{
    char *eq = strchr(line, '=');
    if (!eq)
        return;
    *eq = 0;
    struct {
        const char *key;
        char **to;
    } texts[] = {{"url", &id->url},
                 {"account", &id->account},
                 {"device_name", &id->device_name},
                 {"credential", &id->credential}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(line, texts[i].key) == 0 && !*texts[i].to)
            *texts[i].to = strdup(eq + 1);
    if (strcmp(line, "device") == 0)
        id->device = (uint32_t)strtoul(eq + 1, NULL, 10);
}

static int file_put(const char *state, const char *name, const void *p, size_t n)
{
    char *path, *temp;
    if (asprintf(&path, "%s/%s", state, name) < 0)
        return -ENOMEM;
    if (asprintf(&temp, "%s.new", path) < 0) {
        free(path);
        return -ENOMEM;
    }
    int err = 0, fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, p, n) != (ssize_t)n || fsync(fd) || rename(temp, path))
        err = errno ? -errno : -EIO;
    if (fd >= 0)
        close(fd);
    free(path);
    free(temp);
    return err;
}

/* A copy with its checksum lies beside: an incarnation that was damaged would look like another
 * device's state. */
struct incarnation_copy {
    uint8_t bytes[INCARNATION_LEN];
    struct block_id sum;
};

static int incarnation_load(struct identity *id, const char *state)
{
    struct incarnation_copy copy;
    char *text = NULL, *other = NULL;
    size_t n = 0, m = 0;
    bool there = slurp(state, "incarnation", &text, &n) == 0 && n == INCARNATION_LEN;
    bool sound = slurp(state, "incarnation.copy", &other, &m) == 0 && m == sizeof copy;
    if (sound) {
        memcpy(&copy, other, sizeof copy);
        sound = block_id_matches(&copy.sum, copy.bytes, sizeof copy.bytes);
    }
    id->known = there || sound;
    if (id->known)
        memcpy(id->incarnation, sound ? (const char *)copy.bytes : text, INCARNATION_LEN);
    else
        random_bytes(id->incarnation, INCARNATION_LEN);
    int err = 0;
    if (!there || memcmp(text, id->incarnation, INCARNATION_LEN) != 0)
        err = file_put(state, "incarnation", id->incarnation, INCARNATION_LEN);
    if (!err && !sound) {
        memcpy(copy.bytes, id->incarnation, sizeof copy.bytes);
        block_id_of(&copy.sum, copy.bytes, sizeof copy.bytes);
        err = file_put(state, "incarnation.copy", &copy, sizeof copy);
    }
    free(text);
    free(other);
    return err;
}

int identity_load(struct identity *id, const char *state, const char *host, char *err)
{
    *id = (struct identity){0};
    char *text, *save = NULL;
    size_t n;
    int r = slurp(state, "identity", &text, &n);
    if (r == -ENOENT)
        return say(err, r, "not logged in to %s: run `steadfs login INVITATION`", host);
    if (r)
        return say(err, r, "cannot read %s/identity: %s", state, strerror(-r));
    for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
        identity_line(id, l);
    free(text);
    if (!id->url || !id->account || !id->credential || !id->device) {
        identity_free(id);
        return say(err, -EINVAL, "%s/identity is damaged: run `steadfs login INVITATION` again",
                   state);
    }
    if (!id->device_name)
        id->device_name = strdup("device");
    r = slurp(state, "ca.pem", &id->ca_pem, &n);
    if (r && (r != -ENOENT || strncmp(id->url, "https:", 6) == 0)) {
        identity_free(id);
        return say(err, r, "cannot read %s/ca.pem: %s; run `steadfs login INVITATION` again", state,
                   strerror(-r));
    }
    r = incarnation_load(id, state);
    if (r) {
        identity_free(id);
        return say(err, r, "cannot write %s/incarnation: %s", state, strerror(-r));
    }
    return 0;
}

void identity_free(struct identity *id)
{
    free(id->url);
    free(id->account);
    free(id->device_name);
    if (id->credential)
        explicit_bzero(id->credential, strlen(id->credential));
    free(id->credential);
    free(id->ca_pem);
    *id = (struct identity){0};
}

int identity_find(char **state, const char *account, const char *host, unsigned port, char *err)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char *base = NULL, suffix[300];
    int n = xdg && *xdg == '/' ? asprintf(&base, "%s/steadfs", xdg)
                               : asprintf(&base, "%s/.local/state/steadfs", home ? home : "");
    if (n < 0)
        return say(err, -ENOMEM, "out of memory");
    snprintf(suffix, sizeof suffix, "@%s:%u", host, port);
    *state = NULL;
    int r = 0;
    if (account) {
        if (asprintf(state, "%s/%s%s", base, account, suffix) < 0)
            r = -ENOMEM;
    } else {
        DIR *d = opendir(base);
        struct dirent *e;
        while (d && !r && (e = readdir(d))) {
            size_t el = strlen(e->d_name), sl = strlen(suffix);
            if (el <= sl || strcmp(e->d_name + el - sl, suffix) != 0)
                continue;
            if (*state)
                r = say(err, -EEXIST,
                        "several accounts are logged in to %s: say which, ACCOUNT@%s:%u", host,
                        host, port);
            else if (asprintf(state, "%s/%s", base, e->d_name) < 0)
                r = -ENOMEM;
        }
        if (d)
            closedir(d);
    }
    struct stat st;
    if (!r && (!*state || stat(*state, &st)))
        r = say(err, -ENOENT, "not logged in to %s%s: run `steadfs login INVITATION`",
                account ? account : "", suffix + !account);
    free(base);
    if (r) {
        free(*state);
        *state = NULL;
    }
    return r;
}

void state_lock_note(int fd, const char *what, const char *mountpoint)
{
    char *text;
    int n = asprintf(&text, "%s\n%s\n%d\n", what, mountpoint, (int)getpid());
    if (n < 0)
        return;
    if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n)
        errno = 0; /* the note only serves messages */
    free(text);
}

static int lock_wait(int fd, unsigned ms)
{
    for (unsigned waited = 0; flock(fd, LOCK_EX | LOCK_NB); waited += 20) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return -errno;
        if (waited >= ms)
            return -EBUSY;
        usleep(20000);
    }
    return 0;
}

int state_lock(int *out, const char *state, const char *mountpoint, char *err)
{
    char *path;
    if (asprintf(&path, "%s/lock", state) < 0)
        return say(err, -ENOMEM, "out of memory");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), r;
    if (fd < 0) {
        r = say(err, -errno, "cannot open %s: %s", path, strerror(errno));
        free(path);
        return r;
    }
    free(path);
    r = lock_wait(fd, 0);
    if (r == -EBUSY) {
        char note[600] = "", answer[512] = "";
        ssize_t n = pread(fd, note, sizeof note - 1, 0);
        note[n > 0 ? n : 0] = 0;
        char *save = NULL, *what = strtok_r(note, "\n", &save),
             *where = strtok_r(NULL, "\n", &save);
        if (what && strcmp(what, "finishing") == 0 &&
            control_ask(state, "handover", 5000, answer, sizeof answer) == 0)
            r = lock_wait(fd, HANDOVER_MS);
        else /* the threads of a killed process may take a moment to be gone */
            r = lock_wait(fd, KILLED_MS);
        if (r)
            say(err, r, "%s is in use by the mount at %s: unmount it first", state,
                where ? where : "another place");
    } else if (r) {
        say(err, r, "cannot lock %s/lock: %s", state, strerror(-r));
    }
    if (r) {
        close(fd);
        return r;
    }
    state_lock_note(fd, "serving", mountpoint);
    *out = fd;
    return 0;
}
