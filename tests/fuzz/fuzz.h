// SPDX-License-Identifier: Apache-2.0
/* What libFuzzer calls with each input; returns 0. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
#endif
