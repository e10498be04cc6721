// SPDX-License-Identifier: Apache-2.0
/* Reading JSON (RFC 8259) that a mount has printed. Everything lives in the arena given. */
#ifndef STEADFS_JSON_H
#define STEADFS_JSON_H

#include "buf.h"

#define JSON_DEPTH_MAX 16

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_type type;
    bool yes; /* of a boolean */
    double number;
    char *text;         /* of a string: UTF-8, NUL-terminated (an embedded NUL ends it) */
    char *key;          /* inside an object: its name */
    struct json *first; /* of an array or object: its elements */
    struct json *next;  /* the element behind this one */
};

/* The value that the n bytes hold, or NULL if they are not exactly one. */
struct json *json_parse(struct arena *a, const char *p, size_t n);
/* A member of an object; NULL when absent or when o is NULL or no object. */
const struct json *json_get(const struct json *o, const char *key);
/* The member as text, "" unless it is a string; as a number, 0 unless it is one. */
const char *json_text(const struct json *o, const char *key);
double json_number(const struct json *o, const char *key);
bool json_yes(const struct json *o, const char *key);
#endif
