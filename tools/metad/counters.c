// SPDX-License-Identifier: Apache-2.0
/* Plain atomic counters; a scrape may see a transaction counted whose changes are not yet, which
 * Prometheus allows for. */
#include "counters.h"

void counters_tx(struct counters *c, size_t changes, uint64_t us, bool failed)
{
    c->tx++;
    c->tx_us += us;
    c->tx_changes += changes;
    c->tx_failed += failed;
    size_t bucket = 0;
    while (bucket + 1 < COUNTERS_BUCKETS && changes > ((size_t)1 << bucket))
        bucket++;
    c->tx_size[bucket]++;
}

static void one(struct buf *out, const char *name, const char *type, unsigned long long value)
{
    buf_printf(out, "# TYPE steadfs_metad_%s %s\nsteadfs_metad_%s %llu\n", name, type, name, value);
}

void counters_print(const struct counters *c, struct buf *out)
{
    one(out, "commits_total", "counter", c->commits);
    one(out, "commits_missing_total", "counter", c->missing);
    one(out, "commits_conflict_total", "counter", c->conflicts);
    one(out, "commits_refused_total", "counter", c->refused);
    one(out, "diffs_total", "counter", c->diffs);
    one(out, "lists_total", "counter", c->lists);
    one(out, "sessions_total", "counter", c->sessions);
    one(out, "unauthenticated_total", "counter", c->unauthenticated);
    one(out, "queue_depth", "gauge", c->queue_depth);
    one(out, "queue_refused_total", "counter", c->queue_refused);
    one(out, "gc_absent_total", "counter", c->gc_absent);
    one(out, "gc_absent_bytes_total", "counter", c->gc_absent_bytes);
    one(out, "gc_ordered_total", "counter", c->gc_ordered);
    one(out, "gc_removed_total", "counter", c->gc_removed);
    one(out, "inventory_announced_total", "counter", c->inventory_announced);
    one(out, "inventory_lost_total", "counter", c->inventory_lost);
    one(out, "inventory_unneeded_total", "counter", c->inventory_unneeded);
    one(out, "restored_timestamp_seconds", "gauge", c->restored_ms / 1000);
    one(out, "kept_until_timestamp_seconds", "gauge", c->keep_until_ms / 1000);
    one(out, "transactions_failed_total", "counter", c->tx_failed);
    buf_printf(out,
               "# TYPE steadfs_metad_transaction_seconds summary\n"
               "steadfs_metad_transaction_seconds_sum %.6f\n"
               "steadfs_metad_transaction_seconds_count %llu\n"
               "# TYPE steadfs_metad_transaction_changes histogram\n",
               (double)c->tx_us / 1e6, (unsigned long long)c->tx);
    unsigned long long below = 0;
    for (size_t i = 0; i + 1 < COUNTERS_BUCKETS; i++) {
        below += c->tx_size[i];
        buf_printf(out, "steadfs_metad_transaction_changes_bucket{le=\"%u\"} %llu\n", 1u << i,
                   below);
    }
    below += c->tx_size[COUNTERS_BUCKETS - 1];
    buf_printf(out,
               "steadfs_metad_transaction_changes_bucket{le=\"+Inf\"} %llu\n"
               "steadfs_metad_transaction_changes_sum %llu\n"
               "steadfs_metad_transaction_changes_count %llu\n",
               below, (unsigned long long)c->tx_changes, below);
}
