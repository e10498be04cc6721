// SPDX-License-Identifier: Apache-2.0
/* Being as new as the metadata server: what coherence=strict waits for.
 *
 * The question is a `list` from the cursor on: its answer says whether there is anything, and is it
 * at once. It must have been sent after somebody began to wait, because the answer to an earlier
 * one may have been written before what he has to see; so those who come while a `list` is out wait
 * for the next one together. Its records are applied like all others, and whoever waits goes on
 * when the last of them is.
 */
#include <errno.h>
#include <stdlib.h>

#include "sync_internal.h"

struct fresh_wait {
    struct waiter w;
    TAILQ_ENTRY(fresh_wait) ns_link;
    struct sync_ns *ns;
    uint64_t list; /* count of the first `list` that counts */
};

static void fresh_drop(struct sync *s, struct waiter *w)
{
    struct fresh_wait *f = (struct fresh_wait *)(void *)w;
    (void)s;
    TAILQ_REMOVE(&f->ns->fresh, f, ns_link);
}

uint64_t sync_fresh(struct sync *s, uint64_t ns, sync_done done, void *arg)
{
    if (s->waiters_n >= SYNC_WAITERS_MAX)
        return 0;
    struct fresh_wait *f = calloc(1, sizeof *f);
    if (!f)
        abort();
    f->ns = sync_ns_need(s, ns);
    f->list = f->ns->list_started + 1;
    f->w.done = done;
    f->w.arg = arg;
    f->w.drop = fresh_drop;
    TAILQ_INSERT_TAIL(&f->ns->fresh, f, ns_link);
    f->ns->list_wanted = true;
    sync_wake(s);
    return waiter_add(s, &f->w, s->fs->opt.timeout_ms, -EIO);
}

void fresh_applied(struct sync *s, struct sync_ns *ns)
{
    struct fresh_wait *f, *next;
    for (f = TAILQ_FIRST(&ns->fresh); f && f->list <= ns->list_done; f = next) {
        next = TAILQ_NEXT(f, ns_link);
        waiter_end(s, &f->w, 0);
    }
}

void fresh_step(struct sync *s)
{
    struct fresh_wait *f;
    for (size_t i = 0; s->online && i < s->nss_n; i++) /* a member no more: nobody will tell */
        while (!s->nss[i]->listed && (f = TAILQ_FIRST(&s->nss[i]->fresh)))
            waiter_end(s, &f->w, -EACCES);
}
