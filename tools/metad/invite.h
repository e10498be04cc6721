// SPDX-License-Identifier: Apache-2.0
/* Turns the answer to `steadfs admin account add|token NAME` into what the administrator hands to a
 * user.
 *
 * An invitation is ACCOUNT@HOST:PORT/TOKEN#FINGERPRINT: where the metadata server is, a token that
 * works once, and the SHA-256 of the CA certificate, so that the first connection can be trusted
 * already. Without TLS there is no fingerprint and no #.
 */
#ifndef STEADFS_INVITE_H
#define STEADFS_INVITE_H

#include "messages.h"

/* Whether these words ask for an account's token; the account's name in *account. */
bool invite_asked(const struct m_command_req *q, struct bytes *account);
/* Replaces a->text: the token alone becomes the invitation; a JSON object with a member "token"
 * gets a member "invitation". Without a token (none was asked for) nothing changes. */
void invite_compose(struct m_command_ans *a, struct bytes account, const char *host, unsigned port,
                    const char *fingerprint, struct arena *ar);
#endif
