// SPDX-License-Identifier: Apache-2.0
/* What the files of rawclient share. Everything ends the program where it fails and says so. */
#ifndef RAWCLIENT_H
#define RAWCLIENT_H

#include "blockid.h"
#include "frame.h"
#include "rpc.h"
#include "token.h"

#include <pthread.h>

#define TIMEOUT_MS 60000

struct client {
    struct rpc *rpc;
    char url[300];
    const char *ca, *state;
    struct arena a; /* of the session */
    struct m_session_ans s;
    uint64_t node, request;
    int failed;
};

/* A call's answer, waited for. */
struct answer {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done, loud;
    int err;
    struct buf body;
};

void die(const char *what, int err, const char *message);
/* Opens it anew: with capabilities that last 15 minutes from now. */
void open_session(struct client *c);
/* NULL: the account's root namespace. */
const struct m_namespace *namespace(const struct client *c, const char *name);
void commit(struct client *c, const struct m_namespace *ns, const struct m_changes *m,
            struct m_block_ref *ids, size_t ids_n, struct m_receipt_bytes *receipts,
            size_t receipts_n, struct m_commit_ans *ans, struct arena *a);
const char *server_url(const struct client *c, uint64_t id);
void answered(void *arg, struct rpc_result *r); /* rpc_call.done; arg: struct answer */
/* 0 and the receipt (in arena a), or -errno. */
int put(struct client *c, const struct m_namespace *ns, size_t candidate, uint64_t claimed_ns,
        const void *p, size_t n, struct bytes *receipt, struct arena *a);
/* One question and its answer as it came; raw: bytes behind a framed head. 0 or -errno. */
int ask(struct client *c, const char *url, const char *method, const struct msg_desc *d,
        const void *msg, struct bytes raw, struct buf *out);
/* A new file whose content is n bytes of one block, or many extents of it. */
void file_of(struct client *c, const struct m_namespace *ns, const char *name, struct m_extent *e,
             size_t extents, uint64_t size, struct m_changes *m, struct m_node_change *n,
             struct m_entry_change *entry, struct m_range *range);

void attack(struct client *c, const char *other);
void outsider(struct client *c, uint64_t ns);
void elsewhere(struct client *c, uint64_t server, const char *url);
void hold(struct client *c, const char *name, const char *ready);
void store(struct client *c, const char *ledger, const char *stop);
void check_ledger(struct client *c, const char *ledger);
void crowd(struct client *c, size_t n);
#endif
