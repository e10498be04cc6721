// SPDX-License-Identifier: Apache-2.0
/* Content-defined chunking: where a fresh stretch of a file is cut into blocks.
 *
 * Normalised gear hash (Xia et al., FastCDC, USENIX ATC 2016 and IEEE TPDS 2020). Cuts are a
 * function of the stretch's bytes alone, however they arrive: min 512 KiB, average 1 to 2 MiB, max
 * 4 MiB.
 */
#ifndef STEADFS_CDC_H
#define STEADFS_CDC_H

#include "steadfs/types.h"

#define CDC_MIN (512u << 10)
#define CDC_NORMAL (1u << 20) /* before it a cut is rarer, behind it likelier */
#define CDC_MAX BLOCK_MAX

/* State of the block being scanned; zero-initialise at the start of a stretch. */
struct cdc {
    uint64_t hash;
    size_t scanned; /* bytes of the current block seen so far */
};

/* Scans n further bytes of the stretch. Returns how many of them end the current block (1..n; the
 * state is then reset for the next block, which begins behind them), or 0 when no cut lies in them.
 * fixed: cut every `fixed` bytes instead (0: by content). */
size_t cdc_scan(struct cdc *c, const uint8_t *p, size_t n, size_t fixed);

/* The same for the first n (below CDC_MAX) bytes of a block, p, that were scanned before and had no
 * cut in them; since then [from, to) have changed. Looks only where these bytes decide. Returns
 * where the block ends, or 0, and *c is what scanning all n bytes would have left. */
size_t cdc_rescan(struct cdc *c, const uint8_t *p, size_t n, size_t from, size_t to, size_t fixed);
#endif
