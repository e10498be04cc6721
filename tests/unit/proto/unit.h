// SPDX-License-Identifier: Apache-2.0
/* cmocka, behind the headers that it wants to find included in this order. */
#ifndef UNIT_H
#define UNIT_H

// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <setjmp.h>
#include <cmocka.h>
// clang-format on
#endif
