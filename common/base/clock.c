/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/clock.h"
#include "common/base/def.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_S 1000000000u
#define US_PER_S 1000000

uint64_t dbx_now_ns(void)
{
    struct timespec ts;
    dbx_assert(clock_gettime(CLOCK_MONOTONIC, &ts) == 0);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t dbx_now_ms(void)
{
    return dbx_now_ns() / 1000000;
}

int64_t dbx_wall_us(void)
{
    struct timespec ts;
    dbx_assert(clock_gettime(CLOCK_REALTIME, &ts) == 0);
    return (int64_t)ts.tv_sec * US_PER_S + ts.tv_nsec / 1000;
}

void dbx_format_time(int64_t wall_us, char out[static 25])
{
    int64_t us = wall_us % US_PER_S;
    time_t s = wall_us / US_PER_S;
    if (us < 0) {
        us += US_PER_S;
        s--;
    }
    struct tm tm;
    char text[64];
    if (!gmtime_r(&s, &tm) || tm.tm_year + 1900 < 0 || tm.tm_year + 1900 > 9999) {
        memcpy(out, "0000-00-00T00:00:00.000Z", 25); /* the format has four digits for the year */
        return;
    }
    int n = snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
                     tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(us / 1000));
    dbx_assert(n == 24);
    memcpy(out, text, 25);
}
