// SPDX-License-Identifier: Apache-2.0
/* Taken apart from the right end for the parts that cannot hold the separators of the others. */
#include "invitation.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FINGERPRINT_LEN 64

static bool fingerprint_ok(char *f)
{
    if (strlen(f) != FINGERPRINT_LEN)
        return false;
    for (; *f; f++) {
        if (!isxdigit((unsigned char)*f))
            return false;
        *f = (char)tolower((unsigned char)*f);
    }
    return true;
}

static int parse(struct invitation *v, char *text)
{
    char *fingerprint = strchr(text, '#');
    if (fingerprint) {
        *fingerprint++ = 0;
        if (!fingerprint_ok(fingerprint))
            return -EINVAL;
    }
    char *token = strchr(text, '/'), *host = strchr(text, '@');
    if (!token || !host || host > token)
        return -EINVAL;
    *token++ = 0;
    *host++ = 0;
    char *port = strrchr(host, ':'), *end;
    if (!port || !isdigit((unsigned char)port[1]))
        return -EINVAL;
    *port++ = 0;
    unsigned long number = strtoul(port, &end, 10);
    if (*end || number == 0 || number > 65535 || !*text || !*host || !*token ||
        strpbrk(text, "/\n") || strpbrk(token, " \n"))
        return -EINVAL;
    *v = (struct invitation){
        .account = cli_format("%s", text),
        .host = cli_format("%s", host),
        .port = (unsigned)number,
        .token = cli_format("%s", token),
        .fingerprint = fingerprint ? cli_format("%s", fingerprint) : NULL,
    };
    return 0;
}

int invitation_parse(struct invitation *v, const char *text)
{
    *v = (struct invitation){0};
    cleanup_free char *copy = cli_format("%s", text);
    return parse(v, copy);
}

void invitation_free(struct invitation *v)
{
    free(v->account);
    free(v->host);
    if (v->token)
        explicit_bzero(v->token, strlen(v->token));
    free(v->token);
    free(v->fingerprint);
    *v = (struct invitation){0};
}
