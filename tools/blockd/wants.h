// SPDX-License-Identifier: Apache-2.0
/* The blocks that this server lacks and is about to fetch, each with who can give it. In memory
 * only, and bounded: for each namespace and holder, and for each holder, so that neither a large
 * namespace nor a slow server takes the place of others. Not locked: the caller sees to that. */
#ifndef WANTS_H
#define WANTS_H

#include "buf.h"

#define WANT_HOLDERS 8     /* of one block; more are not kept */
#define WANTS_PER_PAIR 256 /* of a namespace, from one holder */
#define WANTS_PER_HOLDER 1024

struct wants;

struct want {
    uint64_t ns;
    struct block_id id;
    uint64_t holders[WANT_HOLDERS]; /* that may still be asked */
    size_t holders_n;
    bool busy; /* it is being fetched */
    struct want *next, *prev, *in_slot;
};

struct wants *wants_new(void);
void wants_free(struct wants *w);
size_t wants_count(const struct wants *w);
size_t wants_of(const struct wants *w, uint64_t holder);
/* How many more there may be of the namespace from the holder. */
size_t wants_room(const struct wants *w, uint64_t ns, uint64_t holder);
/* At the end, or before all others. Only holders that there is room for are kept; false: there is
 * none, or the block is wanted already. */
bool wants_add(struct wants *w, uint64_t ns, const struct block_id *id, const uint64_t *holders,
               size_t n, bool first);
/* At most max blocks of one namespace that the holder can give and that `may` agrees to (may be
 * NULL); they are busy from then on. Namespaces take turns. */
size_t wants_take(struct wants *w, uint64_t holder, bool (*may)(void *arg, const struct block_id *),
                  void *arg, struct want **v, size_t max);
enum want_end { WANT_NOT_THERE, WANT_AGAIN, WANT_ARRIVED };
/* They are not busy any more. Those that arrived go; of those that were not there the holder is not
 * asked again, and they go where nobody is left. */
void wants_give(struct wants *w, uint64_t holder, struct want *const *v, const enum want_end *end,
                size_t n);
/* It came by another way. */
void wants_arrived(struct wants *w, uint64_t ns, const struct block_id *id);
/* The holder cannot be asked now. What only it can give goes. */
void wants_drop_holder(struct wants *w, uint64_t holder);
#endif
