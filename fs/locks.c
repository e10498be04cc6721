// SPDX-License-Identifier: Apache-2.0
/* One list, walked: a file has few locks, and databases that take many hold them in a few ranges.
 * No two locks of one kind and owner overlap. */
#include "locks.h"

#include <stdlib.h>

static void push(struct locks *s, const struct lock *l)
{
    struct lock *copy = malloc(sizeof(*copy));
    if (copy == NULL)
        abort();
    *copy = *l;
    copy->next = s->head;
    s->head = copy;
}

static void pop(struct lock **at)
{
    struct lock *l = *at;
    *at = l->next;
    free(l);
}

void locks_free(struct locks *s)
{
    while (s->head != NULL)
        pop(&s->head);
}

static bool overlap(const struct lock *l, uint64_t off, uint64_t end)
{
    return l->off < end && l->end > off;
}

const struct lock *locks_conflict(const struct locks *s, const struct lock *want)
{
    const struct lock *first = NULL;
    for (const struct lock *l = s->head; l != NULL; l = l->next)
        if (l->whole == want->whole && l->owner != want->owner &&
            (l->exclusive || want->exclusive) && overlap(l, want->off, want->end) &&
            (first == NULL || l->off < first->off))
            first = l;
    return first;
}

bool locks_drop(struct locks *s, bool whole, uint64_t owner, uint64_t off, uint64_t end)
{
    bool any = false;
    for (struct lock **at = &s->head; *at != NULL;) {
        struct lock *l = *at;
        if (l->whole != whole || l->owner != owner || !overlap(l, off, end)) {
            at = &l->next;
            continue;
        }
        any = true;
        struct lock behind = *l;
        bool before = l->off<off, after = l->end> end;
        if (before) {
            l->end = off;
            at = &l->next;
        } else {
            pop(at);
        }
        if (after) {
            behind.off = end;
            push(s, &behind);
        }
    }
    return any;
}

void locks_add(struct locks *s, const struct lock *l)
{
    struct lock all = *l;
    locks_drop(s, l->whole, l->owner, l->off, l->end);
    for (struct lock **at = &s->head; *at != NULL;) {
        const struct lock *n = *at;
        bool same = n->whole == l->whole && n->owner == l->owner && n->file == l->file &&
                    n->exclusive == l->exclusive;
        if (!same || (n->end != all.off && n->off != all.end)) {
            at = &(*at)->next;
            continue;
        }
        all.off = n->off < all.off ? n->off : all.off;
        all.end = n->end > all.end ? n->end : all.end;
        pop(at);
    }
    push(s, &all);
}

bool locks_drop_file(struct locks *s, const void *file)
{
    bool any = false;
    for (struct lock **at = &s->head; *at != NULL;) {
        if ((*at)->file != file) {
            at = &(*at)->next;
            continue;
        }
        any = true;
        pop(at);
    }
    return any;
}
