// SPDX-License-Identifier: Apache-2.0
/* A listing is read as what it is known to hold: elements without attributes that are of use, one
 * inside the other, text without markup. No document type, comments or CDATA: none of the stores
 * sends them, and what is not understood is refused. */
#include "s3_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- XML ----------------------------------------------------------------------------------- */

/* The content of the next element of this name in `in`, and what comes after it. */
static bool element(struct bytes in, const char *name, struct bytes *content, struct bytes *rest)
{
    size_t n = strlen(name);
    const char *p = in.n ? (const char *)in.p : "", *end = p + in.n;
    while (p < end && (p = memchr(p, '<', (size_t)(end - p)))) {
        p++;
        if ((size_t)(end - p) <= n || memcmp(p, name, n) != 0)
            continue;
        const char *open_end = memchr(p, '>', (size_t)(end - p));
        if (!open_end || (p[n] != '>' && p[n] != ' ' && p[n] != '/'))
            continue;
        if (open_end[-1] == '/') { /* <Name/> */
            *content = bytes_of(open_end, 0);
            *rest = bytes_of(open_end + 1, (size_t)(end - open_end - 1));
            return true;
        }
        const char *q = open_end + 1;
        while (q < end && (q = memmem(q, (size_t)(end - q), "</", 2))) {
            if ((size_t)(end - q) > n + 2 && !memcmp(q + 2, name, n) && q[n + 2] == '>') {
                *content = bytes_of(open_end + 1, (size_t)(q - open_end - 1));
                *rest = bytes_of(q + n + 3, (size_t)(end - q) - n - 3);
                return true;
            }
            q += 2;
        }
        return false;
    }
    return false;
}

static bool child(struct bytes in, const char *name, struct bytes *content)
{
    struct bytes rest;
    return element(in, name, content, &rest);
}

/* The text with its five entities resolved; NULL: other markup, a NUL, or longer than max. */
static const char *text_of(struct bytes b, size_t max, struct arena *a)
{
    static const struct {
        const char *name;
        char c;
    } entities[] = {
        {"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    if (b.n > 6 * max)
        return NULL;
    char *out = arena_alloc(a, b.n + 1);
    size_t n = 0;
    for (size_t i = 0; i < b.n;) {
        size_t e = 0, step = 1;
        char c = (char)b.p[i];
        if (!c || c == '<')
            return NULL;
        if (c == '&') {
            for (; e < sizeof entities / sizeof *entities; e++) {
                step = strlen(entities[e].name);
                if (b.n - i >= step && !memcmp(b.p + i, entities[e].name, step))
                    break;
            }
            if (e == sizeof entities / sizeof *entities)
                return NULL;
            c = entities[e].c;
        }
        out[n++] = c;
        i += step;
    }
    return n <= max ? out : NULL;
}

static bool number_of(struct bytes b, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < b.n; i++) {
        if (b.p[i] < '0' || b.p[i] > '9')
            return false;
        *out = *out * 10 + (uint64_t)(b.p[i] - '0');
    }
    return b.n && b.n <= 18;
}

int s3_page_parse(struct s3_page *out, struct bytes body, size_t max, struct arena *a)
{
    struct bytes list, rest, one, text;
    *out = (struct s3_page){0};
    if (!child(body, "ListBucketResult", &list))
        return -EBADMSG;
    out->objects = arena_alloc(a, (max + 1) * sizeof *out->objects);
    for (rest = list; element(rest, "Contents", &one, &rest); out->n++) {
        if (out->n == max)
            return -EBADMSG;
        struct s3_object *o = &out->objects[out->n];
        if (!child(one, "Key", &text) || !(o->key = text_of(text, S3_KEY_MAX, a)) ||
            !child(one, "Size", &text) || !number_of(text, &o->size))
            return -EBADMSG;
    }
    bool more = child(list, "IsTruncated", &text) && bytes_equal(text, bytes_str("true"));
    if (more && (!child(list, "NextContinuationToken", &text) || !text.n ||
                 !(out->next = text_of(text, S3_KEY_MAX * 2, a))))
        return -EBADMSG;
    return 0;
}

void s3_code_parse(char out[S3_CODE_MAX], struct bytes body)
{
    struct arena a cleanup_arena = {0};
    struct bytes error, code;
    const char *text = NULL;
    out[0] = '\0';
    if (child(body, "Error", &error) && child(error, "Code", &code))
        text = text_of(code, S3_CODE_MAX - 1, &a);
    if (text)
        memcpy(out, text, strlen(text) + 1);
}

/* ---- places -------------------------------------------------------------------------------- */

static char *copy(const char *p, size_t n)
{
    char *c = strndup(p, n);
    if (!c)
        abort();
    return c;
}

static bool plain(const char *s, size_t n, const char *others)
{
    for (size_t i = 0; i < n; i++)
        if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
              (s[i] >= '0' && s[i] <= '9') || strchr(others, s[i])))
            return false;
    return true;
}

bool s3_place_parse(struct s3_place *p, const char *url)
{
    if (strncmp(url, "s3://", 5) != 0)
        return false;
    const char *bucket = url + 5, *slash = strchr(bucket, '/');
    size_t bucket_n = slash ? (size_t)(slash - bucket) : strlen(bucket);
    const char *prefix = slash ? slash + 1 : "";
    size_t prefix_n = strlen(prefix);
    while (prefix_n && prefix[prefix_n - 1] == '/')
        prefix_n--;
    if (bucket_n < 3 || bucket_n > 63 || !plain(bucket, bucket_n, "-.") || prefix_n > 200 ||
        !plain(prefix, prefix_n, "-._/"))
        return false;
    p->bucket = copy(bucket, bucket_n);
    struct buf b = {0};
    buf_printf(&b, "%.*s%s", (int)prefix_n, prefix, prefix_n ? "/" : "");
    buf_append(&b, "", 1);
    p->prefix = (char *)b.p;
    return true;
}

static char *value_of(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        if (!strncmp(p, key, n) && p[n] == '=')
            return copy(p + n + 1, strcspn(p + n + 1, "\r\n"));
    return NULL;
}

bool s3_credentials_parse(struct s3_place *p, const char *text)
{
    p->access_key = value_of(text, "access_key");
    p->secret_key = value_of(text, "secret_key");
    return p->access_key && p->access_key[0] && p->secret_key && p->secret_key[0];
}

void s3_place_free(struct s3_place *p)
{
    free(p->endpoint);
    free(p->bucket);
    free(p->region);
    free(p->prefix);
    free(p->access_key);
    if (p->secret_key)
        explicit_bzero(p->secret_key, strlen(p->secret_key));
    free(p->secret_key);
    free(p->ca_file);
    *p = (struct s3_place){0};
}
