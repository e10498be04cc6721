// SPDX-License-Identifier: Apache-2.0
#include "pins.h"

static bool ordered(const struct server_row *s, int64_t now_ms)
{
    return s->rekey_ms && !s->pin_next.n && (uint64_t)now_ms < s->rekey_ms + REKEY_ORDER_MS;
}

bool pins_changing(const struct server_row *s, int64_t now_ms)
{
    return s->pin_next.n || ordered(s, now_ms);
}

bool pins_strange(const struct server_row *s)
{
    return s->shown.n && s->pin.n && !bytes_equal(s->shown, s->pin) &&
           !bytes_equal(s->shown, s->pin_next);
}

/* The key that it shows now. */
static bool take_shown(struct server_row *s, struct bytes pin)
{
    if (!pin.n)
        return false; /* it does not tell */
    s->shown = pin;
    if (!s->pin.n) {
        s->pin = pin;
        return true;
    }
    if (!bytes_equal(pin, s->pin_next))
        return false;
    s->pin = s->pin_next;
    s->pin_next = (struct bytes){0};
    s->rekey_ms = 0;
    return true;
}

bool pins_beat(struct server_row *s, const struct meta_caller *who, const struct m_beat_req *q,
               int64_t now_ms, struct m_beat_ans *a)
{
    bool changed = take_shown(s, q->pin);
    if (q->csr.n && ordered(s, now_ms)) {
        s->pin_next = who->pin;
        s->rekey_ms = who->pin.n ? (uint64_t)now_ms : 0; /* it may not have a certificate */
        changed |= who->pin.n > 0;
    }
    if (q->csr.n && who->pin.n && bytes_equal(who->pin, s->pin_next))
        a->certificate = who->certificate;
    a->rekey = ordered(s, now_ms);
    if (s->pin_next.n && (pins_strange(s) || (uint64_t)now_ms >= s->rekey_ms + s->rekey_overlap_ms))
        a->use_pin = s->pin_next;
    return changed;
}

struct m_server pins_server(const struct server_row *s, struct arena *ar)
{
    struct m_server out = {.id = s->id, .premises = s->premises, .url = s->url};
    out.pins = arena_alloc(ar, 2 * sizeof *out.pins);
    if (s->pin.n)
        out.pins[out.pins_n++].sha256 = s->pin;
    if (s->pin_next.n)
        out.pins[out.pins_n++].sha256 = s->pin_next;
    return out;
}
