// SPDX-License-Identifier: Apache-2.0
/* A new store is made under another name and renamed when it is whole, with the administrator's
 * credential written before: a start that was cut short leaves nothing that a later one would take
 * for an installation. */
#include "datadir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tls.h"
#include "walpair.h"

#define TEXT_MAX 65536

static char *join(const char *dir, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", dir, name) < 0)
        abort();
    return path;
}

static void free_text(void *p)
{
    free(*(void **)p);
}
#define cleanup_text __attribute__((cleanup(free_text)))

static int complain(char *err, const char *what, int error)
{
    snprintf(err, 512, "%.400s: %s%s", what, strerror(-error),
             error == -ENOSPC ? "; free some space" : "");
    return error;
}

static int sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = fd < 0 || fsync(fd) ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return err;
}

static char *read_text(const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return NULL;
    char *text = calloc(1, TEXT_MAX);
    if (!text)
        abort();
    size_t n = fread(text, 1, TEXT_MAX - 1, f);
    bool ok = !ferror(f) && n > 0;
    fclose(f);
    if (ok)
        return text;
    free(text);
    return NULL;
}

/* Replaces the file, durably. */
static int write_text(const char *dir, const char *name, mode_t mode, const char *text)
{
    cleanup_text char *path = join(dir, name);
    cleanup_text char *fresh = NULL;
    if (asprintf(&fresh, "%s.new", path) < 0)
        abort();
    unlink(fresh);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    size_t n = strlen(text);
    ssize_t put = fchmod(fd, mode) ? -1 : write(fd, text, n); /* whatever the umask */
    int err = put < 0 ? -errno : (size_t)put < n ? -ENOSPC : fsync(fd) ? -errno : 0;
    close(fd);
    if (!err && rename(fresh, path))
        err = -errno;
    return err ? err : sync_dir(dir);
}

static int take_lock(struct datadir *d, char *err)
{
    cleanup_text char *path = join(d->path, "lock");
    d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (d->lock_fd < 0)
        return complain(err, path, -errno);
    if (flock(d->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return complain(err, path, -errno);
    snprintf(err, 512, "%.400s is in use by another steadfs-metad", d->path);
    return -EBUSY;
}

static int load_ca(struct datadir *d, char *err)
{
    cleanup_text char *cert = join(d->path, "ca.pem");
    cleanup_text char *key = join(d->path, "ca.key");
    d->ca_pem = read_text(cert);
    d->ca_key_pem = read_text(key);
    if (d->ca_pem && d->ca_key_pem)
        return 0;
    cleanup_text char *store = join(d->path, "meta.db");
    if (!access(store, F_OK)) {
        snprintf(err, 512,
                 "%.400s: the certificate authority is missing or empty; bring it back from "
                 "a backup, clients trust no other",
                 d->ca_pem ? key : cert);
        return -ENOENT;
    }
    free(d->ca_pem);
    free(d->ca_key_pem);
    d->ca_pem = d->ca_key_pem = NULL;
    int e = tls_ca_new(&d->ca_pem, &d->ca_key_pem);
    if (!e)
        e = write_text(d->path, "ca.key", 0600, d->ca_key_pem);
    if (!e)
        e = write_text(d->path, "ca.pem", 0644, d->ca_pem);
    return e ? complain(err, cert, e) : 0;
}

static void remove_unfinished(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        cleanup_text char *name = NULL;
        if (asprintf(&name, "%s%s", path, suffixes[i]) < 0)
            abort();
        unlink(name);
    }
}

static int new_store(struct datadir *d, const struct meta_options *o, char *err)
{
    cleanup_text char *fresh = join(d->path, "meta.db.new");
    remove_unfinished(fresh);
    struct meta_options fo = *o;
    fo.path = fresh;
    fo.reader = false;
    struct meta *m;
    int e = meta_open(&m, &fo, err);
    if (e)
        return e;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    char credential[META_CREDENTIAL_MAX] = "", text[META_CREDENTIAL_MAX + 32];
    e = meta_init(m, (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000, credential, err);
    meta_close(m);
    if (e)
        return e;
    snprintf(text, sizeof text, "credential=%s\n", credential);
    e = write_text(d->path, "admin.credential", 0600, text);
    explicit_bzero(credential, sizeof credential);
    explicit_bzero(text, sizeof text);
    if (!e && rename(fresh, o->path))
        e = -errno;
    if (!e)
        e = sync_dir(d->path);
    return e ? complain(err, d->path, e) : 0;
}

int datadir_open(struct datadir *d, const char *path, struct meta_options *o, char *err)
{
    *d = (struct datadir){.lock_fd = -1};
    if (mkdir(path, 0700) && errno != EEXIST)
        return complain(err, path, -errno);
    d->path = realpath(path, NULL);
    if (!d->path)
        return complain(err, path, -errno);
    int e = take_lock(d, err);
    if (!e)
        e = load_ca(d, err);
    if (!e) {
        o->path = join(d->path, "meta.db");
        e = walpair_check(o->path, err);
    }
    if (!e) {
        walpair_changes(o->path);
        if (access(o->path, F_OK))
            e = errno == ENOENT ? new_store(d, o, err) : complain(err, o->path, -errno);
    }
    if (e)
        datadir_close(d);
    return e;
}

void datadir_close(struct datadir *d)
{
    if (d->lock_fd >= 0)
        close(d->lock_fd);
    if (d->ca_key_pem)
        explicit_bzero(d->ca_key_pem, strlen(d->ca_key_pem));
    free(d->ca_pem);
    free(d->ca_key_pem);
    free(d->path);
    *d = (struct datadir){.lock_fd = -1};
}

int datadir_certificate(const struct datadir *d, const char *names, char **cert_pem, char **key_pem)
{
    char *csr = NULL, *leaf = NULL;
    *cert_pem = *key_pem = NULL;
    char first[256]; /* longer ones are refused by tls_issue */
    snprintf(first, sizeof first, "%.*s", (int)strcspn(names, ","), names);
    int err = tls_csr_new(first, key_pem, &csr);
    if (!err)
        err = tls_issue(d->ca_pem, d->ca_key_pem, csr, names, &leaf);
    if (!err && asprintf(cert_pem, "%s%s", leaf, d->ca_pem) < 0)
        err = -ENOMEM;
    free(csr);
    free(leaf);
    if (err) {
        free(*key_pem);
        *key_pem = NULL;
    }
    return err;
}

int datadir_tell_admin(const struct datadir *d, const char *url, bool tls, char *err)
{
    cleanup_text char *path = join(d->path, "admin.credential");
    cleanup_text char *old = read_text(path);
    const char *credential = old ? strstr(old, "credential=") : NULL;
    if (!credential)
        return 0; /* taken away by the administrator, which is fine */
    char *text;
    if (asprintf(&text, "url=%s\n%.*s\n%s%s%s", url, (int)strcspn(credential, "\n"), credential,
                 tls ? "ca=" : "", tls ? d->path : "", tls ? "/ca.pem\n" : "") < 0)
        abort();
    int e = strcmp(text, old) ? write_text(d->path, "admin.credential", 0600, text) : 0;
    explicit_bzero(text, strlen(text));
    explicit_bzero(old, strlen(old));
    free(text);
    return e ? complain(err, path, e) : 0;
}
