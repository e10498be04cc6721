// SPDX-License-Identifier: Apache-2.0
/* A page is all rows of its range of block ids: where the last block's rows do not all fit, they
 * begin the next page. A block of more namespaces than a page has rows is sent in a range of no
 * ids, which says nothing of what is missing. */
#include "inventory.h"

#include "blockid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096u /* m_inventory_req.blocks */
#define CALL_MS 20000u

/* The rows after `after` that make a page; *upto: the end of its range. */
static size_t cut_page(const struct storage_held *v, size_t n, struct block_id *upto)
{
    if (n < PAGE) {
        memset(upto, 0xff, sizeof *upto);
        return n;
    }
    size_t whole = n;
    while (whole && block_id_equal(&v[whole - 1].id, &v[n - 1].id))
        whole--;
    if (!whole) {
        *upto = v[0].id;
        return n;
    }
    *upto = v[whole - 1].id;
    return whole;
}

int inventory_pass(const struct inventory_options *o, uint64_t *generation,
                   struct inventory_sums *sums, char *message)
{
    struct storage *s = o->storage;
    struct storage_held *v = malloc(PAGE * sizeof *v);
    struct m_held *rows = malloc(PAGE * sizeof *rows);
    struct block_id after = {{0}}, end;
    uint8_t incarnation[INCARNATION_LEN];
    if (!v || !rows)
        abort();
    memset(&end, 0xff, sizeof end);
    s->ops->incarnation(s, incarnation);
    int r = s->ops->raise(s, generation);
    while (!r && !block_id_equal(&after, &end)) {
        struct arena a cleanup_arena = {0};
        struct m_inventory_ans ans;
        struct m_inventory_req q = {.incarnation = bytes_of(incarnation, sizeof incarnation),
                                    .run = s->run,
                                    .generation = *generation,
                                    .before = o->before,
                                    .look = o->look,
                                    .after = after,
                                    .blocks = rows};
        size_t n;
        r = atomic_load(o->stop) ? -ECANCELED : s->ops->held(s, &after, v, PAGE, &n);
        if (r)
            break;
        q.blocks_n = cut_page(v, n, &q.upto);
        for (size_t i = 0; i < q.blocks_n; i++)
            rows[i] = (struct m_held){.ns = v[i].ns,
                                      .block = v[i].id,
                                      .len = v[i].logical_len,
                                      .generation = v[i].generation};
        bool partial = q.blocks_n == PAGE && block_id_equal(&v[0].id, &v[PAGE - 1].id);
        if (partial)
            q.after = q.upto;
        r = rpc_wait(o->rpc, o->meta, "inventory", &m_inventory_req_desc, &q, &m_inventory_ans_desc,
                     &ans, &a, CALL_MS, message);
        if (r || block_id_compare(&ans.upto, &after) <= 0) {
            r = r ? r : -EBADMSG;
            break;
        }
        after = ans.upto;
        sums->blocks += q.blocks_n;
        sums->announced += ans.announced;
        sums->lost += ans.lost;
        sums->unneeded += ans.unneeded;
        sums->unknown += ans.unknown;
        if (o->page_done)
            o->page_done(o->arg, sums);
    }
    if (r && r != -ECANCELED && !*message)
        snprintf(message, 512, "the inventory failed: %s", strerror(-r));
    free(v);
    free(rows);
    return r;
}
