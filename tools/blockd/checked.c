// SPDX-License-Identifier: Apache-2.0
/* Between looking up where a block is and reading it there, its bytes may move: a damaged file is
 * replaced, an object is copied to another namespace's name. What was read then is wrong, and
 * set_aside, which looks under its lock, finds the block right: it is read once again. */
#include "checked.h"

#include "blockid.h"

#include <errno.h>

static int read_once(struct storage *s, uint64_t ns, const struct block_id *id, struct buf *out,
                     uint64_t *logical_len)
{
    size_t start = out->n;
    int r = s->ops->get(s, ns, id, out, logical_len);
    if (!r && !block_id_matches(id, out->p + start, out->n - start))
        r = -EUCLEAN;
    if (r)
        out->n = start;
    return r;
}

int checked_get(struct storage *s, const struct checked_told *told, uint64_t ns,
                const struct block_id *id, struct buf *out, uint64_t *logical_len)
{
    int r = read_once(s, ns, id, out, logical_len);
    if (r == -EUCLEAN) {
        int aside = s->ops->set_aside(s, id);
        if (aside != -EALREADY && told->lost)
            told->lost(told->arg, id, aside);
        if (aside == -EALREADY)
            r = read_once(s, ns, id, out, logical_len);
        if (aside == -EALREADY && r == -EUCLEAN)
            r = -EIO; /* it moves too often: nothing is known to be wrong with it */
        if (aside && aside != -EALREADY)
            r = aside;
    }
    if (r == -EIO && told->doubt)
        told->doubt(told->arg, id);
    return r;
}
