// SPDX-License-Identifier: Apache-2.0
/* Recursive descent with a bound on depth. The input comes from a mount of the same user, so that
 * this needs to be correct, not fast. */
#include "json.h"

#include <stdlib.h>
#include <string.h>

struct reader {
    struct arena *a;
    const char *p, *end;
    unsigned depth;
};

static struct json *value(struct reader *r);

static void space(struct reader *r)
{
    while (r->p < r->end && strchr(" \t\r\n", *r->p) && *r->p)
        r->p++;
}

static bool take(struct reader *r, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, word, n) != 0)
        return false;
    r->p += n;
    return true;
}

static int hex4(struct reader *r)
{
    int v = 0;
    if (r->end - r->p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *d = r->p[i] ? strchr(digits, r->p[i] | 0x20) : NULL;
        if (!d)
            return -1;
        v = v * 16 + (int)(d - digits);
    }
    r->p += 4;
    return v;
}

static void utf8(struct buf *out, unsigned c)
{
    char s[4];
    size_t n;
    if (c < 0x80) {
        s[0] = (char)c;
        n = 1;
    } else if (c < 0x800) {
        s[0] = (char)(0xc0 | c >> 6);
        s[1] = (char)(0x80 | (c & 0x3f));
        n = 2;
    } else if (c < 0x10000) {
        s[0] = (char)(0xe0 | c >> 12);
        s[1] = (char)(0x80 | (c >> 6 & 0x3f));
        s[2] = (char)(0x80 | (c & 0x3f));
        n = 3;
    } else {
        s[0] = (char)(0xf0 | c >> 18);
        s[1] = (char)(0x80 | (c >> 12 & 0x3f));
        s[2] = (char)(0x80 | (c >> 6 & 0x3f));
        s[3] = (char)(0x80 | (c & 0x3f));
        n = 4;
    }
    buf_append(out, s, n);
}

/* Behind "\u". A low half alone is the byte of a name that is not UTF-8 (text.h). */
static bool unicode(struct reader *r, struct buf *out)
{
    int c = hex4(r);
    if (c < 0)
        return false;
    if (c >= 0xdc80 && c <= 0xdcff) {
        buf_append(out, &(char){(char)(c & 0xff)}, 1);
        return true;
    }
    if (c >= 0xd800 && c < 0xdc00) {
        int low = take(r, "\\u") ? hex4(r) : -1;
        if (low < 0xdc00 || low > 0xdfff)
            return false;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    utf8(out, (unsigned)c);
    return true;
}

static bool escape(struct reader *r, struct buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->p == r->end)
        return false;
    char c = *r->p++;
    if (c == 'u')
        return unicode(r, out);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        return false;
    buf_append(out, &to[at - from], 1);
    return true;
}

/* Behind the opening quotation mark. */
static char *string(struct reader *r)
{
    cleanup_buf struct buf out = {0};
    while (r->p < r->end && *r->p != '"') {
        if (*r->p == '\\') {
            r->p++;
            if (!escape(r, &out))
                return NULL;
        } else {
            buf_append(&out, r->p++, 1);
        }
    }
    return take(r, "\"") ? arena_str(r->a, bytes_of(out.p, out.n)) : NULL;
}

/* Behind the opening bracket. */
static bool elements(struct reader *r, struct json *v, const char *close)
{
    struct json **last = &v->first;
    space(r);
    if (take(r, close))
        return true;
    do {
        char *key = NULL;
        space(r);
        if (v->type == JSON_OBJECT) {
            if (!take(r, "\"") || !(key = string(r)))
                return false;
            space(r);
            if (!take(r, ":"))
                return false;
        }
        struct json *e = value(r);
        if (!e)
            return false;
        e->key = key;
        *last = e;
        last = &e->next;
        space(r);
    } while (take(r, ","));
    return take(r, close);
}

static bool number(struct reader *r, struct json *v)
{
    char text[64];
    size_t n = 0;
    while (r->p < r->end && n + 1 < sizeof text && *r->p && strchr("+-.eE0123456789", *r->p))
        text[n++] = *r->p++;
    text[n] = 0;
    char *end;
    v->number = strtod(text, &end);
    return n > 0 && !*end;
}

static struct json *value(struct reader *r)
{
    struct json *v = arena_alloc(r->a, sizeof *v);
    bool ok = r->depth++ < JSON_DEPTH_MAX;
    space(r);
    if (!ok) {
        return NULL;
    } else if (take(r, "{")) {
        v->type = JSON_OBJECT;
        ok = elements(r, v, "}");
    } else if (take(r, "[")) {
        v->type = JSON_ARRAY;
        ok = elements(r, v, "]");
    } else if (take(r, "\"")) {
        v->type = JSON_STRING;
        ok = (v->text = string(r)) != NULL;
    } else if (take(r, "true")) {
        v->type = JSON_BOOL;
        v->yes = true;
    } else if (take(r, "false")) {
        v->type = JSON_BOOL;
    } else if (!take(r, "null")) {
        v->type = JSON_NUMBER;
        ok = number(r, v);
    }
    r->depth--;
    return ok ? v : NULL;
}

struct json *json_parse(struct arena *a, const char *p, size_t n)
{
    struct reader r = {.a = a, .p = p, .end = p + n};
    struct json *v = value(&r);
    space(&r);
    return r.p == r.end ? v : NULL;
}

const struct json *json_get(const struct json *o, const char *key)
{
    if (!o || o->type != JSON_OBJECT)
        return NULL;
    for (const struct json *e = o->first; e; e = e->next)
        if (!strcmp(e->key, key))
            return e;
    return NULL;
}

const char *json_text(const struct json *o, const char *key)
{
    const struct json *e = json_get(o, key);
    return e && e->type == JSON_STRING ? e->text : "";
}

double json_number(const struct json *o, const char *key)
{
    const struct json *e = json_get(o, key);
    return e && e->type == JSON_NUMBER ? e->number : 0;
}

bool json_yes(const struct json *o, const char *key)
{
    const struct json *e = json_get(o, key);
    return e && e->type == JSON_BOOL && e->yes;
}
