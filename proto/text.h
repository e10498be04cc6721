/* SPDX-License-Identifier: Apache-2.0 */
/* Names are bytes that anybody may have chosen: how they become JSON, and what a person is shown.
 * Any thread. */
#ifndef TEXT_H
#define TEXT_H

#include "buf.h"

/* Appends s as a JSON string, quoted. A byte that is no part of a UTF-8 character is \udc80 to
 * \udcff, 0xdc00 and itself: a half pair that no character has (Python's surrogateescape), so that
 * the name can be had again. Control characters are escaped, too. */
void text_json(struct buf *out, struct bytes s);
/* Appends s for a terminal: control characters, and bytes that are no part of a UTF-8 character,
 * are '?'. */
void text_shown(struct buf *out, struct bytes s);
#endif
