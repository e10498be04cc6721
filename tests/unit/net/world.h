// SPDX-License-Identifier: Apache-2.0
/* The common world of the tests of httpd and rpc: a server on a free port of loopback, with routes
 * that echo, hold, are slow or refuse; calls whose end can be awaited; and clients written by hand
 * on a plain socket, for what must misbehave (the server then runs without TLS, which loopback
 * may).
 */
#ifndef STEADFS_TEST_NET_WORLD_H
#define STEADFS_TEST_NET_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "httpd.h"
#include "httpd_private.h"
#include "rpc.h"
#include "tls.h"

#include <pthread.h>
#include <stdatomic.h>

#define ECHO_MAX (4u << 20)
#define HOLDS_MAX 512

struct server {
    struct httpd *h;
    pthread_t thread;
    char *ca, *ca_key, *cert, *key;
    char url[64];
    pthread_mutex_t lock;
    struct httpd_req *held[HOLDS_MAX]; /* by hold and wait */
    atomic_size_t held_n;
    atomic_int slow_running, slow_done;
    atomic_bool drained, go_on;
    bool stopped;
    char bearer[64], op[LOG_OP_MAX];
};

void release_held(struct server *s);
struct server *server_new(bool tls, const struct httpd_options *extra);
/* Returns once the loop has ended. */
void server_stop(struct server *s, unsigned drain_ms);
void server_free(struct server *s, unsigned drain_ms);

/* One call whose end can be awaited. */
struct answer {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    struct rpc_result r; /* its body is moved here */
};

struct rpc *client_new(const char *ca, const char *pin);
void answer_init(struct answer *a);
void answered(void *arg, struct rpc_result *r);
int answer_await(struct answer *a);
void answer_free(struct answer *a);
uint64_t begin(struct rpc *r, const char *url, const char *method, struct bytes body,
               unsigned timeout_ms, struct answer *a);
int call(struct rpc *r, const char *url, const char *method, struct bytes body, struct answer *a);
int dial(const struct server *s);
void say(int fd, const char *text);
/* Everything until the server closes. */
size_t hear(int fd, char *out, size_t max);
/* The answer to a plain request, by hand. */
size_t ask(const struct server *s, const char *request, char *out, size_t max);
/* -1: the server did not take the connection. */
double try_metric(const struct server *s, const char *name);
double metric(const struct server *s, const char *name);
/* Until the value is reached; fails after 20 s. */
void await_metric(const struct server *s, const char *name, double value);
void await_held(struct server *s, size_t n);

#endif
