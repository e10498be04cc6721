// SPDX-License-Identifier: Apache-2.0
/* Calls of the driver: begun in a turn, answered as an event of the inbox. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sync_internal.h"

static void call_event(struct sync *s, struct sync_event *e)
{
    struct sync_call *c = (struct sync_call *)(void *)e;
    c->fn(s, c);
    buf_free(&c->res.body);
    free(c);
}

/* Within rpc_turn: the answer's body is taken over. */
static void call_done(void *arg, struct rpc_result *r)
{
    struct sync_call *c = arg;
    c->res = *r;
    r->body = (struct buf){0};
    pthread_mutex_lock(&c->s->inbox_lock);
    TAILQ_INSERT_TAIL(&c->s->inbox, &c->ev, link);
    c->s->awake = true; /* nobody to wake: rpc_turn returns */
    pthread_mutex_unlock(&c->s->inbox_lock);
}

struct sync_call *call_new(struct sync *s, void (*fn)(struct sync *, struct sync_call *), void *arg)
{
    struct sync_call *c = calloc(1, sizeof *c);
    if (!c)
        abort();
    c->s = s;
    c->ev.fn = call_event;
    c->fn = fn;
    c->arg = arg;
    return c;
}

uint64_t call_start(struct sync_call *c, const char *url, const char *method, struct bytes head,
                    const struct bytes *bodies, size_t bodies_n, unsigned timeout_ms)
{
    char op[LOG_OP_MAX];
    c->started = c->s->clock();
    struct rpc_call q = {.url = url,
                         .method = method,
                         .head = head,
                         .bodies = bodies,
                         .bodies_n = bodies_n,
                         .timeout_ms = timeout_ms,
                         .op = ops_text(c->s, &c->ops, op),
                         .anonymous = c->server != NULL, /* a capability admits there */
                         .pins = c->server ? &c->server->pins : NULL,
                         .done = call_done,
                         .arg = c};
    c->id = rpc_start(c->s->rpc, &q);
    return c->id;
}

void call_server(struct sync_call *c, struct sync_server *v, const char *method, struct bytes head,
                 const struct bytes *bodies, size_t bodies_n, unsigned timeout_ms)
{
    c->server = v;
    if (LIST_EMPTY(&v->calls))
        v->heard = c->s->clock();
    LIST_INSERT_HEAD(&v->calls, c, server_link);
    call_start(c, v->url, method, head, bodies, bodies_n, timeout_ms);
}

void call_server_end(struct sync_call *c)
{
    LIST_REMOVE(c, server_link);
    if (!c->res.err)
        c->server->heard = c->s->clock();
}

uint64_t call_meta(struct sync_call *c, const char *method, const struct msg_desc *d,
                   const void *msg, unsigned timeout_ms)
{
    struct buf cleanup_buf b = {0};
    msg_encode(d, msg, &b);
    return call_start(c, c->s->fs->opt.url, method, bytes_of(b.p, b.n), NULL, 0, timeout_ms);
}

int call_decode(struct sync *s, const struct sync_call *c, const struct msg_desc *d, void *msg,
                struct arena *a)
{
    const char *why = "";
    int err = msg_decode(d, msg, c->res.body.p, c->res.body.n, MSG_LENIENT, a, &why);
    if (err)
        log_printf(s->fs->log, LOG_L_ERROR, "an answer cannot be read: %s: %s", d->name, why);
    return err ? -EBADMSG : 0;
}
