/* SPDX-License-Identifier: Apache-2.0 */
/* Time. Deadlines use the monotonic clock, records carry the wall clock; tests give their own
 * struct. */
#pragma once

#include <stdint.h>

#define DBX_NS_PER_MS 1000000ull
#define DBX_NS_PER_S 1000000000ull

uint64_t dbx_now_ns(void); /* CLOCK_MONOTONIC */
uint64_t dbx_now_ms(void);
int64_t dbx_wall_us(void); /* CLOCK_REALTIME, microseconds since 1970 */
/* RFC 3339 with milliseconds, UTC: "2026-11-22T01:02:03.456Z"; out: 25 bytes with NUL. */
void dbx_format_time(int64_t wall_us, char out[static 25]);
