/* SPDX-License-Identifier: Apache-2.0 */
/* Random bytes from the kernel (getrandom); aborts if there are none. */
#pragma once

#include <stddef.h>
#include <stdint.h>

void dbx_random(void *out, size_t len);
uint64_t dbx_random_below(uint64_t bound); /* uniform in [0, bound) */
