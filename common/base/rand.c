/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/rand.h"
#include "common/base/def.h"

#include <errno.h>
#include <sys/random.h>
#include <sys/types.h>

void dbx_random(void *out, size_t len)
{
    uint8_t *p = out;
    while (len) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0) {
            dbx_assert(errno == EINTR);
            continue;
        }
        p += n;
        len -= (size_t)n;
    }
}

uint64_t dbx_random_below(uint64_t bound)
{
    dbx_assert(bound > 0);
    /* values below 2^64 mod bound are thrown away: what is left divides evenly */
    uint64_t threshold = (0 - bound) % bound, v;
    do {
        dbx_random(&v, sizeof(v));
    } while (v < threshold);
    return v % bound;
}
