// SPDX-License-Identifier: Apache-2.0
#include "storage_open.h"

#include "durable.h"
#include "storage_s3.h"
#include "token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHOICE_MAX 16384
#define REGION_DEFAULT "us-east-1"

enum { URL, ENDPOINT, REGION, CREDENTIALS, CA, FIELDS };
static const char *const names[FIELDS] = {"url", "endpoint", "region", "credentials", "ca"};

/* Lines name=value of an object store; malloc'd or NULL. */
struct choice {
    char *v[FIELDS];
};

static void choice_free(struct choice *c)
{
    for (int i = 0; i < FIELDS; i++)
        free(c->v[i]);
}
#define cleanup_choice __attribute__((cleanup(choice_free)))

static char *copy(const char *p, size_t n)
{
    char *c = strndup(p, n);
    if (!c)
        abort();
    return c;
}

/* -ENOENT: the blocks are in the directory itself, or are nowhere yet. */
static int choice_load(struct choice *c, const char *dir)
{
    struct buf text cleanup_buf = {0};
    int r = durable_read(dir, "storage", CHOICE_MAX, &text);
    if (r)
        return r;
    for (char *p = (char *)text.p; *p;) {
        size_t n = strcspn(p, "\n");
        for (int i = 0; i < FIELDS; i++) {
            size_t name_n = strlen(names[i]);
            if (n > name_n && !memcmp(p, names[i], name_n) && p[name_n] == '=' && !c->v[i])
                c->v[i] = copy(p + name_n + 1, n - name_n - 1);
        }
        p += n + (p[n] == '\n');
    }
    return c->v[URL] && c->v[ENDPOINT] ? 0 : -EBADMSG;
}

static int choice_save(const struct choice *c, const char *dir)
{
    struct buf b cleanup_buf = {0};
    for (int i = 0; i < FIELDS; i++)
        if (c->v[i])
            buf_printf(&b, "%s=%s\n", names[i], c->v[i]);
    return durable_write(dir, "storage", b.p, b.n, 0600);
}

/* What is asked for goes over what is stored; files by their full path. */
static int override(struct choice *c, int field, const char *value, char *err)
{
    if (!value)
        return 0;
    char *full =
        field == CREDENTIALS || field == CA ? realpath(value, NULL) : copy(value, strlen(value));
    if (!full || strchr(full, '\n')) {
        snprintf(err, 512, "cannot use %s: %s", value,
                 full ? "it holds a newline" : strerror(errno));
        free(full);
        return -EINVAL;
    }
    free(c->v[field]);
    c->v[field] = full;
    return 0;
}

static int read_credentials(struct s3_place *p, const char *path, char *err)
{
    struct buf text cleanup_buf = {0};
    if (!path) {
        const char *access = getenv("AWS_ACCESS_KEY_ID"), *secret = getenv("AWS_SECRET_ACCESS_KEY");
        if (access && *access && secret && *secret) {
            p->access_key = copy(access, strlen(access));
            p->secret_key = copy(secret, strlen(secret));
            return 0;
        }
        snprintf(err, 512,
                 "no keys for the object store: --s3-credentials FILE is needed, or "
                 "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment");
        return -EINVAL;
    }
    struct stat st;
    const char *slash = strrchr(path, '/');
    char *dir = copy(path, slash == path ? 1 : (size_t)(slash - path));
    int r = stat(path, &st) < 0 ? -errno : durable_read(dir, slash + 1, CHOICE_MAX, &text);
    free(dir);
    if (r)
        snprintf(err, 512, "cannot read %s: %s", path, strerror(-r));
    else if (st.st_mode & 077)
        snprintf(err, 512, "%s holds a secret and is open to others (chmod 600 it)", path);
    else if (!s3_credentials_parse(p, (char *)text.p))
        snprintf(err, 512, "%s needs lines access_key=… and secret_key=…", path);
    else
        return 0;
    return r ? r : -EINVAL;
}

static int make_place(struct s3_place *p, const struct choice *c, char *err)
{
    const char *endpoint = c->v[ENDPOINT], *region = c->v[REGION];
    if (!s3_place_parse(p, c->v[URL])) {
        snprintf(err, 512,
                 "--storage: %.300s is neither dir nor s3://BUCKET[/PREFIX], BUCKET of 3 to 63 "
                 "characters",
                 c->v[URL]);
        return -EINVAL;
    }
    size_t n = endpoint ? strlen(endpoint) : 0;
    while (n && endpoint[n - 1] == '/')
        n--;
    if (!endpoint ||
        (strncmp(endpoint, "http://", 7) != 0 && strncmp(endpoint, "https://", 8) != 0)) {
        snprintf(err, 512, "--s3-endpoint: http[s]://HOST[:PORT] is needed");
        return -EINVAL;
    }
    p->endpoint = copy(endpoint, n);
    region = region ? region : REGION_DEFAULT;
    p->region = copy(region, strlen(region));
    if (c->v[CA])
        p->ca_file = copy(c->v[CA], strlen(c->v[CA]));
    return read_credentials(p, c->v[CREDENTIALS], err);
}

static bool exists(const char *dir, const char *name)
{
    struct buf path cleanup_buf = {0};
    buf_printf(&path, "%s/%s", dir, name);
    buf_append(&path, "", 1);
    return access((char *)path.p, F_OK) == 0;
}

/* What the options and the directory say together. */
static int choose(struct choice *c, bool *s3, const struct storage_options *o, char *err)
{
    const char *asked[FIELDS] = {o->url, o->endpoint, o->region, o->credentials, o->ca};
    int r = choice_load(c, o->dir);
    bool chosen = !r;
    if (r && r != -ENOENT) {
        snprintf(err, 512, "cannot read %s/storage: %s", o->dir, strerror(-r));
        return r;
    }
    *s3 = o->url ? strcmp(o->url, "dir") != 0 : chosen;
    if (chosen ? o->url && strcmp(o->url, c->v[URL]) != 0 : *s3 && exists(o->dir, "index.db")) {
        snprintf(err, 512,
                 "the blocks of %s are in %s; a server's storage cannot be changed, add another "
                 "server instead",
                 o->dir, chosen ? c->v[URL] : "the directory itself");
        return -EINVAL;
    }
    r = 0;
    for (int i = 0; *s3 && !r && i < FIELDS; i++)
        r = override(c, i, asked[i], err);
    return r;
}

uint64_t storage_new_run(void)
{
    uint64_t run;
    do {
        random_bytes(&run, sizeof run);
        run >>= 1; /* databases have signed numbers */
    } while (!run);
    return run;
}

int storage_open(struct storage **out, const struct storage_options *o, char *err)
{
    struct choice c cleanup_choice = {{NULL}};
    struct s3_place place = {0};
    bool s3;
    *out = NULL;
    int r = choose(&c, &s3, o, err);
    if (r)
        return r;
    if (!s3) {
        r = storage_dir_open(out, o->dir, err);
        if (!r && (*out)->notice[0])
            log_printf(o->log, LOG_L_WARN, "%s", (*out)->notice);
        return r;
    }
    r = make_place(&place, &c, err);
    if (!r)
        r = storage_s3_open(out, o->dir, &place, 0, o->log, err);
    s3_place_free(&place);
    if (!r && (r = choice_save(&c, o->dir))) {
        snprintf(err, 512, "cannot write %s/storage: %s", o->dir, strerror(-r));
        (*out)->ops->close(*out);
        *out = NULL;
    }
    return r;
}

static int not_in_a_bucket(const char *dir, char *err)
{
    if (!exists(dir, "storage"))
        return 0;
    snprintf(
        err, 512,
        "the blocks of %s are in an object store; its index is made again from the bucket when "
        "the server starts without one",
        dir);
    return -EINVAL;
}

int storage_reindex(const char *dir, void (*each_dir)(void *arg, unsigned number, unsigned dirs),
                    void *arg, struct takein_sums *sums, char *err)
{
    int r = not_in_a_bucket(dir, err);
    return r ? r : takein_all(dir, each_dir, arg, sums, err);
}

int storage_drop_unclaimed(const char *dir, struct storage_collected *sums, char *err)
{
    int r = not_in_a_bucket(dir, err);
    return r ? r : takein_drop(dir, sums, err);
}

int storage_list(const char *dir,
                 void (*fn)(void *arg, const struct block_id *id, uint64_t stored_len), void *arg,
                 char *err)
{
    return exists(dir, "storage") ? storage_s3_list(dir, fn, arg, err)
                                  : storage_dir_list(dir, fn, arg, err);
}
