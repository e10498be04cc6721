// SPDX-License-Identifier: Apache-2.0
/* mount.fuse.steadfs: from the command line to a served mount, and to its clean end.
 *
 * By default the program forks before it makes any thread. The parent waits on a pipe until the
 * child says how the start went: one byte of exit status and, if it failed, a line for people; a
 * child that dies silently counts as failed. SIGTERM, SIGINT and SIGHUP are taken by one thread,
 * which makes vfs_serve unmount; a second one ends the upload that follows. After the unmount the
 * process goes on sending for at most drain=S, with its control socket open and the lock's note
 * saying "finishing", and then ends; what is left stays in the state directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "identity.h"
#include "mountpoint.h"
#include "options.h"
#include "salvage.h"
#include "sync.h"
#include "tree.h"
#include "vfs.h"

/* As in the design's table of exit statuses. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNREACHABLE = 4, EXIT_REFUSED = 5 };

/* A new state directory waits so long for the metadata server, besides the time-out of a connect.
 */
#define LOCKS_END_MS 2000
#define FIRST_SESSION_MS 5000

struct program {
    struct mount_args args;
    struct fs fs;
    struct control *control;
    int lock_fd, report_fd; /* report_fd: to the parent, -1 in the foreground */
    pthread_t signals;
    bool signals_run, served;
    bool known; /* this state directory was mounted before */
    bool salvaged;
    struct salvage_result salvage;
    char err[512];
};

/* ---- reporting to the parent ---- */
static void report(struct program *p, int status)
{
    if (p->report_fd < 0) {
        if (status)
            fprintf(stderr, "mount.fuse.steadfs: %s\n", p->err);
        return;
    }
    char text[600];
    text[0] = (char)status;
    int n = snprintf(text + 1, sizeof text - 1, "%s", status ? p->err : "");
    if (write(p->report_fd, text, (size_t)n + 1) < 0)
        errno = 0; /* the parent was killed; the log has it too */
    close(p->report_fd);
    p->report_fd = -1;
}

static int parent_wait(int fd)
{
    char text[600];
    size_t n = 0;
    ssize_t r;
    while (n < sizeof text - 1 && (r = read(fd, text + n, sizeof text - 1 - n)) != 0) {
        if (r < 0 && errno != EINTR)
            break;
        n += r > 0 ? (size_t)r : 0;
    }
    text[n] = 0;
    if (n == 0) {
        fprintf(stderr, "mount.fuse.steadfs: the mount ended while it was starting; see its log\n");
        return EXIT_FAILED;
    }
    if (text[0])
        fprintf(stderr, "mount.fuse.steadfs: %s\n", text + 1);
    return text[0];
}

/* The child goes on; the parent ends here. */
static int daemonise(struct program *p)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC))
        return -errno;
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid) {
        close(fds[1]);
        _exit(parent_wait(fds[0]));
    }
    close(fds[0]);
    p->report_fd = fds[1];
    setsid();
    return 0;
}

/* Standard streams no longer belong to whoever called. */
static void streams_detach(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int k = 0; fd >= 0 && k < 3; k++)
        dup2(fd, k);
    if (fd > 2)
        close(fd);
}

static void mounted(void *arg)
{
    struct program *p = arg;
    bool daemon = p->report_fd >= 0;
    log_printf(p->fs.log, LOG_L_INFO, "mounted at %s", p->fs.opt.mountpoint);
    p->served = true;
    report(p, EXIT_DONE);
    if (daemon)
        streams_detach();
}

/* ---- signals ---- */
static void signal_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR2); /* from ourselves: no more signals are needed */
}

static void *signals_main(void *arg)
{
    struct program *p = arg;
    sigset_t set;
    signal_set(&set);
    for (unsigned n = 0;; n++) {
        int sig;
        if (sigwait(&set, &sig) || sig == SIGUSR2)
            return NULL;
        log_printf(p->fs.log, LOG_L_INFO, "signal %d: %s", sig,
                   n ? "ending at once" : "unmounting");
        vfs_stop(p->fs.vfs);
        if (n)
            sync_abandon(p->fs.sync);
    }
}

/* Before any thread is made: all inherit it, so that only signals_main takes them. */
static void signals_block(void)
{
    sigset_t set;
    signal_set(&set);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static int signals_start(struct program *p)
{
    int r = pthread_create(&p->signals, NULL, signals_main, p);
    p->signals_run = r == 0;
    return -r;
}

static void signals_end(struct program *p)
{
    if (!p->signals_run)
        return;
    pthread_kill(p->signals, SIGUSR2);
    pthread_join(p->signals, NULL);
    p->signals_run = false;
}

/* ---- parts ---- */
static int state_find(struct program *p)
{
    struct mount_args *a = &p->args;
    if (a->fs.state) {
        char *abs = realpath(a->fs.state, NULL);
        if (!abs) {
            if (errno == ENOENT)
                snprintf(p->err, sizeof p->err,
                         "%s does not exist: run `steadfs login INVITATION --state %s`",
                         a->fs.state, a->fs.state);
            else
                snprintf(p->err, sizeof p->err, "%s: %s", a->fs.state, strerror(errno));
            return -ENOENT;
        }
        free(a->fs.state);
        a->fs.state = abs;
        return 0;
    }
    return identity_find(&a->fs.state, a->account, a->host, a->port, p->err);
}

/* The state directory's identity belongs to whom the command line names. */
static int identity_check(struct program *p, const struct identity *id)
{
    const char *host = strstr(id->url, "://");
    char want[300];
    snprintf(want, sizeof want, strchr(p->args.host, ':') ? "[%s]:%u" : "%s:%u", p->args.host,
             p->args.port);
    host = host ? host + 3 : id->url;
    size_t n = strcspn(host, "/");
    if (strlen(want) != n || strncasecmp(want, host, n) != 0 ||
        (p->args.account && strcmp(p->args.account, id->account) != 0)) {
        snprintf(p->err, sizeof p->err, "%.200s is logged in to %.60s@%.*s, not to %.100s",
                 p->fs.opt.state, id->account, (int)n, host, p->fs.opt.source);
        return -EINVAL;
    }
    return 0;
}

static int log_start(struct program *p)
{
    char *path = p->args.log;
    if (!path && !p->args.foreground && asprintf(&path, "%s/mount.log", p->args.fs.state) < 0)
        return -ENOMEM;
    int r = log_open(&p->fs.log, "mount", path, p->args.trace, p->args.log_level);
    if (r)
        snprintf(p->err, sizeof p->err, "cannot open the log %s: %s", path ? path : "",
                 strerror(-r));
    if (path != p->args.log)
        free(path);
    return r;
}

static int identity_start(struct program *p, struct core_options *o)
{
    struct identity id;
    struct fs *fs = &p->fs;
    int r = identity_load(&id, fs->opt.state, p->args.host, p->err);
    if (r)
        return r;
    r = identity_check(p, &id);
    if (!r) {
        fs->opt.url = strdup(id.url);
        snprintf(fs->device_name, sizeof fs->device_name, "%s", id.device_name);
        snprintf(fs->account, sizeof fs->account, "%s", id.account);
        o->device = id.device;
        p->known = id.known;
        o->device_name = fs->device_name;
    }
    identity_free(&id);
    return r;
}

static int blocks_start(struct program *p)
{
    struct fs *fs = &p->fs;
    char *dir;
    size_t lost = 0;
    if (asprintf(&dir, "%s/blocks", fs->opt.state) < 0)
        return -ENOMEM;
    struct blocks_options o = {.dir = dir,
                               .cache_size = fs->opt.cache_size,
                               .keep_free = fs->opt.keep_free,
                               .log = fs->log};
    int r = blocks_open(&fs->blocks, &o, &lost);
    if (r == -EPROTONOSUPPORT)
        snprintf(p->err, sizeof p->err,
                 "the blocks in %.200s were written by a newer steadfs: update", dir);
    else if (r)
        snprintf(p->err, sizeof p->err, "cannot open the blocks in %.200s: %s", dir, strerror(-r));
    if (lost)
        log_printf(fs->log, LOG_L_ERROR, "%zu blocks that were not uploaded yet are damaged in %s",
                   lost, dir);
    free(dir);
    return r;
}

/* What nothing refers to any more after a salvage, this start's or one that ended too early, is
 * kept. */
static int salvage_end(struct program *p, const char *path)
{
    struct fs *fs = &p->fs;
    if (!p->salvaged && !blocks_salvage_due(fs->opt.state, path, &p->salvage))
        return 0;
    int r = blocks_salvage(path, fs->blocks, fs->core, &p->salvage);
    salvage_text(&p->salvage, fs->recovery);
    log_printf(fs->log, LOG_L_WARN, "%s", fs->recovery);
    if (r)
        snprintf(p->err, sizeof p->err, "saving unsent blocks in %.200s: %s", p->salvage.dir,
                 strerror(-r));
    return r;
}

static int tree_start(struct program *p, const char *path, uint32_t device)
{
    struct fs *fs = &p->fs;
    struct stat st;
    bool gone = p->known && (stat(path, &st) || st.st_size == 0);
    bool begun = tree_salvage_begun(path);
    int r = gone || begun ? -EUCLEAN : tree_open(&fs->tree, path, NULL, p->err);
    if (r == -EUCLEAN) {
        log_printf(fs->log, LOG_L_ERROR, "%s",
                   begun  ? "making the local tree anew was interrupted: it goes on"
                   : gone ? "the local tree is gone: it is made anew"
                          : p->err);
        r = tree_salvage(fs->opt.state, path, device, &p->salvage, p->err);
        p->salvaged = r == 0;
        if (!r)
            r = tree_open(&fs->tree, path, NULL, p->err);
    }
    return r;
}

static int core_open(struct program *p, struct core_options *o)
{
    struct fs *fs = &p->fs;
    o->clean_start = true; /* the tree itself knows whether it was closed */
    vfs_core_hooks(fs, &o->hooks);
    int r = core_new(&fs->core, fs->tree, o);
    int noted = r ? 0 : core_power_lost(fs->core, blocks_other_boot(fs->blocks), &fs->power_lost);
    if (noted)
        log_printf(fs->log, LOG_L_WARN, "it cannot be noted that power was lost: %s",
                   strerror(-noted));
    if (r) {
        snprintf(p->err, sizeof p->err, "cannot use %s/tree.db: %s", fs->opt.state, strerror(-r));
        tree_close(fs->tree);
    }
    return r;
}

static int core_start(struct program *p, struct core_options *o)
{
    char *path;
    if (asprintf(&path, "%s/tree.db", p->fs.opt.state) < 0)
        return -ENOMEM;
    int r = tree_start(p, path, o->device);
    if (!r)
        r = core_open(p, o);
    if (!r)
        r = salvage_end(p, path);
    free(path);
    return r;
}

static bool root_known(struct fs *fs)
{
    uint64_t ns, node;
    pthread_mutex_lock(&fs->lock);
    bool known = core_root(fs->core, &ns, &node) == 0;
    pthread_mutex_unlock(&fs->lock);
    return known;
}

static int parts_start(struct program *p)
{
    struct fs *fs = &p->fs;
    struct core_options o = {0};
    int r = identity_start(p, &o);
    if (!r)
        r = blocks_start(p);
    if (!r)
        r = core_start(p, &o);
    if (!r && (r = vfs_new(&fs->vfs, fs)))
        snprintf(p->err, sizeof p->err, "cannot start: %s", strerror(-r));
    if (!r)
        r = sync_new(&fs->sync, fs, p->err);
    if (!r)
        r = signals_start(p);
    if (!r)
        r = control_new(&p->control, fs, p->err);
    if (!r && !root_known(fs))
        r = sync_wait_session(fs->sync, fs->opt.connect_timeout_ms + FIRST_SESSION_MS, p->err);
    return r;
}

/* In the reverse order. */
static void parts_end(struct program *p)
{
    struct fs *fs = &p->fs;
    signals_end(p);
    if (p->control)
        control_free(p->control);
    if (fs->sync)
        sync_free(fs->sync);
    if (fs->vfs)
        vfs_free(fs->vfs);
    if (fs->core)
        core_free(fs->core);
    if (fs->blocks)
        blocks_close(fs->blocks);
    if (fs->log)
        log_close(fs->log);
    if (p->lock_fd >= 0)
        close(p->lock_fd);
    pthread_mutex_destroy(&fs->lock);
}

static int exit_status(int err)
{
    switch (err) {
    case 0:
        return EXIT_DONE;
    case -ECONNREFUSED:
    case -EHOSTUNREACH:
    case -ETIMEDOUT:
    case -ECONNRESET:
    case -EAGAIN:
        return EXIT_UNREACHABLE;
    case -EACCES:
    case -EPERM:
    case -EPROTO:
    case -EKEYREJECTED:
    case -EUCLEAN:
        return EXIT_REFUSED;
    default:
        return EXIT_FAILED;
    }
}

static int finish(struct program *p)
{
    struct fs *fs = &p->fs;
    state_lock_note(p->lock_fd, "finishing", fs->opt.mountpoint);
    control_finishing(p->control);
    char text[512];
    int r = sync_drain(fs->sync, fs->opt.drain_ms, NULL, NULL, text);
    sync_locks_end(fs->sync, LOCKS_END_MS);
    if (r)
        log_printf(fs->log, LOG_L_WARN, "%s: what is left is kept in %s%s", text, fs->opt.state,
                   r == -EREMOTEIO ? "" : " and sent at the next mount");
    else
        log_printf(fs->log, LOG_L_INFO, "unmounted, everything is sent");
    return 0;
}

static int run(struct program *p)
{
    struct fs *fs = &p->fs;
    int r = state_find(p);
    if (!r)
        r = mountpoint_check(&p->args.fs.mountpoint, p->args.nonempty, p->err);
    if (!r)
        r = log_start(p);
    if (!r)
        r = state_lock(&p->lock_fd, p->args.fs.state, p->args.fs.mountpoint, p->err);
    if (r)
        return exit_status(r == -EBUSY || r == -ENOENT || r == -EACCES || r == -EPERM ? -EINVAL
                                                                                      : r);
    fs->opt = p->args.fs;
    r = parts_start(p);
    if (!r) {
        r = vfs_serve(fs->vfs, mounted, p, p->err);
        if (r && p->served) { /* the mount worked and broke later: the log says so */
            log_printf(fs->log, LOG_L_ERROR, "%s", p->err);
            finish(p);
            return EXIT_FAILED;
        }
        if (r)
            return EXIT_FAILED;
    }
    if (r)
        return exit_status(r);
    return finish(p);
}

int main(int argc, char **argv)
{
    struct program p = {.lock_fd = -1, .report_fd = -1};
    pthread_mutex_init(&p.fs.lock, NULL);
    /* a batch of blocks is not given back to the system to be taken, and zeroed, again at once */
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 64 << 20);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); /* a lock for each allocation, to count them */
    if (mount_args_parse(&p.args, argc, argv, p.err)) {
        fprintf(stderr, "mount.fuse.steadfs: %s\n", p.err);
        return EXIT_USAGE;
    }
    if (p.args.help || p.args.version) {
        fputs(p.args.help ? mount_usage : "mount.fuse.steadfs " STEADFS_VERSION "\n", stdout);
        return EXIT_DONE;
    }
    if (p.args.remount) {
        int r = mountpoint_remount(p.args.fs.mountpoint, p.args.fs.kernel_options,
                                   p.args.fs.read_only, p.err);
        if (r)
            fprintf(stderr, "mount.fuse.steadfs: %s\n", p.err);
        mount_args_free(&p.args);
        return r ? EXIT_FAILED : EXIT_DONE;
    }
    if (!p.args.foreground && daemonise(&p)) {
        fprintf(stderr, "mount.fuse.steadfs: %s\n", strerror(errno));
        return EXIT_FAILED;
    }
    signals_block();
    umask(0077);
    int status = run(&p);
    if (!p.served) {
        if (p.fs.log)
            log_printf(p.fs.log, LOG_L_ERROR, "%s", p.err);
        report(&p, status);
    }
    parts_end(&p);
    if (p.fs.opt.url)
        p.args.fs.url = p.fs.opt.url;
    mount_args_free(&p.args);
    return status;
}
