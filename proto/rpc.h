// SPDX-License-Identifier: Apache-2.0
/* The client's side of every remote call: HTTPS POST with libcurl. One thread does the I/O of a
 * client object: its own, or (option `driven`) the caller of rpc_turn.
 *
 * Endpoints are `URL/v1/METHOD`. Every request carries `Steadfs-Version: 1` and, where there is
 * one, `Authorization: Bearer CREDENTIAL`. The connections are kept; TLS 1.3; the server must
 * present a certificate issued by the installation's CA (the one in `ca_pem`), nothing else is
 * trusted.
 */
#ifndef STEADFS_RPC_H
#define STEADFS_RPC_H

#include "messages.h"
#include "tls.h"
#include "trace.h"

struct rpc;

struct rpc_options {
    const char *ca_pem; /* PEM text; NULL: only http:// and unix: URLs */
    /* Hex SHA-256 of the CA certificate's DER, or NULL: for who has no CA yet; the server's chain
     * must hold the certificate with this fingerprint. */
    const char *pin_sha256;
    const char *credential;      /* copied; NULL: none */
    unsigned connect_timeout_ms; /* 0: 5000 */
    unsigned max_per_host;       /* connections, not counting long polls; 0: 8 */
    /* No thread of its own: one thread of the owner calls rpc_turn again and again, which saves it
     * a change of threads for each call and each answer. rpc_wait is then of no use. */
    bool driven;
    struct log *log;
};

/* How a call ended. */
struct rpc_result {
    int err;           /* 0: HTTP 200. -ECONNREFUSED/-EHOSTUNREACH (no connection), -ETIMEDOUT,
                          -ECONNRESET (broke), -EACCES (401), -EPERM (403), -ENOENT (404), -EPROTO (426, or
                          not our protocol), -EBADMSG (400), -EMSGSIZE (413), -ESTALE (410), -ENOSPC (507),
                          -EAGAIN (503), -EIO (other), -ECANCELED, -EKEYREJECTED (TLS: not this CA),
                          -EKEYREVOKED (TLS: none of the pins) */
    unsigned status;   /* HTTP status, 0: none came */
    struct buf body;   /* of a 200; freed after the callback */
    char message[512]; /* for people: which server, what, what to do; empty when err is 0 */
    uint64_t bytes_out, bytes_in; /* HTTP bytes, headers included */
    double seconds;
};

/* The keys that a block server may show: SHA-256 of each (tls_pin). None: any that the CA vouches
 * for. Plain; compared with memcmp, so unused places are zero. */
#define RPC_PINS_MAX 4 /* m_server.pins */
struct rpc_pins {
    size_t n;
    uint8_t sha256[RPC_PINS_MAX][TLS_PIN_LEN];
};
/* Those that the metadata server tells. One that is too short is kept as one that nobody has. */
struct rpc_pins rpc_pins_of(const struct m_server *s);

/* Runs on the rpc thread: must not block and must not call rpc_wait. */
typedef void (*rpc_done)(void *arg, struct rpc_result *r);

struct rpc_call {
    const char *url;    /* of the server, copied */
    const char *method; /* "commit", copied */
    struct bytes head;  /* copied by rpc_start */
    /* Raw bytes sent behind head, or several runs of them in order. Not copied: they must live
     * until done has been called, after rpc_cancel too. The array is copied. */
    struct bytes body;
    const struct bytes *bodies;
    size_t bodies_n;
    unsigned timeout_ms; /* whole call; 0: 30000 */
    /* Without the credential: for servers that admit by what the message holds, and that must not
     * be able to act as the caller elsewhere (block servers; login and join). */
    bool anonymous;
    /* Copied; NULL: none. The server must show one of these keys, over TLS, or it gets not a byte
     * of the call. A kept connection is used only by calls with the same pins. */
    const struct rpc_pins *pins;
    const char *op;    /* copied; for the server's log (Steadfs-Op); NULL or "": none */
    size_t answer_max; /* 0: MSG_BODY_MAX */
    rpc_done done;
    void *arg;
};

/* 0 or -errno. */
int rpc_new(struct rpc **out, const struct rpc_options *o);
/* Cancels what is under way (done is called with -ECANCELED), joins the thread. */
void rpc_free(struct rpc *r);
/* Driven: starts what was queued, then waits up to timeout_ms for the network, an rpc_wake, or a
 * call from another thread, and handles what there is; returns as soon as a call has ended. The
 * calling thread is the rpc thread of this file. */
void rpc_turn(struct rpc *r, unsigned timeout_ms);
/* Driven: the rpc_turn under way, or the next one, does not wait. Any thread. */
void rpc_wake(struct rpc *r);
void rpc_set_credential(struct rpc *r, const char *credential);
/* Queues the call; done is called exactly once, from the rpc thread. Returns an id to cancel it. */
uint64_t rpc_start(struct rpc *r, const struct rpc_call *c);
void rpc_cancel(struct rpc *r, uint64_t id);
/* Runs one call and waits: encodes req, decodes the answer into ans (arena a; the body is copied
 * there). 0 or result.err, or -EBADMSG for an answer that does not decode; message (512 bytes, may
 * be NULL) as in rpc_result. Not on the rpc thread. */
int rpc_wait(struct rpc *r, const char *url, const char *method, const struct msg_desc *req_desc,
             const void *req, const struct msg_desc *ans_desc, void *ans, struct arena *a,
             unsigned timeout_ms, char *message);
#endif
