/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/recent.h"
#include "tests/unit/check.h"

int main(void)
{
    static char text[1000];
    struct gw_recent *rc = gw_recent_new(10000);
    struct dbx_id ids[200];
    size_t len = 0, here = 0;
    for (size_t i = 0; i < 200; i++)
        ids[i] = dbx_id_new();
    gw_recent_keep(rc, &ids[0], "first", 5);
    const char *found = gw_recent_find(rc, &ids[0], &len);
    CHECK(found && len == 5 && memcmp(found, "first", 5) == 0);
    CHECK(!gw_recent_find(rc, &ids[1], &len));
    gw_recent_keep(rc, &ids[0], "again", 5);
    found = gw_recent_find(rc, &ids[0], &len);
    CHECK(found && memcmp(found, "again", 5) == 0);
    gw_recent_keep(rc, &ids[1], text, 101); /* too large a share */
    CHECK(!gw_recent_find(rc, &ids[1], &len));
    for (size_t i = 1; i < 200; i++) { /* what is read stays, the rest goes in order */
        gw_recent_keep(rc, &ids[i], text, 100);
        CHECK(gw_recent_find(rc, &ids[0], &len));
    }
    for (size_t i = 0; i < 200; i++)
        here += gw_recent_find(rc, &ids[i], &len) != NULL;
    CHECK(here > 50 && here < 100);
    CHECK(gw_recent_find(rc, &ids[199], &len) && !gw_recent_find(rc, &ids[1], &len));
    gw_recent_free(rc);
    return check_result();
}
