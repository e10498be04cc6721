// SPDX-License-Identifier: Apache-2.0
/* What the metadata server last told this block server: its clock, the revoked devices, and whether
 * it can be reached. Capabilities are judged by it. Any thread. Times come from the caller, in
 * milliseconds: `mono` from a clock that only runs forward, `wall` from the machine's calendar. */
#ifndef FEED_H
#define FEED_H

#include "messages.h"

struct feed;

struct feed *feed_new(void);
void feed_free(struct feed *f);
/* An answer to a beat that was sent at one time and came at another. True: the revocations changed.
 */
bool feed_answered(struct feed *f, const struct m_beat_ans *a, int64_t sent_mono,
                   int64_t came_mono);
/* How long the mark of what that answer told to be revoked is; 0: there is none. */
#define FEED_MARK_MAX 32
size_t feed_mark(struct feed *f, uint8_t mark[FEED_MARK_MAX]);
/* The metadata server was reached (it may have refused the beat), or was not. */
void feed_reached(struct feed *f, bool reached);
bool feed_is_reached(struct feed *f);
/* What was revoked before is not known: until the next answer nothing is honoured past its end. */
void feed_distrust(struct feed *f);
bool feed_is_complete(struct feed *f);
/* This process's storage was opened by another one since: it stores nothing more. */
void feed_set_superseded(struct feed *f);
bool feed_is_superseded(struct feed *f);
/* Its clock now. Before its first answer: this machine's. */
int64_t feed_now_ms(struct feed *f, int64_t mono, int64_t wall);
/* Devices: all that they have is refused. */
void feed_set_revoked(struct feed *f, const uint64_t *devices, size_t n);
/* Whether it is one of those that were taken back before their end. */
bool feed_is_taken_back(struct feed *f, const struct m_capability *c);
void feed_set_taken_back(struct feed *f, const struct m_revoked *v, size_t n);
/* A malloc'd copy of what says so. */
struct m_revoked *feed_copy_taken_back(struct feed *f, size_t *n);
/* A malloc'd copy of them, rising. */
uint64_t *feed_copy_revoked(struct feed *f, size_t *n);
bool feed_is_revoked(struct feed *f, uint64_t device);

int64_t mono_ms(void);
int64_t wall_ms(void);
#endif
