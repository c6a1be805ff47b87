/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/clock.h"
#include "common/base/def.h"
#include "common/base/rand.h"
#include "tests/unit/check.h"

static void test_format(void)
{
    static const struct {
        int64_t us;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {1, "1970-01-01T00:00:00.000Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {1582934400999999, "2020-02-29T00:00:00.999Z"},
        {4102444800000000, "2100-01-01T00:00:00.000Z"},
        {253402300799999999, "9999-12-31T23:59:59.999Z"},
        {253402300800000000, "0000-00-00T00:00:00.000Z"},
        {INT64_MIN, "0000-00-00T00:00:00.000Z"},
        {INT64_MAX, "0000-00-00T00:00:00.000Z"},
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(rows); i++) {
        char text[25];
        dbx_format_time(rows[i].us, text);
        CHECK_STR(text, rows[i].text);
    }
}

static void test_now(void)
{
    uint64_t a = dbx_now_ns(), b = dbx_now_ns();
    CHECK(b >= a);
    CHECK(dbx_now_ms() >= a / 1000000);
    CHECK(dbx_wall_us() > 1700000000000000);
}

static void test_random(void)
{
    uint8_t a[32] = {0}, b[32] = {0};
    dbx_random(a, sizeof(a));
    dbx_random(b, sizeof(b));
    CHECK(memcmp(a, b, sizeof(a)) != 0);
    int seen[3] = {0};
    for (int i = 0; i < 3000; i++) {
        uint64_t v = dbx_random_below(3);
        CHECK(v < 3);
        seen[v % 3]++;
    }
    CHECK(seen[0] > 500 && seen[1] > 500 && seen[2] > 500);
    CHECK_EQ(dbx_random_below(1), 0);
    CHECK(dbx_random_below((1ull << 63) + 1) <= 1ull << 63);
}

int main(void)
{
    test_format();
    test_now();
    test_random();
    return check_result();
}
