// SPDX-License-Identifier: Apache-2.0
/* sim: runs seeds, says which fail and why, and makes a failing run small.
 *
 *   sim --seeds A-B [--steps N] [--clients N] [--trace] [--verbose] [--shrink] [--quiet]
 *
 * Exit status 1 when a seed failed. Every 16th seed is run twice: the same seed must be the same
 * run.
 */
#include "sim.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STEPS_DEFAULT 400
#define STEPS_MAX 100000
#define SHOWN_LINES 60
#define FAILURES_MAX 20 /* then it stops */
#define TWICE_EVERY 16
#define KIND_LEN 30 /* a shrunk run must fail with the same beginning of its reason */

struct args {
    uint64_t from, to;
    struct options o;
    bool shrink;
};

static void show_log(const struct sim *s, size_t lines)
{
    size_t n = s->log_n < lines ? s->log_n : lines;
    for (size_t i = s->log_n - n; i < s->log_n; i++)
        printf("    %s\n", s->log[i % LOG_LINES]);
}

/* What kind of failure it is: the words without the numbers. */
static void kind_of(const char *why, char out[48])
{
    size_t n = 0;
    for (; *why && n < 47; why++)
        if (!strchr("0123456789", *why))
            out[n++] = *why;
    out[n] = 0;
}

static bool fails_alike(struct sim *s, const struct installation *inst, uint64_t seed,
                        const struct options *o, const char *kind)
{
    char now[48];
    if (sim_run(s, inst, seed, o))
        return false;
    kind_of(s->why, now);
    return strncmp(now, kind, KIND_LEN) == 0;
}

/* Leaves steps out as long as it fails; first many at once, then one by one. */
static void shrink(struct sim *s, const struct installation *inst, uint64_t seed,
                   const struct options *o)
{
    struct options small = *o;
    uint8_t *skip = calloc(1, o->steps);
    char kind[48];
    kind_of(s->why, kind);
    if (!skip)
        abort();
    small.skip = skip;
    small.verbose = false;
    small.trace = false;
    if (s->step < small.steps)
        small.steps = s->step + 1;
    for (unsigned chunk = small.steps / 2; chunk; chunk = chunk > 1 ? chunk / 2 : 0)
        for (bool again = true; again;) {
            again = false;
            for (unsigned at = 0; at < small.steps; at += chunk) {
                unsigned n = at + chunk < small.steps ? chunk : small.steps - at;
                uint8_t before[STEPS_MAX / 64 + 64];
                uint8_t *kept = n <= sizeof before ? before : malloc(n);
                memcpy(kept, skip + at, n);
                bool all = memchr(skip + at, 0, n) == NULL;
                memset(skip + at, 1, n);
                if (!all && !fails_alike(s, inst, seed, &small, kind))
                    memcpy(skip + at, kept, n);
                else if (!all)
                    again = chunk == 1;
                if (kept != before)
                    free(kept);
            }
        }
    while (small.steps && skip[small.steps - 1])
        small.steps--;
    small.verbose = true;
    if (sim_run(s, inst, seed, &small))
        printf("  (the shrunk run does not fail: a run depends on more than its seed)\n");
    unsigned left = 0;
    for (unsigned i = 0; i < small.steps; i++)
        left += !skip[i];
    printf("  shrunk to %u steps: %s\n", left, s->why);
    show_log(s, LOG_LINES);
    free(skip);
}

static bool one_seed(struct sim *s, const struct installation *inst, const struct args *a,
                     uint64_t seed)
{
    struct options o = a->o;
    if (sim_run(s, inst, seed, &o)) {
        uint64_t hash = s->hash;
        if (seed % TWICE_EVERY == 0) {
            sim_run(s, inst, seed, &o);
            if (s->hash != hash) {
                printf("seed %llu: the second run differs from the first\n",
                       (unsigned long long)seed);
                return false;
            }
        }
        if (o.verbose)
            printf("seed %llu: %lu operations, %lu commits, %lu conflicts, %lu copies, %lu fsyncs, "
                   "%lu crashes,"
                   " %lu records, %lu loads\n",
                   (unsigned long long)seed, s->count.ops, s->count.commits, s->count.conflicts,
                   s->count.copies, s->count.fsyncs, s->count.crashes, s->count.records,
                   s->count.loads);
        return true;
    }
    printf("seed %llu failed at step %u: %s\n", (unsigned long long)seed, s->step, s->why);
    if (a->shrink) {
        shrink(s, inst, seed, &o);
    } else if (o.verbose) {
        show_log(s, SHOWN_LINES);
    }
    fflush(stdout);
    return false;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: sim --seeds A-B [--steps N] [--clients N] [--trace] [--verbose] [--shrink]\n");
    return 2;
}

static int parse(int argc, char **argv, struct args *a)
{
    static const struct option longs[] = {{"seeds", required_argument, NULL, 's'},
                                          {"steps", required_argument, NULL, 'n'},
                                          {"clients", required_argument, NULL, 'c'},
                                          {"trace", no_argument, NULL, 't'},
                                          {"verbose", no_argument, NULL, 'v'},
                                          {"shrink", no_argument, NULL, 'k'},
                                          {NULL, 0, NULL, 0}};
    int opt;
    char *end;
    while ((opt = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (opt) {
        case 's':
            a->from = a->to = strtoull(optarg, &end, 10);
            if (*end == '-')
                a->to = strtoull(end + 1, &end, 10);
            if (*end)
                return usage();
            break;
        case 'n':
            a->o.steps = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'c':
            a->o.clients = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 't':
            a->o.trace = true;
            break;
        case 'v':
            a->o.verbose = true;
            break;
        case 'k':
            a->shrink = true;
            break;
        default:
            return usage();
        }
    }
    if (optind != argc || a->from > a->to || a->o.clients < 1 || a->o.clients > CLIENTS_MAX ||
        a->o.steps < 1 || a->o.steps > STEPS_MAX)
        return usage();
    return 0;
}

int main(int argc, char **argv)
{
    struct args a = {.from = 1, .to = 100, .o = {.clients = 2, .steps = STEPS_DEFAULT}};
    int err = parse(argc, argv, &a);
    if (err)
        return err;
    struct timespec t0, t1;
    clock_gettime(CLOCK_MONOTONIC, &t0);
    struct installation *inst = installation_new(CLIENTS_MAX);
    struct sim *s = sim_new();
    unsigned long run = 0, failed = 0, ops = 0, commits = 0, conflicts = 0, copies = 0, fsyncs = 0,
                  crashes = 0;
    for (uint64_t seed = a.from; seed <= a.to && failed < FAILURES_MAX; seed++) {
        failed += !one_seed(s, inst, &a, seed);
        run++;
        ops += s->count.ops;
        commits += s->count.commits;
        conflicts += s->count.conflicts;
        copies += s->count.copies;
        fsyncs += s->count.fsyncs;
        crashes += s->count.crashes;
    }
    clock_gettime(CLOCK_MONOTONIC, &t1);
    printf(
        "%lu seeds, %lu failed; %lu operations, %lu commits, %lu conflicts, %lu copies, %lu fsyncs,"
        " %lu crashes; %.1f s\n",
        run, failed, ops, commits, conflicts, copies, fsyncs, crashes,
        (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9);
    sim_free(s);
    installation_free(inst);
    return failed ? 1 : 0;
}
