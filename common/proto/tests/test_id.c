/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/clock.h"
#include "common/proto/id.h"
#include "tests/unit/check.h"

static void test_new(void)
{
    struct dbx_id last = dbx_id_new();
    uint64_t ms = 0;

    CHECK_EQ(last.b[6] >> 4, 7);
    CHECK_EQ(last.b[8] >> 6, 2);
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | last.b[i];
    CHECK(ms <= (uint64_t)dbx_wall_us() / 1000 && ms + 10000 > (uint64_t)dbx_wall_us() / 1000);
    for (int i = 0; i < 20000; i++) {
        struct dbx_id id = dbx_id_new();
        if (memcmp(id.b, last.b, 16) <= 0) {
            CHECK(!"monotonic");
            break;
        }
        last = id;
    }
}

static void test_text(void)
{
    static const char *const bad[] = {
        "",
        "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5",
        "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b6",
        "0190a1b2c3d4-7e5f-8a9b-0c1d2e3f4a5b0",
        "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5g",
        "0190a1b2_c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        " 190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
    };
    const char *text = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    struct dbx_id id, upper;
    char out[DBX_ID_TEXT];

    CHECK_EQ(dbx_id_parse(text, &id), 0);
    dbx_id_format(&id, out);
    CHECK_STR(out, text);
    CHECK_EQ(dbx_id_parse("0190A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B", &upper), 0);
    CHECK(dbx_id_equal(&id, &upper));
    CHECK(!dbx_id_is_zero(&id));
    CHECK_EQ(dbx_id_parse("00000000-0000-0000-0000-000000000000", &id), 0);
    CHECK(dbx_id_is_zero(&id));
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++)
        CHECK(dbx_id_parse(bad[i], &id) < 0);
    CHECK(dbx_id_parse(NULL, &id) < 0);
}

int main(void)
{
    test_new();
    test_text();
    return check_result();
}
