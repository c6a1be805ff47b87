/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/demand.h"
#include "tests/unit/check.h"

static void test_burst(void)
{
    struct shim_demand d = {0};
    CHECK_EQ(shim_demand_target(&d, 1000000, 2, 0), 0);
    for (uint64_t i = 0; i < 30; i++)
        shim_demand_claim(&d, 1000000 + i * 10);
    CHECK_EQ(shim_demand_target(&d, 1000290, 2, 0), 30);
    CHECK_EQ(shim_demand_target(&d, 1000290 + 120000, 2, 0), 15); /* the half-life */
    CHECK_EQ(shim_demand_target(&d, 1000290 + 240000, 2, 0), 8);
    CHECK_EQ(shim_demand_target(&d, 1000000 + 3600000, 2, 0), 0);
}

/* One every 100 ms: ten a window, however long it goes on. A lull does not lower it at once. */
static void test_steady(void)
{
    struct shim_demand d = {0};
    uint64_t now = 5000000;
    for (int i = 0; i < 600; i++)
        shim_demand_claim(&d, now += 100);
    CHECK_EQ(shim_demand_target(&d, now, 2, 0), 10);
    shim_demand_claim(&d, now += 5000);
    CHECK_EQ(shim_demand_target(&d, now, 2, 0), 10);
}

/* Where making one takes longer than a window, more must be there. */
static void test_slow(void)
{
    struct shim_demand d = {0};
    for (int i = 0; i < 100; i++)
        shim_demand_made(&d, 8000);
    for (int i = 0; i < 5; i++)
        shim_demand_claim(&d, 1000000);
    CHECK_EQ(shim_demand_target(&d, 1000000, 2, 0), 20);
    CHECK_EQ(shim_demand_target(&d, 1000000, 8, 0), 5);
}

static void test_misses(void)
{
    struct shim_demand d = {0};
    uint64_t now = 1000000;
    for (int i = 0; i < 20; i++) { /* three a window */
        shim_demand_claim(&d, now += 333);
        if (i >= 4)
            shim_demand_missed(&d, now);
    }
    uint32_t target = shim_demand_target(&d, now, 2, 4);
    CHECK_EQ(shim_demand_target(&d, now + 86400000, 2, 4), 4);
    CHECK(target >= 19 && target <= 20);
}

int main(void)
{
    test_misses();
    test_burst();
    test_steady();
    test_slow();
    return check_result();
}
