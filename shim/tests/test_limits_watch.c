/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/limits_watch.h"
#include "tests/unit/check.h"

static void test_next_look(void)
{
    struct shim_limits_watch w;
    uint64_t next;
    shim_watch_begin(&w, 10000, 30000, 2, 1000);
    CHECK_EQ(shim_watch_check(&w, 1000, 0, false, &next), SHIM_OVER_NOT);
    CHECK_EQ(next, SHIM_WATCH_MAX_MS);
    CHECK_EQ(shim_watch_check(&w, 6000, 9800, false, &next), SHIM_OVER_NOT);
    CHECK_EQ(next, 100); /* 200 ms are left, and two CPUs burn them */
    CHECK_EQ(shim_watch_check(&w, 6000, 9999, false, &next), SHIM_OVER_NOT);
    CHECK_EQ(next, SHIM_WATCH_MIN_MS);
    CHECK_EQ(shim_watch_check(&w, 30995, 1, false, &next), SHIM_OVER_NOT);
    CHECK_EQ(next, 5);
    CHECK_EQ(shim_watch_check(&w, 6000, 10000, false, &next), SHIM_OVER_CPU);
    CHECK_EQ(shim_watch_check(&w, 31000, 1, false, &next), SHIM_OVER_WALL);
    CHECK_EQ(shim_watch_check(&w, 31000, 10000, false, &next), SHIM_OVER_CPU);
    CHECK_EQ(shim_watch_check(&w, 31000, 10000, true, &next), SHIM_OVER_OOM);
}

static void test_held_back(void)
{
    struct shim_limits_watch w;
    uint64_t next;
    shim_watch_begin(&w, 10000, 1000, 1, 0);
    shim_watch_hold(&w, true, 400);
    shim_watch_hold(&w, true, 450);
    CHECK_EQ(shim_watch_wall_ms(&w, 5000), 400);
    CHECK_EQ(shim_watch_check(&w, 5000, 0, false, &next), SHIM_OVER_NOT);
    CHECK_EQ(next, SHIM_WATCH_MAX_MS);
    shim_watch_hold(&w, false, 5400);
    shim_watch_hold(&w, false, 5500);
    CHECK_EQ(shim_watch_wall_ms(&w, 5500), 500);
    CHECK_EQ(shim_watch_check(&w, 5999, 0, false, &next), SHIM_OVER_NOT);
    CHECK_EQ(next, 1);
    CHECK_EQ(shim_watch_check(&w, 6000, 0, false, &next), SHIM_OVER_WALL);
}

int main(void)
{
    test_next_look();
    test_held_back();
    return check_result();
}
