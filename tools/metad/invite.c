// SPDX-License-Identifier: Apache-2.0
/* The store knows tokens, the running server knows its address and its CA; this is where they meet.
 */
#include "invite.h"

#include <string.h>

static bool word_is(const struct m_command_req *q, size_t i, const char *word)
{
    return i < q->words_n && bytes_equal(q->words[i].text, bytes_str(word));
}

bool invite_asked(const struct m_command_req *q, struct bytes *account)
{
    if (!word_is(q, 0, "admin") || !word_is(q, 1, "account") ||
        !(word_is(q, 2, "add") || word_is(q, 2, "token")))
        return false;
    for (size_t i = 3; i < q->words_n; i++)
        if (q->words[i].text.n && q->words[i].text.p[0] != '-') {
            *account = q->words[i].text;
            return true;
        }
    return false;
}

void invite_compose(struct m_command_ans *a, struct bytes account, const char *host, unsigned port,
                    const char *fingerprint, struct arena *ar)
{
    static const char space[] = " \t\r\n";
    struct bytes token = a->text;
    while (token.n && strchr(space, token.p[0]))
        token = bytes_of(token.p + 1, token.n - 1);
    while (token.n && strchr(space, token.p[token.n - 1]))
        token.n--;
    cleanup_buf struct buf text = {0};
    buf_printf(&text, "%.*s@%s:%u/%.*s%s%s\n", (int)account.n, (const char *)account.p, host, port,
               (int)token.n, (const char *)token.p, fingerprint[0] ? "#" : "", fingerprint);
    a->text = arena_bytes(ar, text.p, text.n);
}
