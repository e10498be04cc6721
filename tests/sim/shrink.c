// SPDX-License-Identifier: Apache-2.0
/* Makes a failing run small: steps are left out as long as it fails for the same reason, first many
 * at once, then one by one; then accidents are left out of the steps that stay. A step draws from a
 * generator of its own, so that what is left out does not change the others.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIND_LEN 30 /* the same beginning of the reason */
#define TRIES_MAX 6000

struct shrinking {
    struct sim *s;
    const struct installation *inst;
    struct options o;
    uint8_t *skip;
    char kind[48];
    unsigned tries;
};

/* What kind of failure it is: the words without the numbers. */
static void kind_of(const char *why, char out[48])
{
    size_t n = 0;
    for (; *why && n < 47; why++)
        if (!strchr("0123456789abcdef", *why))
            out[n++] = *why;
    out[n] = 0;
}

static bool fails_alike(struct shrinking *k)
{
    char now[48];
    if (k->tries++ > TRIES_MAX || sim_run(k->s, k->inst, k->s->seed, &k->o))
        return false;
    kind_of(k->s->why, now);
    return strncmp(now, k->kind, KIND_LEN) == 0;
}

/* Tries the value for [at, at+n); true: it stays, and is new. */
static bool try_skip(struct shrinking *k, unsigned at, unsigned n, uint8_t value)
{
    uint8_t *before = malloc(n);
    bool new = false;
    if (!before)
        abort();
    memcpy(before, k->skip + at, n);
    for (unsigned i = at; i < at + n; i++)
        if (k->skip[i] != 1 && k->skip[i] != value) {
            k->skip[i] = value;
            new = true;
        }
    if (new && !fails_alike(k)) {
        memcpy(k->skip + at, before, n);
        new = false;
    }
    free(before);
    return new;
}

static void pass(struct shrinking *k, uint8_t value)
{
    for (unsigned chunk = k->o.steps / 2; chunk; chunk /= 2)
        for (bool again = true; again;) {
            again = false;
            for (unsigned at = 0; at < k->o.steps; at += chunk) {
                unsigned n = at + chunk < k->o.steps ? chunk : k->o.steps - at;
                again = try_skip(k, at, n, value) || again;
            }
            again = again && chunk == 1;
        }
}

void shrink_show(const struct sim *s)
{
    size_t n = s->log_n < LOG_LINES ? s->log_n : LOG_LINES;
    for (size_t i = s->log_n - n; i < s->log_n; i++) {
        const char *line = s->log[i % LOG_LINES];
        if (!strstr(line, "calls list") && !strstr(line, "does list"))
            printf("    %s\n", line);
    }
}

void shrink_run(struct sim *s, const struct installation *inst, uint64_t seed,
                const struct options *o)
{
    struct shrinking k = {.s = s, .inst = inst, .o = s->opt};
    (void)seed;
    kind_of(s->why, k.kind);
    k.skip = calloc(1, s->opt.steps + 1);
    if (!k.skip)
        abort();
    k.o.skip = k.skip;
    k.o.verbose = k.o.trace = false;
    pass(&k, 1);
    pass(&k, 2);
    k.o.verbose = true;
    if (sim_run(s, inst, s->seed, &k.o))
        printf("  (the shrunk run does not fail: a run depends on more than its seed)\n");
    unsigned left = 0;
    for (unsigned i = 0; i < k.o.steps; i++)
        left += k.skip[i] != 1;
    printf("  shrunk to %u steps: %s\n", left, s->why);
    shrink_show(s);
    s->opt = *o;
    free(k.skip);
}
