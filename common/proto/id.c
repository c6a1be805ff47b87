/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/id.h"

#include "common/base/clock.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include <errno.h>
#include <string.h>

/* RFC 9562, 6.2, method 1: the 12 bits behind the version count within a millisecond; a clock that
 * steps back does not step the ids back. One thread makes ids. */
static void next_tick(uint64_t *ret_ms, uint32_t *ret_count)
{
    static uint64_t last_ms;
    static uint32_t count;
    uint64_t now = (uint64_t)dbx_wall_us() / 1000;

    if (now > last_ms) {
        last_ms = now;
        count = (uint32_t)dbx_random_below(0x400);
    } else if (++count > 0xfff) {
        last_ms++;
        count = 0;
    }
    *ret_ms = last_ms;
    *ret_count = count;
}

struct dbx_id dbx_id_new(void)
{
    struct dbx_id id;
    uint64_t ms;
    uint32_t count;

    next_tick(&ms, &count);
    for (int i = 0; i < 6; i++)
        id.b[i] = (uint8_t)(ms >> (40 - 8 * i));
    id.b[6] = (uint8_t)(0x70 | count >> 8);
    id.b[7] = (uint8_t)count;
    dbx_random(id.b + 8, 8);
    id.b[8] = (uint8_t)(0x80 | (id.b[8] & 0x3f));
    return id;
}

void dbx_id_format(const struct dbx_id *id, char out[static DBX_ID_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    char *p = out;

    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = digits[id->b[i] >> 4];
        *p++ = digits[id->b[i] & 15];
    }
    *p = '\0';
}

int dbx_id_parse(const char *s, struct dbx_id *ret)
{
    static const uint8_t groups[] = {4, 2, 2, 2, 6};
    struct dbx_id id;
    size_t at = 0;

    if (!s || strnlen(s, DBX_ID_TEXT) != DBX_ID_TEXT - 1)
        return -EINVAL;
    for (size_t g = 0; g < DBX_ARRAY_LEN(groups); g++) {
        if (g > 0 && *s++ != '-')
            return -EINVAL;
        if (dbx_hex_decode(s, 2 * (size_t)groups[g], id.b + at) < 0)
            return -EINVAL;
        s += 2 * groups[g];
        at += groups[g];
    }
    *ret = id;
    return 0;
}

bool dbx_id_equal(const struct dbx_id *a, const struct dbx_id *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

bool dbx_id_is_zero(const struct dbx_id *id)
{
    static const struct dbx_id zero;
    return dbx_id_equal(id, &zero);
}
