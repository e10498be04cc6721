// SPDX-License-Identifier: Apache-2.0
#include "text.h"

/* Bytes of the UTF-8 character at p and the character, 0 when there is none: Unicode, table 3-7. */
static size_t character(const uint8_t *p, size_t n, uint32_t *c)
{
    size_t len = p[0] < 0x80                   ? 1
                 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                 : p[0] < 0xc2                 ? 0
                 : p[0] < 0xf0                 ? 3
                 : p[0] < 0xf5                 ? 4
                                               : 0;
    if (!len || len > n)
        return 0;
    *c = len == 1 ? p[0] : p[0] & (0x7fu >> len);
    for (size_t k = 1; k < len; k++) {
        if ((p[k] & 0xc0) != 0x80)
            return 0;
        *c = *c << 6 | (p[k] & 0x3fu);
    }
    bool surrogate = *c >= 0xd800 && *c < 0xe000;
    bool longer = (len == 3 && *c < 0x800) || (len == 4 && *c < 0x10000);
    return surrogate || longer || *c > 0x10ffff ? 0 : len;
}

static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

void text_json(struct buf *out, struct bytes s)
{
    buf_append(out, "\"", 1);
    for (size_t k = 0, len; k < s.n; k += len ? len : 1) {
        uint32_t c = 0;
        len = character(s.p + k, s.n - k, &c);
        if (!len)
            buf_printf(out, "\\udc%02x", s.p[k]);
        else if (is_control(c))
            buf_printf(out, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", (char)c);
        else
            buf_append(out, s.p + k, len);
    }
    buf_append(out, "\"", 1);
}

void text_shown(struct buf *out, struct bytes s)
{
    for (size_t k = 0, len; k < s.n; k += len ? len : 1) {
        uint32_t c = 0;
        len = character(s.p + k, s.n - k, &c);
        bool shown = len && !is_control(c);
        buf_append(out, shown ? s.p + k : (const uint8_t *)"?", shown ? len : 1);
    }
}
