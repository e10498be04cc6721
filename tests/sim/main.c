// SPDX-License-Identifier: Apache-2.0
/* sim: runs seeds, says which fail and why, and makes a failing run small.
 *
 *   sim [--seeds A[-B]] [--hours H] [--jobs N] [--clients N] [--steps N] [--failures N]
 *       [--restores] [--no-shrink] [--verbose] [--trace]
 *
 * --restores puts the metadata server's database back in every run: a seed is another run then.
 *
 * --hours goes on until the time is over, from seed A on (otherwise from one that the clock gives,
 * and says which), on all processors unless --jobs says otherwise; with both ends of --seeds it is
 * the most that these may take. Every 64th seed is run twice: the same seed must be the same run.
 * Exit status 1 when a seed failed.
 *
 * Jobs are processes; each takes every N-th seed, and counts in memory that all share.
 */
#include "sim.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STEPS_MAX 100000
#define JOBS_MAX 256
#define FAILURES_MAX 1000
#define TWICE_EVERY 64
#define PROGRESS_S 60

struct args {
    uint64_t from, to;
    double hours;
    unsigned jobs, failures; /* failures: of a job; then it stops */
    struct options o;
    bool shrink, from_given, to_given;
};

struct tally { /* of one job, in shared memory */
    unsigned long run, failed;
    struct counts count;
};

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
    (void)sig;
    stopped = 1;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- one seed -------------------------------------------------------------------------------- */
static bool one_seed(struct sim *s, const struct installation *inst, const struct args *a,
                     uint64_t seed)
{
    if (sim_run(s, inst, seed, &a->o)) {
        uint64_t hash = s->hash;
        if (a->o.verbose)
            shrink_show(s);
        if (seed % TWICE_EVERY)
            return true;
        sim_run(s, inst, seed, &a->o);
        if (s->hash == hash)
            return true;
        printf("seed %llu: the second run differs from the first\n", (unsigned long long)seed);
        fflush(stdout);
        return false;
    }
    printf("seed %llu failed at step %u: %s\n", (unsigned long long)seed, s->step, s->why);
    fflush(stdout);
    if (a->shrink)
        shrink_run(s, inst, seed, &a->o);
    else if (a->o.verbose)
        shrink_show(s);
    fflush(stdout);
    return false;
}

static void job(const struct args *a, unsigned k, struct tally *t)
{
    double end = now_s() + a->hours * 3600;
    struct installation *inst = installation_new();
    struct sim *s = sim_new();
    for (uint64_t seed = a->from + k; seed <= a->to && !stopped; seed += a->jobs) {
        if (t->failed >= a->failures || (a->hours > 0 && now_s() >= end))
            break;
        t->failed += !one_seed(s, inst, a, seed);
        t->run++;
        counts_add(&t->count, &s->count);
    }
    sim_free(s);
    installation_free(inst);
}

/* ---- all of them ----------------------------------------------------------------------------- */
static struct tally sum(const struct tally *t, unsigned n)
{
    struct tally all = {0};
    for (unsigned k = 0; k < n; k++) {
        all.run += t[k].run;
        all.failed += t[k].failed;
        counts_add(&all.count, &t[k].count);
    }
    return all;
}

static unsigned long report(const struct tally *t, unsigned n, double seconds)
{
    struct tally all = sum(t, n);
    const struct counts *c = &all.count;
    printf("%lu seeds, %lu failed; %lu operations, %lu commits, %lu conflicts, %lu copies, %lu"
           " refused, %lu parked, %lu fsyncs, %lu crashes, %lu storages lost, %lu resyncs,"
           " %lu blocks brought, %lu removed, %lu given back, %lu databases put back; %.1f s,"
           " %.0f a second\n",
           all.run, all.failed, c->ops, c->commits, c->conflicts, c->copies, c->refused, c->parked,
           c->fsyncs, c->crashes, c->lost, c->resyncs, c->brought, c->removed, c->given_back,
           c->restores, seconds, (double)all.run / (seconds > 0 ? seconds : 1));
    fflush(stdout);
    return all.failed;
}

/* Waits for the jobs; a line a minute. A job that dies counts as a failed seed. */
static void wait_for(const struct args *a, const pid_t *jobs, struct tally *t, double began)
{
    double next = began + PROGRESS_S;
    unsigned left = a->jobs;
    bool told = false;
    while (left) {
        int status = 0;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        for (unsigned k = 0; stopped && !told && k < a->jobs; k++)
            kill(jobs[k], SIGTERM);
        told = stopped;
        if (pid > 0) {
            left--;
            if (!WIFEXITED(status) || WEXITSTATUS(status)) {
                printf("a job died (status %d)\n", status);
                t[0].failed++;
            }
            continue;
        }
        usleep(200000);
        if (now_s() >= next) {
            report(t, a->jobs, now_s() - began);
            next += PROGRESS_S;
        }
    }
}

static int run_all(const struct args *a)
{
    double began = now_s();
    struct tally *t =
        mmap(NULL, a->jobs * sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (t == MAP_FAILED)
        abort();
    if (a->jobs == 1) {
        job(a, 0, t);
    } else {
        pid_t jobs[JOBS_MAX];
        for (unsigned k = 0; k < a->jobs; k++) {
            fflush(stdout);
            jobs[k] = fork();
            if (jobs[k] < 0)
                abort();
            if (jobs[k] == 0) {
                job(a, k, &t[k]);
                fflush(stdout);
                _exit(0);
            }
        }
        wait_for(a, jobs, t, began);
    }
    unsigned long failed = report(t, a->jobs, now_s() - began);
    munmap(t, a->jobs * sizeof *t);
    return failed ? 1 : 0;
}

/* ---- arguments ------------------------------------------------------------------------------- */
static int usage(void)
{
    fprintf(stderr, "usage: sim [--seeds A[-B]] [--hours H] [--jobs N] [--clients N] [--steps N]"
                    " [--failures N] [--restores] [--no-shrink] [--verbose] [--trace]\n");
    return 2;
}

static bool number(const char *text, unsigned max, unsigned *out)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    *out = (unsigned)v;
    return *text && !*end && v >= 1 && v <= max;
}

static bool seeds(const char *text, struct args *a)
{
    char *end;
    a->from = a->to = strtoull(text, &end, 10);
    a->from_given = end != text;
    a->to_given = *end == '-';
    if (a->to_given)
        a->to = strtoull(end + 1, &end, 10);
    return !*end && a->from <= a->to;
}

static bool option(int opt, struct args *a)
{
    char *end;
    switch (opt) {
    case 's':
        return seeds(optarg, a);
    case 'h':
        a->hours = strtod(optarg, &end);
        return !*end && a->hours > 0;
    case 'j':
        return number(optarg, JOBS_MAX, &a->jobs);
    case 'f':
        return number(optarg, FAILURES_MAX, &a->failures);
    case 'n':
        return number(optarg, STEPS_MAX, &a->o.steps);
    case 'c':
        return number(optarg, CLIENTS_MAX, &a->o.clients);
    case 't':
        a->o.trace = true;
        return true;
    case 'v':
        a->o.verbose = true;
        return true;
    case 'r':
        a->o.restores = true;
        return true;
    case 'k':
        a->shrink = false;
        return true;
    default:
        return false;
    }
}

static bool parse(int argc, char **argv, struct args *a)
{
    static const struct option longs[] = {{"seeds", required_argument, NULL, 's'},
                                          {"hours", required_argument, NULL, 'h'},
                                          {"jobs", required_argument, NULL, 'j'},
                                          {"steps", required_argument, NULL, 'n'},
                                          {"clients", required_argument, NULL, 'c'},
                                          {"trace", no_argument, NULL, 't'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {"no-shrink", no_argument, NULL, 'k'},
                                          {"failures", required_argument, NULL, 'f'},
                                          {"restores", no_argument, NULL, 'r'},
                                          {NULL, 0, NULL, 0}};
    int opt;
    while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1)
        if (!option(opt, a))
            return false;
    if (a->hours > 0 && !a->to_given) {
        if (!a->from_given)
            a->from = (uint64_t)time(NULL) * 1000000;
        a->to = UINT64_MAX - JOBS_MAX;
        printf("from seed %llu on, for %.2f hours\n", (unsigned long long)a->from, a->hours);
    }
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (!a->jobs)
        a->jobs = a->hours > 0 && cpus > 1 && cpus <= JOBS_MAX ? (unsigned)cpus : 1;
    return optind == argc;
}

int main(int argc, char **argv)
{
    struct args a = {.from = 1, .to = 100, .failures = 20, .shrink = true};
    if (!parse(argc, argv, &a))
        return usage();
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    simvfs_quick();
    return run_all(&a);
}
