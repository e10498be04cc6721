// SPDX-License-Identifier: Apache-2.0
/* ACCOUNT@HOST:PORT/TOKEN#FINGERPRINT, as an administrator hands it to a user. */
#ifndef STEADFS_INVITATION_H
#define STEADFS_INVITATION_H

#include "cli.h"

struct invitation {       /* all malloc'd */
    char *account, *host; /* host in brackets if it is an IPv6 address */
    unsigned port;
    char *token;
    char *fingerprint; /* lower-case hex SHA-256 of the CA certificate, or NULL: no TLS */
};

/* 0, or -EINVAL. */
int invitation_parse(struct invitation *v, const char *text);
void invitation_free(struct invitation *v);
#endif
