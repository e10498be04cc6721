// SPDX-License-Identifier: Apache-2.0
#include "calendar.h"

void calendar_begin(struct calendar *c, int64_t last, int64_t now, int64_t counted)
{
    *c = (struct calendar){0};
    if (last && now - last > CALENDAR_AWAY_MS)
        *c = (struct calendar){.known = true, .offset = last - counted};
}

bool calendar_believes(struct calendar *c, int64_t now, int64_t counted)
{
    int64_t offset = now - counted;
    if (!c->known || offset - c->offset < CALENDAR_LEAP_MS) { /* also one that is set back */
        *c = (struct calendar){.known = true, .offset = offset};
        return true;
    }
    if (!c->doubt_since)
        c->doubt_since = counted ? counted : 1;
    if (counted - c->doubt_since < CALENDAR_DOUBT_MS)
        return false;
    *c = (struct calendar){.known = true, .offset = offset};
    return true;
}
