// SPDX-License-Identifier: Apache-2.0
/* The driver of the sync core: sessions, uploads, commits, the journal, loads and fetches.
 *
 * Everything is asynchronous: a call that needs the network returns at once, and its done function
 * runs later on a thread of the driver, without fs.lock, exactly once (also after a cancel: -EINTR;
 * at the end of the mount: -ESHUTDOWN). Functions marked [locked] are called with fs.lock held.
 */
#ifndef STEADFS_SYNC_H
#define STEADFS_SYNC_H

#include "fs.h"
#include "lockset.h"

struct sync;
typedef void (*sync_done)(void *arg, int err);

/* Reads the identity in the state directory, starts the threads; does not wait for the server (a
 * tree that knows its root works offline). err: 512 bytes for people. */
int sync_new(struct sync **out, struct fs *fs, char *err);
/* Waits until the first session succeeded (a new state directory has no root before) or until
 * timeout_ms; -ETIMEDOUT, -EACCES (credential), -EPROTO (version), …; err: 512 bytes. */
int sync_wait_session(struct sync *s, unsigned timeout_ms, char *err);
void sync_free(struct sync *s);

/* [locked] fsync of a node: done(0) once all that is pending of it (see core_barrier) is committed
 * and its blocks are durable; -ETIMEDOUT after fsync_timeout, -EDQUOT, -EROFS, -EACCES, -EIO … The
 * caller has flushed the node's dirty data into the tree before. Returns an id for sync_cancel, or
 * 0 when done was not needed because nothing is pending (*err is then the result, done is not
 * called). local: done(0) once outbox and tree are on this machine's disk; nothing else is waited
 * for. */
uint64_t sync_barrier(struct sync *s, uint64_t node, bool local, sync_done done, void *arg,
                      int *err);
/* [locked] The same for all that is pending of a namespace (BARRIER_ALL_MAX files and directories
 * at a time), whatever becomes of the single ones: done(0) once each is committed or has failed;
 * -ETIMEDOUT. 0: nothing is pending. */
uint64_t sync_barrier_all(struct sync *s, uint64_t ns, sync_done done, void *arg);
/* [locked] Asks the target servers of namespace `to` to have blocks of `from` for it, too. done(0):
 * they do, and sync_linked says so; -EXDEV: not all, or not in time. 0: they cannot be asked. */
uint64_t sync_link(struct sync *s, uint64_t from, uint64_t to, const struct m_block_ref *v,
                   size_t n, sync_done done, void *arg);
bool sync_linked(struct sync *s, uint64_t to, const struct m_block_ref *v, size_t n);
/* [locked] Loads what the core needs (several waiters for the same need share one call). done(0):
 * call the core again; -EIO after timeout or where too many wait, -ENOENT … */
uint64_t sync_load(struct sync *s, const struct core_need *need, sync_done done, void *arg);
/* [locked] done(0) once all is applied here that was committed to the namespace before the call;
 * -EIO after timeout, -EACCES: the account is no member any more. 0: it takes no more. */
uint64_t sync_fresh(struct sync *s, uint64_t ns, sync_done done, void *arg);
/* [locked] Whether the metadata server answers, as far as is known. */
bool sync_online(const struct sync *s);
/* Locks against other devices (locks=global). [locked] */
/* Whether what is held may be relied on. */
bool sync_lock_lease(const struct sync *s);
/* Whether this device holds the range, so that its programs may share it among themselves. */
bool sync_lock_covers(struct sync *s, uint64_t node, const struct m_lock_range *r);
/* done(0): held now, or (test) free; -EAGAIN: another device has what *other is then (may be NULL;
 * valid until done); -ENOLCK: the server was not reached within timeout, or there are too many
 * ranges; -EDEADLK. A patient one is waited for as long as the server is there; arg is then the
 * operation, of which vfs_lock_stays is asked. 0: it takes no more. */
uint64_t sync_lock_want(struct sync *s, uint64_t ns, uint64_t node, const struct m_lock_range *r,
                        struct m_lock_range *other, sync_done done, void *arg);
/* Somebody here waits for another one here: what is kept meanwhile is told to the server. */
void sync_lock_again(struct sync *s);
/* This much is needed of what is held (taken over); the rest is released. */
void sync_lock_hold(struct sync *s, uint64_t node, struct lockset *needed);
/* done(0) once the server knows of it, or cannot be reached. 0: there is nothing to wait for. */
uint64_t sync_lock_told(struct sync *s, uint64_t node, sync_done done, void *arg);
/* [not locked] At the end: releases everything, and waits for the server to know. */
void sync_locks_end(struct sync *s, unsigned timeout_ms);
/* [locked] Brings blocks into the block store, all of them before done(0); -EIO when no assigned
 * server delivers a good copy within the timeout, or where too much is waited for. */
uint64_t sync_fetch(struct sync *s, uint64_t ns, const struct block_id *ids, size_t n,
                    sync_done done, void *arg);
/* [locked] Starts fetching without anybody waiting (readahead); forgotten when there is no room. */
void sync_prefetch(struct sync *s, uint64_t ns, const struct block_id *ids, size_t n);
/* [locked or not] The waiter's done is called with -EINTR, unless it was called already. */
void sync_cancel(struct sync *s, uint64_t id);
/* [locked] Something became pending: background sync looks at it in time. */
void sync_kick(struct sync *s);
/* [locked] Final blocks of a long write may be uploaded before anything is committed. */
void sync_upload(struct sync *s, uint64_t ns, const struct m_block_ref *ids, size_t n);

/* Pushes everything pending; until nothing is left, or deadline_ms passed: 0, -ETIMEDOUT,
 * -ECANCELED (abandoned), or -EREMOTEIO: all is sent but what was refused, and what waits for that
 * (what is left stays in the state directory; text, 512 bytes, says so). Not locked. progress may
 * be NULL. */
int sync_drain(struct sync *s, unsigned deadline_ms,
               void (*progress)(void *arg, uint64_t files, uint64_t bytes), void *arg, char *text);
/* A drain or settle under way ends at once with -ECANCELED: another process takes the state over.
 */
void sync_abandon(struct sync *s);
/* Appends the `status --json` object (DESIGN section 7). Not locked. */
void sync_status(struct sync *s, struct buf *json);
/* Whether nothing is pending and the journal is applied up to the head each namespace had at the
 * call; for `steadfs sync` and the lab: waits for it. 0, -ETIMEDOUT, -EREMOTEIO as above.
 * Not locked. path_node 0: everything. */
int sync_settle(struct sync *s, uint64_t path_node, unsigned timeout_ms, char *err);
#endif
