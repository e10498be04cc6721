// SPDX-License-Identifier: Apache-2.0
/* Parsing of the mount's command line.
 *
 * One table says for every name behind -o what becomes of it: a value of ours, a word for the
 * kernel (which mount(8) would handle if the filesystem were in the kernel), or nothing (words that
 * mount(8) and systemd read themselves, such as _netdev). An unknown name is an error: a misspelt
 * option that is ignored is worse than one that is refused.
 */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char mount_usage[] =
    "usage: mount.fuse.steadfs [ACCOUNT@]HOST[:PORT] MOUNTPOINT [-o OPTION,…] [-f]\n"
    "\n"
    "  -f                    stay in the foreground\n"
    "  -o state=DIR          state directory (default ~/.local/state/steadfs/ACCOUNT@HOST:PORT)\n"
    "     fsync=commit|local what a successful fsync means: committed at the servers (default), or "
    "on\n"
    "                        this machine's disk\n"
    "     close=async|local|commit\n"
    "                        what a successful close of a written file means: kept here, safe "
    "against a kill\n"
    "                        of the mount (default); or as fsync\n"
    "     coherence=cached|strict\n"
    "                        what an open, lookup or stat shows of other mounts' commits: they "
    "come\n"
    "                        within milliseconds (default), or all that were made before\n"
    "     locks=mount|global flock and fcntl locks count among the programs of this mount "
    "(default), or\n"
    "                        of all mounts that have the option\n"
    "     fsync_timeout=S    fsync, and close, fail with ETIMEDOUT after so many seconds (60); "
    "the\n"
    "                        change stays queued\n"
    "     timeout=S          reads and lookups fail with EIO after so many seconds (30)\n"
    "     connect_timeout=S  (5)\n"
    "     drain=S            how long unmounting goes on sending (60); the rest is kept\n"
    "     prefer=PREMISES    block servers there are tried first\n"
    "     copies=N           block servers that must hold a change before fsync returns (1)\n"
    "     race=PERCENT       what is late is asked of a second block server, as long as no more "
    "than\n"
    "                        this is fetched in vain (10); 0: not\n"
    "     cache_size=SIZE    block cache, with K, M, G or T (10G)\n"
    "     fill=names|no      names and attributes that nobody has asked for are loaded when there "
    "is\n"
    "                        nothing else to do (default), or only what is asked for\n"
    "     keep_free=SIZE     what unsent data leave free on the disk of the state directory (a "
    "sixteenth,\n"
    "                        64M at most); then writes fail with ENOSPC\n"
    "     dirty_max=SIZE     unwritten data held in memory (256M)\n"
    "     eager_put          upload small blocks while the question whether they are missing is "
    "under way\n"
    "     log=FILE trace=FILE log_level=error|warn|info|debug\n"
    "     owners=number|name owners are stored by their numbers (default), or by their names, so "
    "that\n"
    "                        they are the same people on machines with other numbers\n"
    "     uid=N gid=N        everything is shown as owned by them (default: the stored owners)\n"
    "     umask=OCTAL        permission bits that nothing has\n"
    "     allow_suid allow_dev   set-id programs and device nodes of the folder work (dev, suid: "
    "the "
    "same)\n"
    "     allow_other default_permissions ro remount nonempty fsname=NAME subtype=NAME, and what "
    "mount(8)\n"
    "     knows: noexec, noatime, _netdev, nofail, x-*\n";

static int say(char *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int say(char *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err, 512, fmt, ap);
    va_end(ap);
    return -EINVAL;
}

enum option_kind {
    O_PATH_,   /* char *: its value, which must not be empty */
    O_SECONDS, /* unsigned ms */
    O_COUNT,   /* unsigned, at least 1 */
    O_PERCENT, /* unsigned, 0 to 100 */
    O_ID,      /* uint32_t; sets the bool that belongs to it */
    O_BITS,    /* uint32_t, octal permissions */
    O_SIZE,    /* uint64_t */
    O_FLAG,    /* bool */
    O_FSYNC,   /* enum sync_mode */
    O_CLOSE,   /* … or async */
    O_LEVEL,   /* enum log_level */
    O_CHOICE,  /* bool: the second of two words */
    O_ATIME,   /* enum atime_mode, by the option's own name */
    O_KERNEL,  /* passed on */
    O_IGNORE,
};
struct option_row {
    const char *name;
    enum option_kind kind;
    size_t offset;        /* in mount_args */
    const char *words[2]; /* O_CHOICE: false, true */
};
#define AT(f) offsetof(struct mount_args, f)
static const struct option_row rows[] = {
    {"state", O_PATH_, AT(fs.state)},
    {"fsync", O_FSYNC, AT(fs.fsync)},
    {"close", O_CLOSE, AT(fs.close)},
    {"coherence", O_CHOICE, AT(fs.strict), {"cached", "strict"}},
    {"locks", O_CHOICE, AT(fs.global_locks), {"mount", "global"}},
    {"fsync_timeout", O_SECONDS, AT(fs.fsync_timeout_ms)},
    {"timeout", O_SECONDS, AT(fs.timeout_ms)},
    {"connect_timeout", O_SECONDS, AT(fs.connect_timeout_ms)},
    {"drain", O_SECONDS, AT(fs.drain_ms)},
    {"prefer", O_PATH_, AT(fs.prefer)},
    {"copies", O_COUNT, AT(fs.copies)},
    {"race", O_PERCENT, AT(fs.race_percent)},
    {"cache_size", O_SIZE, AT(fs.cache_size)},
    {"fill", O_CHOICE, AT(fs.no_fill), {"names", "no"}},
    {"keep_free", O_SIZE, AT(fs.keep_free)},
    {"dirty_max", O_SIZE, AT(fs.dirty_max)},
    {"owners", O_CHOICE, AT(fs.named_owners), {"number", "name"}},
    {"uid", O_ID, AT(fs.uid)},
    {"gid", O_ID, AT(fs.gid)},
    {"umask", O_BITS, AT(fs.umask)},
    {"allow_other", O_FLAG, AT(fs.allow_other)},
    {"default_permissions", O_FLAG, AT(fs.default_permissions)},
    {"ro", O_FLAG, AT(fs.read_only)},
    {"eager_put", O_FLAG, AT(fs.eager_put)},
    {"nonempty", O_FLAG, AT(nonempty)},
    {"remount", O_FLAG, AT(remount)},
    {"log", O_PATH_, AT(log)},
    {"log_level", O_LEVEL, AT(log_level)},
    {"trace", O_PATH_, AT(trace)},
    {"fsname", O_PATH_, AT(fs.source)},
    {"subtype", O_PATH_, AT(fs.subtype)},
    {"dev", O_KERNEL, 0},
    {"allow_dev", O_FLAG, AT(allow_dev)},
    {"nodev", O_KERNEL, 0},
    {"suid", O_KERNEL, 0},
    {"allow_suid", O_FLAG, AT(allow_suid)},
    {"nosuid", O_KERNEL, 0},
    {"exec", O_KERNEL, 0},
    {"noexec", O_KERNEL, 0},
    {"atime", O_ATIME, 0},
    {"noatime", O_ATIME, 0},
    {"sync", O_KERNEL, 0},
    {"async", O_KERNEL, 0},
    {"dirsync", O_KERNEL, 0},
    {"diratime", O_IGNORE, 0},
    {"nodiratime", O_IGNORE, 0},
    {"relatime", O_ATIME, 0},
    {"norelatime", O_IGNORE, 0},
    {"strictatime", O_ATIME, 0},
    {"lazytime", O_IGNORE, 0},
    {"rw", O_IGNORE, 0},
    {"defaults", O_IGNORE, 0},
    {"auto", O_IGNORE, 0},
    {"noauto", O_IGNORE, 0},
    {"user", O_IGNORE, 0},
    {"nouser", O_IGNORE, 0},
    {"users", O_IGNORE, 0},
    {"owner", O_IGNORE, 0},
    {"group", O_IGNORE, 0},
    {"_netdev", O_IGNORE, 0},
    {"nofail", O_IGNORE, 0},
    {"user_id", O_IGNORE, 0}, /* these come back from the kernel's table when remounting */
    {"group_id", O_IGNORE, 0},
    {"max_read", O_IGNORE, 0},
    {"comment", O_IGNORE, 0},
};

static const struct option_row *row_find(const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

static int number(const char *v, uint64_t *out, const char **rest)
{
    char *end;
    errno = 0;
    if (!isdigit((unsigned char)*v))
        return -EINVAL;
    unsigned long long n = strtoull(v, &end, 10);
    if (errno)
        return -EINVAL;
    *out = n;
    *rest = end;
    return 0;
}

static int size_value(const char *v, uint64_t *out)
{
    static const char units[] = "KMGT";
    const char *rest;
    if (number(v, out, &rest))
        return -EINVAL;
    unsigned shift = 0;
    if (*rest) {
        const char *u = strchr(units, toupper((unsigned char)*rest));
        if (!u || (rest[1] && strcmp(rest + 1, "iB") != 0 && strcmp(rest + 1, "B") != 0))
            return -EINVAL;
        shift = 10 * (unsigned)(u - units + 1);
    }
    if (*out > (UINT64_MAX >> 1) >> shift)
        return -EINVAL;
    *out <<= shift;
    return 0;
}

/* "30" or "0.5", in ms. */
static int seconds_value(const char *v, unsigned *out)
{
    char *end;
    if (!isdigit((unsigned char)*v))
        return -EINVAL;
    double s = strtod(v, &end);
    if (*end || s > 86400.0 * 365 / 10)
        return -EINVAL;
    *out = (unsigned)(s * 1000);
    return 0;
}

static int mode_value(const char *v, bool async, enum sync_mode *out)
{
    static const char *const words[] = {
        [SYNC_ASYNC] = "async", [SYNC_LOCAL] = "local", [SYNC_COMMIT] = "commit"};
    for (unsigned m = async ? SYNC_ASYNC : SYNC_LOCAL; m <= SYNC_COMMIT; m++)
        if (strcmp(v, words[m]) == 0) {
            *out = (enum sync_mode)m;
            return 0;
        }
    return -EINVAL;
}

static void kernel_add(struct fs_options *o, const char *word)
{
    char *joined;
    if (asprintf(&joined, "%s%s%s", o->kernel_options ? o->kernel_options : "",
                 o->kernel_options ? "," : "", word) < 0)
        abort();
    free(o->kernel_options);
    o->kernel_options = joined;
}

static void text_set(char **to, const char *v)
{
    free(*to);
    *to = strdup(v);
    if (!*to)
        abort();
}

/* The kernel keeps no access times of a FUSE filesystem; it shows what it was told. */
static void atime_apply(struct fs_options *o, const char *name)
{
    bool never = strcmp(name, "noatime") == 0, always = strcmp(name, "strictatime") == 0;
    o->atime = never ? ATIME_NEVER : always ? ATIME_ALWAYS : ATIME_RELATIVE;
    if (never || strcmp(name, "atime") == 0)
        kernel_add(o, name);
}

static int option_apply(struct mount_args *a, const struct option_row *r, const char *v, char *err)
{
    char *at = (char *)a + r->offset;
    uint64_t n;
    const char *rest;
    bool is_word = r->kind == O_FLAG || r->kind == O_KERNEL || r->kind == O_ATIME;
    bool takes_value = !is_word && r->kind != O_IGNORE;
    if (takes_value && !v)
        return say(err, "option %s needs a value: %s=…", r->name, r->name);
    if (is_word && v)
        return say(err, "option %s takes no value", r->name);
    switch (r->kind) {
    case O_PATH_:
        if (!*v)
            return say(err, "option %s needs a value", r->name);
        text_set((char **)(void *)at, v);
        return 0;
    case O_SECONDS:
        return seconds_value(v, (unsigned *)(void *)at)
                   ? say(err, "option %s: %s is not a number of seconds", r->name, v)
                   : 0;
    case O_COUNT:
        if (number(v, &n, &rest) || *rest || n < 1 || n > 16)
            return say(err, "option %s: %s is not a number from 1 to 16", r->name, v);
        *(unsigned *)(void *)at = (unsigned)n;
        return 0;
    case O_PERCENT:
        if (number(v, &n, &rest) || *rest || n > 100)
            return say(err, "option %s: %s is not a number from 0 to 100", r->name, v);
        *(unsigned *)(void *)at = (unsigned)n;
        return 0;
    case O_ID:
        if (number(v, &n, &rest) || *rest || n >= UINT32_MAX)
            return say(err, "option %s: %s is not a number of a user or group", r->name, v);
        *(uint32_t *)(void *)at = (uint32_t)n;
        *(r->offset == AT(fs.uid) ? &a->fs.set_uid : &a->fs.set_gid) = true;
        return 0;
    case O_BITS:
        n = strspn(v, "01234567");
        if (n == 0 || n > 4 || v[n] || strtoul(v, NULL, 8) > 0777)
            return say(err, "option %s: %s are not octal permissions such as 077", r->name, v);
        *(uint32_t *)(void *)at = (uint32_t)strtoul(v, NULL, 8);
        return 0;
    case O_SIZE:
        return size_value(v, (uint64_t *)(void *)at)
                   ? say(err, "option %s: %s is not a size such as 512M or 10G", r->name, v)
                   : 0;
    case O_FLAG:
        *(bool *)(void *)at = true;
        return 0;
    case O_FSYNC:
        return mode_value(v, false, (enum sync_mode *)(void *)at)
                   ? say(err, "option fsync: %s is neither commit nor local", v)
                   : 0;
    case O_CLOSE:
        return mode_value(v, true, (enum sync_mode *)(void *)at)
                   ? say(err, "option close: %s is none of async, local and commit", v)
                   : 0;
    case O_LEVEL:
        return log_level_of(v, (enum log_level *)(void *)at)
                   ? say(err, "option log_level: %s is none of error, warn, info and debug", v)
                   : 0;
    case O_CHOICE:
        *(bool *)(void *)at = strcmp(v, r->words[1]) == 0;
        if (!*(bool *)(void *)at && strcmp(v, r->words[0]) != 0)
            return say(err, "option %s: %s is neither %s nor %s", r->name, v, r->words[0],
                       r->words[1]);
        return 0;
    case O_ATIME:
        atime_apply(&a->fs, r->name);
        return 0;
    case O_KERNEL:
        kernel_add(&a->fs, r->name);
        return 0;
    case O_IGNORE:
        return 0;
    }
    return 0;
}

/* One word behind -o; `\,` was undone. */
static int option_word(struct mount_args *a, char *word, char *err)
{
    if (!*word || strncmp(word, "x-", 2) == 0 || strncmp(word, "X-", 2) == 0)
        return 0;
    char *eq = strchr(word, '=');
    if (eq)
        *eq = 0;
    const struct option_row *r = row_find(word);
    if (!r)
        return say(err, "unknown option: %s", word);
    return option_apply(a, r, eq ? eq + 1 : NULL, err);
}

static int option_list(struct mount_args *a, const char *list, char *err)
{
    char *word = malloc(strlen(list) + 1);
    if (!word)
        return say(err, "out of memory");
    int r = 0;
    for (const char *p = list; !r;) {
        size_t n = 0;
        for (; *p && *p != ','; p++) {
            if (*p == '\\' && (p[1] == ',' || p[1] == '\\'))
                p++;
            word[n++] = *p;
        }
        word[n] = 0;
        r = option_word(a, word, err);
        if (!*p++)
            break;
    }
    free(word);
    return r;
}

static int source_parse(struct mount_args *a, const char *text, char *err)
{
    const char *at = strrchr(text, '@');
    const char *host = at ? at + 1 : text, *host_end, *port = NULL;
    if (*host == '[') {
        host_end = strchr(++host, ']');
        if (!host_end)
            return say(err, "%s: a ] is missing", text);
        if (host_end[1] == ':')
            port = host_end + 2;
        else if (host_end[1])
            return say(err, "%s is not [ACCOUNT@]HOST[:PORT]", text);
    } else {
        host_end = strchrnul(host, ':');
        if (*host_end)
            port = host_end + 1;
    }
    uint64_t n = STEADFS_PORT;
    const char *rest = "";
    if (host == host_end || at == text || strchr(text, '/') ||
        (port && (number(port, &n, &rest) || *rest || n < 1 || n > 65535)))
        return say(err, "%s is not [ACCOUNT@]HOST[:PORT]", text);
    a->host = strndup(host, (size_t)(host_end - host));
    a->account = at ? strndup(text, (size_t)(at - text)) : NULL;
    a->port = (unsigned)n;
    if (!a->fs.source)
        text_set(&a->fs.source, text);
    return 0;
}

static void defaults(struct mount_args *a)
{
    *a = (struct mount_args){
        .log_level = LOG_L_INFO,
        .fs = {.fsync = SYNC_COMMIT,
               .close = SYNC_ASYNC,
               .fsync_timeout_ms = 60000,
               .timeout_ms = 30000,
               .connect_timeout_ms = 5000,
               .drain_ms = 60000,
               .copies = 1,
               .race_percent = 10,
               .cache_size = 10ull << 30,
               .dirty_max = 256ull << 20},
    };
}

/* Flags that take no value; several may share one dash. */
static int flags_parse(struct mount_args *a, const char *letters, char *err)
{
    for (; *letters; letters++) {
        switch (*letters) {
        case 'f':
            a->foreground = true;
            break;
        case 'r':
            a->fs.read_only = true;
            break;
        case 'w':
            a->fs.read_only = false;
            break;
        case 'n':
        case 's':
        case 'v':
            break;
        case 'h':
            a->help = true;
            break;
        case 'V':
            a->version = true;
            break;
        default:
            return say(err, "unknown flag -%c; see --help", *letters);
        }
    }
    return 0;
}

/* Others are let in as themselves: whose files are whose is looked at then. Without that each of
 * them could do all that the mount's user may. */
static void let_others_in(struct mount_args *a)
{
    a->fs.default_permissions |= a->fs.allow_other;
}

/* dev and suid by names that mount(8) leaves in place (it takes those two as understood, and they
 * are not); its nodev and nosuid still win. */
static void allow(struct mount_args *a)
{
    const char *have = a->fs.kernel_options ? a->fs.kernel_options : "";
    bool nosuid = strstr(have, "nosuid") != NULL, nodev = strstr(have, "nodev") != NULL;
    if (a->allow_suid && !nosuid)
        kernel_add(&a->fs, "suid");
    if (a->allow_dev && !nodev)
        kernel_add(&a->fs, "dev");
}

int mount_args_parse(struct mount_args *a, int argc, char *const *argv, char *err)
{
    const char *words[2];
    size_t words_n = 0;
    bool only_words = false;
    int r = 0;
    defaults(a);
    for (int i = 1; i < argc && !r; i++) {
        const char *w = argv[i];
        if (only_words || *w != '-' || !w[1]) {
            if (words_n == 2)
                r = say(err, "one argument too many: %s", w);
            else
                words[words_n++] = w;
        } else if (strcmp(w, "--") == 0) {
            only_words = true;
        } else if (strcmp(w, "--help") == 0) {
            a->help = true;
        } else if (strcmp(w, "--version") == 0) {
            a->version = true;
        } else if (w[1] == 'o' || w[1] == 't') {
            const char *v = w[2] ? w + 2 : i + 1 < argc ? argv[++i] : NULL;
            if (!v)
                r = say(err, "-%c needs a value", w[1]);
            else if (w[1] == 'o')
                r = option_list(a, v, err);
            else if (strncmp(v, "fuse.", 5) == 0 && v[5])
                text_set(&a->fs.subtype, v + 5);
        } else if (w[1] == '-') {
            r = say(err, "unknown option %s; see --help", w);
        } else {
            r = flags_parse(a, w + 1, err);
        }
    }
    if (!r && !a->help && !a->version) {
        if (words_n < 2)
            r = say(err, "needed: [ACCOUNT@]HOST[:PORT] MOUNTPOINT; see --help");
        else if (!*words[1])
            r = say(err, "the mount point is empty");
        else
            r = source_parse(a, words[0], err);
        if (!r) {
            text_set(&a->fs.mountpoint, words[1]);
            allow(a);
            let_others_in(a);
        }
    }
    if (r)
        mount_args_free(a);
    return r;
}

void mount_args_free(struct mount_args *a)
{
    char *const v[] = {a->fs.state,   a->fs.mountpoint,     a->fs.url,  a->fs.prefer, a->fs.source,
                       a->fs.subtype, a->fs.kernel_options, a->account, a->host,      a->log,
                       a->trace};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        free(v[i]);
    *a = (struct mount_args){0};
}
