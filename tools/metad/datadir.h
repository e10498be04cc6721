// SPDX-License-Identifier: Apache-2.0
/* The metadata server's data directory:
 *
 *   meta.db            the store; meta.db-wal, its log, is there while the server runs and after a
 *                      crash, with meta.db-file, by which a log is known to be its own (walpair.h)
 *   ca.pem, ca.key     the installation's certificate authority; the key is readable by the owner
 * alone admin.credential   the administrator's identity (lines url=, credential=, ca=), 0600: what
 *                      `steadfs admin --admin FILE` reads
 *   lock               held by the running server
 *
 * The server's own certificate is made anew at every start, in memory: it follows the names given,
 * and there is no key of it to protect.
 */
#ifndef STEADFS_DATADIR_H
#define STEADFS_DATADIR_H

#include "meta.h"

struct datadir {
    char *path;
    int lock_fd;
    char *ca_pem, *ca_key_pem;
};

/* Makes what is missing, takes the lock. 0 or -errno with a line in err (512 bytes); -EBUSY:
 * another server uses it. o->path becomes the store's path (malloc'd); o's other fields serve to
 * create it. */
int datadir_open(struct datadir *d, const char *path, struct meta_options *o, char *err);
void datadir_close(struct datadir *d);
/* A new key, malloc'd, and a certificate for it with the CA's behind it. names: host names and
 * addresses, with commas between them. */
int datadir_certificate(const struct datadir *d, const char *names, char **cert_pem,
                        char **key_pem);
/* Writes where the server is into admin.credential, when that has changed. err: 512 bytes. */
int datadir_tell_admin(const struct datadir *d, const char *url, bool tls, char *err);
#endif
