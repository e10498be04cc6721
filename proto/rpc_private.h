// SPDX-License-Identifier: Apache-2.0
/* What the files of rpc share: the client, its calls, the hosts they go to. rpc.c tells how they
 * live. */
#ifndef STEADFS_RPC_PRIVATE_H
#define STEADFS_RPC_PRIVATE_H

#include "rpc.h"

#include <curl/curl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

#define RPC_EASIES_MAX 64 /* idle handles kept */

/* Calls to one server. */
struct host {
    char *key;        /* the URL's text */
    unsigned running; /* not counting long polls */
    size_t calls;     /* of every kind, until done */
    TAILQ_HEAD(, call) queue;
    LIST_ENTRY(host) link;
};

struct call {
    uint64_t id;
    char *url, *method, *op;
    struct bytes *parts; /* head (owned) or head and body copied (owned), then the caller's */
    size_t parts_n;
    uint8_t *owned;
    uint64_t total;
    size_t at_part, at_byte; /* what curl reads next */
    size_t answer_max;
    uint64_t started_us, deadline_us;
    rpc_done done;
    void *arg;

    struct host *host;
    char *pins; /* as curl takes them; NULL: none */
    bool anonymous;
    bool waits;   /* a long poll */
    bool running; /* in the multi, else in host->queue */
    bool too_large;
    CURL *easy;
    struct curl_slist *headers;
    char detail[CURL_ERROR_SIZE];
    struct rpc_result result;
    TAILQ_ENTRY(call) all, queued;
};
TAILQ_HEAD(calls, call);

struct rpc {
    struct rpc_options o;
    X509 *ca;
    X509_STORE *store; /* holds just ca */
    uint8_t pin[32];
    bool pinned;
    CURLM *multi;
    CURLSH *share;
    pthread_t thread;

    /* rpc thread */
    struct calls calls;
    LIST_HEAD(, host) hosts;
    uint64_t expiry_us; /* no queued call's deadline is earlier */
    uint64_t ended;     /* calls so far */
    CURL *easies[RPC_EASIES_MAX];
    size_t easies_n;

    pthread_mutex_t lock; /* guards what follows */
    struct calls incoming;
    uint64_t *cancels;
    size_t cancels_n, cancels_cap;
    uint64_t last_id;
    size_t calls_n;
    char *credential;
    bool polling; /* the thread waits, or is about to */
    bool woken;   /* … and was told to look again */
    bool nudged;  /* rpc_wake */
    bool quit;
};

/* p, or the end of the process: sizes are bounded before memory is asked for. */
static inline void *rpc_need(void *p)
{
    if (!p)
        abort();
    return p;
}

/* rpc_trust.c */
/* Reads o.ca_pem and o.pin_sha256. 0 or -EINVAL. */
int rpc_load_trust(struct rpc *r);
/* CURLOPT_SSL_CTX_FUNCTION; arg is the rpc. */
CURLcode rpc_set_trust(CURL *easy, void *ssl_ctx, void *rpc);
/* The pins as text for CURLOPT_PINNEDPUBLICKEY; NULL: none. */
char *rpc_pins_text(const struct rpc_pins *p);

/* rpc_result.c: fill the call's result. */
void rpc_fail(struct call *c, int err, const char *text);
/* An answer other than 200: the text of its m_error, or what the status says. */
void rpc_fail_status(struct call *c);
/* curl could not bring the call to an answer. */
void rpc_fail_curl(struct call *c, CURLcode code);
#endif
