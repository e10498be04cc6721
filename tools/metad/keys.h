// SPDX-License-Identifier: Apache-2.0
/* What block servers are told of capabilities: which key signs them, and which are good no longer.
 * [internal to tools/metad]
 *
 * Everything runs inside meta_change_begin/end; 0 or -errno. Times are the metadata server's. */
#ifndef STEADFS_METAD_KEYS_H
#define STEADFS_METAD_KEYS_H

#include "meta_private.h"
#include "token.h"

#define KEYS_MAX 8 /* of one block server at a time: m_beat_ans.keys */

/* The block server gets another key at its next beat, and capabilities are sealed with it from the
 * one after that on. at_once: then all before are good no longer (the ones before the present one
 * from now on); otherwise they are for a while. -EALREADY: there is one on its way (which at_once
 * hurries on); -E2BIG: too many old ones are good yet, not with at_once. */
int keys_rotate(struct meta *m, uint64_t server, bool at_once, struct arena *ar);
/* A beat: forgets keys that have ended, takes the next into use if it has come, and tells the ones
 * that are good to a server that has others. */
int keys_beat(struct meta *m, struct server_row *s, const struct m_beat_req *q, int64_t now_ms,
              struct m_beat_ans *a, struct arena *ar);
/* Its keys that are good, the one in use first. */
int keys_good(struct meta *m, const struct server_row *s, int64_t now_ms,
              struct token_key out[KEYS_MAX], size_t *n);

/* The time at which capabilities are sealed and revoked: now, or the highest ever used, which is
 * kept beyond a restart. */
int keys_time(struct meta *m, int64_t now_ms, uint64_t *time_ms);
/* Capabilities sealed up to now are refused from now on: those of the account in the namespace
 * (server 0: at all block servers; account 0: everybody's), or all that the block server `peer` has
 * for others in the namespace (0: in any). */
int keys_revoke(struct meta *m, uint64_t ns, uint64_t account, uint64_t server, int64_t now_ms);
int keys_revoke_peer(struct meta *m, uint64_t ns, uint64_t peer, int64_t now_ms);
/* Tells them with a beat. */
int keys_tell_revoked(struct meta *m, uint64_t server, struct m_beat_ans *a, struct arena *ar);
/* The mark of all that the answer tells to be revoked; where the request has the same one, it need
 * not be told. -EIO: no hash. */
int keys_mark_revoked(const struct m_beat_req *q, struct m_beat_ans *a, struct arena *ar);
#endif
