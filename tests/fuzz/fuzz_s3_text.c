// SPDX-License-Identifier: Apache-2.0
/* What an object store answers: a listing, an error, the name of an object; and what people write
 * about a store. A name that is read is made again. */
#include "fuzz.h"
#include "s3_keys.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_MAX 16

static void names(const char *text)
{
    struct s3_name n;
    char again[DIR_FILE_NAME];
    if (!s3_name_parse(&n, text))
        return;
    s3_name_make(again, &n);
    assert(strcmp(again, text) == 0);
}

static void many_names(struct bytes in)
{
    struct s3_name n;
    char name[DIR_FILE_NAME];
    for (size_t at = 0; s3_names_next(in, &at, &n, name);)
        names(name);
}

static void pages(struct bytes in)
{
    struct arena a cleanup_arena = {0};
    struct s3_page page;
    if (s3_page_parse(&page, in, PAGE_MAX, &a))
        return;
    assert(page.n <= PAGE_MAX);
    for (size_t i = 0; i < page.n; i++) {
        assert(strlen(page.objects[i].key) <= S3_KEY_MAX);
        names(page.objects[i].key);
    }
    assert(!page.next || page.next[0]);
}

static void places(const char *text)
{
    struct s3_place p = {0};
    if (s3_place_parse(&p, text))
        assert(strlen(p.bucket) <= 63 && (!p.prefix[0] || p.prefix[strlen(p.prefix) - 1] == '/'));
    if (s3_credentials_parse(&p, text))
        assert(p.access_key[0] && p.secret_key[0]);
    s3_place_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char code[S3_CODE_MAX], *text = strndup((const char *)data, size);
    if (!text)
        abort();
    pages(bytes_of(data, size));
    s3_code_parse(code, bytes_of(data, size));
    assert(strlen(code) < S3_CODE_MAX);
    names(text);
    many_names(bytes_of(data, size));
    places(text);
    free(text);
    return 0;
}
