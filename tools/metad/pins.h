// SPDX-License-Identifier: Apache-2.0
/* Which public key a block server may show. [internal to tools/metad]
 *
 * A certificate of the installation's authority says which host its holder serves, not which block
 * server it is. So the key that a server joins with is recorded, and whoever is told of the server
 * is told of the key and sends nothing to who shows another one.
 *
 *   a server                                      its keys are
 *   joins                                         the one that its certificate was made for
 *   joined before keys were recorded              the first one that a beat tells
 *   is told to change it, and sends a request     the old one and the new one
 *   shows the new one, as a beat tells            the new one
 *
 * Only an order of the administrator lets another key in: who has got hold of a server's credential
 * alone cannot take its place. Both keys are good for `rekey_overlap_ms` before the new one is
 * shown, so that everybody is told of it before. A server that shows neither (a data directory from
 * a backup) need not wait for that: nobody talks to it anyway.
 *
 * Everything runs inside meta_change_begin/end. Times are the metadata server's. */
#ifndef STEADFS_METAD_PINS_H
#define STEADFS_METAD_PINS_H

#include "meta_private.h"

#define PIN_LEN 32
#define REKEY_ORDER_MS (24 * 3600 * 1000) /* an order that was not carried out by then ends */

/* What a beat says of keys. Changes the row, which the caller stores. True: others have to learn
 * another set. */
bool pins_beat(struct server_row *s, const struct meta_caller *who, const struct m_beat_req *q,
               int64_t now_ms, struct m_beat_ans *a);
/* An order stands, or a key is on its way. */
bool pins_changing(const struct server_row *s, int64_t now_ms);
/* The server tells that it shows a key that nobody takes for its. */
bool pins_strange(const struct server_row *s);
/* What others are told of the server. */
struct m_server pins_server(const struct server_row *s, struct arena *ar);
#endif
