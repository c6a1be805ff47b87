/* SPDX-License-Identifier: Apache-2.0 */
#include "common/ext/gzip.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <stdlib.h>

#define SIZE 300000

static void pack(const uint8_t *data, size_t len, struct dbx_buf *out)
{
    struct dbx_gzip *z = dbx_gzip_new(6);

    for (size_t at = 0; at < len; at += 7001)
        CHECK_EQ(dbx_gzip_feed(z, data + at, len - at < 7001 ? len - at : 7001, false, out), 0);
    CHECK_EQ(dbx_gzip_feed(z, NULL, 0, true, out), 0);
    dbx_gzip_free(z);
}

/* In pieces of `step`, out of a buffer that holds `max`. */
static void round_trip(const uint8_t *data, size_t len, size_t step, size_t max)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf packed = {.max = 1 << 20};
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf all = {.max = 1 << 20};
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out = {.max = max};
    struct dbx_gunzip *z = dbx_gunzip_new();
    size_t used;

    pack(data, len, &packed);
    for (size_t at = 0; at < packed.len; at += used) {
        size_t n = packed.len - at < step ? packed.len - at : step;
        if (dbx_gunzip_feed(z, packed.data + at, n, &used, &out) < 0) {
            CHECK(false);
            break;
        }
        CHECK_EQ(dbx_buf_append(&all, out.data, out.len), 0);
        dbx_buf_clear(&out);
    }
    do { /* what zlib still held when the input was used up */
        dbx_buf_clear(&out);
        CHECK_EQ(dbx_gunzip_feed(z, NULL, 0, &used, &out), 0);
        CHECK_EQ(dbx_buf_append(&all, out.data, out.len), 0);
    } while (out.len);
    CHECK(dbx_gunzip_done(z));
    CHECK(all.len == len && (len == 0 || memcmp(all.data, data, len) == 0));
    dbx_gunzip_free(z);
}

static void test_bad(void)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out = {.max = 1000};
    struct dbx_gunzip *z = dbx_gunzip_new();
    size_t used;

    CHECK_EQ(dbx_gunzip_feed(z, "this is not gzip", 16, &used, &out), -EBADMSG);
    CHECK(!dbx_gunzip_done(z));
    dbx_gunzip_free(z);
}

int main(void)
{
    uint8_t *data = malloc(SIZE);

    for (size_t i = 0; data && i < SIZE; i++)
        data[i] = (uint8_t)(i % 1000 < 500 ? 'a' : i * 2654435761u >> 13);
    if (data) {
        round_trip(data, SIZE, 1 << 20, 1 << 20);
        round_trip(data, SIZE, 1, 100);
        round_trip(data, SIZE, 5000, 333);
        round_trip(data, 0, 10, 10);
    }
    test_bad();
    free(data);
    return check_result();
}
