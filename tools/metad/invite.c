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
    for (size_t i = 3; i < q->words_n; i++) {
        if (word_is(q, i, "--assign"))
            i++; /* its value */
        else if (q->words[i].text.n && q->words[i].text.p[0] != '-') {
            *account = q->words[i].text;
            return true;
        }
    }
    return false;
}

/* The token inside the answer: all of it but white space, or the member of that name in JSON. */
static struct bytes token_of(struct bytes text, bool json)
{
    static const char space[] = " \t\r\n", before[] = "\"token\": \"";
    if (json) {
        const uint8_t *at = memmem(text.p, text.n, before, sizeof before - 1);
        if (!at)
            return (struct bytes){0};
        at += sizeof before - 1;
        const uint8_t *end = memchr(at, '"', (size_t)(text.p + text.n - at));
        return end ? bytes_of(at, (size_t)(end - at)) : (struct bytes){0};
    }
    while (text.n && strchr(space, text.p[0]))
        text = bytes_of(text.p + 1, text.n - 1);
    while (text.n && strchr(space, text.p[text.n - 1]))
        text.n--;
    return text;
}

void invite_compose(struct m_command_ans *a, struct bytes account, const char *host, unsigned port,
                    const char *fingerprint, struct arena *ar)
{
    bool json = a->text.n && a->text.p[0] == '{';
    struct bytes token = token_of(a->text, json);
    if (!token.n)
        return;
    cleanup_buf struct buf text = {0};
    if (json) {
        const uint8_t *brace = memrchr(a->text.p, '}', a->text.n);
        buf_append(&text, a->text.p, brace ? (size_t)(brace - a->text.p) : a->text.n);
        buf_printf(&text, ", \"invitation\": \"");
    }
    buf_printf(&text, "%.*s@%s:%u/%.*s%s%s%s\n", (int)account.n, (const char *)account.p, host,
               port, (int)token.n, (const char *)token.p, fingerprint[0] ? "#" : "", fingerprint,
               json ? "\"}" : "");
    a->text = arena_bytes(ar, text.p, text.n);
}
