// SPDX-License-Identifier: Apache-2.0
/* How a call ended, as an errno and as one line for people: which server, what, and what to do. */
#include "rpc_private.h"

#include <errno.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static bool to_block_server(const struct call *c)
{
    static const char *const methods[] = {"put", "get", "have", "link", "offer"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (!strcmp(c->method, methods[i]))
            return true;
    return false;
}

void rpc_fail(struct call *c, int err, const char *text)
{
    c->result.err = err;
    bool block = to_block_server(c);
    snprintf(c->result.message, sizeof c->result.message, "%s server %.200s: %.250s",
             block ? "block" : "metadata", c->url, text);
}

static int errno_of_status(unsigned status)
{
    switch (status) {
    case ERR_UNAUTHENTICATED:
        return -EACCES;
    case ERR_FORBIDDEN:
        return -EPERM;
    case ERR_NOT_FOUND:
        return -ENOENT;
    case ERR_VERSION:
        return -EPROTO;
    case ERR_BAD_MESSAGE:
        return -EBADMSG;
    case ERR_TOO_LARGE:
        return -EMSGSIZE;
    case ERR_RESYNC:
        return -ESTALE;
    case ERR_FULL:
        return -ENOSPC;
    case ERR_QUOTA:
        return -EDQUOT;
    case ERR_BUSY:
        return -EBUSY;
    case ERR_UNAVAILABLE:
        return -EAGAIN;
    default:
        return -EIO;
    }
}

void rpc_fail_status(struct call *c)
{
    struct rpc_result *res = &c->result;
    struct m_error e;
    struct arena a = {0};
    char text[256];
    if (!msg_decode(&m_error_desc, &e, res->body.p, res->body.n, MSG_LENIENT, &a, NULL) &&
        e.message.n)
        snprintf(text, sizeof text, "%.*s", (int)(e.message.n < 250 ? e.message.n : 250),
                 (const char *)e.message.p);
    else if (res->status == ERR_TOO_LARGE)
        snprintf(text, sizeof text, "the message is larger than it accepts");
    else
        snprintf(text, sizeof text, "HTTP status %u; is a steadfs server at this address?",
                 res->status);
    arena_free(&a);
    buf_free(&res->body);
    rpc_fail(c, errno_of_status(res->status), text);
}

/* Which of both it is nobody can tell: an old certificate, or a wrong time of day here. */
static void say_untrusted(const struct call *c, char *text, size_t max)
{
    long verified = X509_V_OK;
    char now[32] = "?";
    time_t t = time(NULL);
    struct tm tm;
    curl_easy_getinfo(c->easy, CURLINFO_SSL_VERIFYRESULT, &verified);
    if (gmtime_r(&t, &tm))
        strftime(now, sizeof now, "%Y-%m-%d %H:%M", &tm);
    if (verified == X509_V_ERR_CERT_NOT_YET_VALID || verified == X509_V_ERR_CERT_HAS_EXPIRED)
        snprintf(text, max,
                 "not trusted: its certificate %s by this machine's clock (%s UTC): is that right?",
                 verified == X509_V_ERR_CERT_HAS_EXPIRED ? "has expired" : "is not good yet", now);
    else
        snprintf(text, max, "not trusted: its certificate is not this installation's (%.150s)",
                 c->detail);
}

void rpc_fail_curl(struct call *c, CURLcode code)
{
    const char *program = to_block_server(c) ? "steadfs-blockd" : "steadfs-metad";
    char text[320];
    long os_error = 0;
    curl_off_t connected = 0;
    curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &os_error);
    curl_easy_getinfo(c->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
    int err = -ECONNRESET;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        err = -EHOSTUNREACH;
        snprintf(text, sizeof text, "no address is known for this name");
        break;
    case CURLE_COULDNT_CONNECT:
        err = os_error == 0 || os_error == ECONNREFUSED ? -ECONNREFUSED : -EHOSTUNREACH;
        snprintf(text, sizeof text, "%s; is %s running?",
                 err == -ECONNREFUSED ? "connection refused" : strerror((int)os_error), program);
        break;
    case CURLE_OPERATION_TIMEDOUT:
        err = connected ? -ETIMEDOUT : -EHOSTUNREACH;
        snprintf(text, sizeof text, connected ? "no answer in time" : "no connection in time");
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
        err = -EKEYREJECTED;
        say_untrusted(c, text, sizeof text);
        break;
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
        err = -EKEYREVOKED;
        snprintf(text, sizeof text,
                 "another server answers there: its key is not the one that this block server "
                 "joined with, so nothing is sent to it");
        break;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        err = -EINVAL;
        snprintf(text, sizeof text, "not a usable URL: https://HOST:PORT is expected");
        break;
    case CURLE_WRITE_ERROR:
        err = c->too_large ? -EMSGSIZE : -EIO;
        snprintf(text, sizeof text, "its answer is longer than %zu bytes", c->answer_max);
        break;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
    case CURLE_BAD_CONTENT_ENCODING:
        err = -EPROTO;
        snprintf(text, sizeof text, "what answers there does not speak HTTP");
        break;
    default:
        snprintf(text, sizeof text, "connection broke (%.200s)",
                 c->detail[0] ? c->detail : curl_easy_strerror(code));
    }
    rpc_fail(c, err, text);
}
