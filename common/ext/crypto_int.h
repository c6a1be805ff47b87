/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of crypto.c may see besides. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The table-driven path of dbx_crc32c, which is taken where the processor has no SSE4.2. */
uint32_t dbx_crc32c__table(uint32_t crc, const void *data, size_t len);
