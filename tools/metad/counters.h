// SPDX-License-Identifier: Apache-2.0
/* What steadfs-metad counts about itself, shown by /metrics. Any thread adds; the loop thread
 * reads. */
#ifndef STEADFS_COUNTERS_H
#define STEADFS_COUNTERS_H

#include <stdatomic.h>

#include "buf.h"

#define COUNTERS_BUCKETS 9 /* transactions of up to 1, 2, 4 … 256 changes */

struct counters {
    atomic_ullong commits, missing, conflicts, refused; /* answers, by commit_status */
    atomic_ullong diffs, lists, sessions;
    atomic_ullong unauthenticated;            /* refused for their credential */
    atomic_ullong queue_depth;                /* changes waiting for the writer */
    atomic_ullong queue_refused;              /* turned away because the queue was full */
    atomic_ullong gc_absent, gc_absent_bytes; /* declared absent: nothing referred to them */
    atomic_ullong gc_ordered, gc_removed;     /* told to block servers, and by them */
    atomic_ullong restored_ms, keep_until_ms; /* meta_restored */
    atomic_ullong inventory_announced, inventory_lost, inventory_unneeded;
    atomic_ullong tx, tx_failed;
    atomic_ullong tx_us; /* time spent in them */
    atomic_ullong tx_changes;
    atomic_ullong tx_size[COUNTERS_BUCKETS];
};

/* A transaction of so many changes ended. */
void counters_tx(struct counters *c, size_t changes, uint64_t us, bool failed);
/* Appends them as Prometheus text. */
void counters_print(const struct counters *c, struct buf *out);
#endif
