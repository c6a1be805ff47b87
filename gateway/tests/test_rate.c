/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/rate.h"
#include "tests/unit/check.h"

static const struct gw_rate_rule rule = {"test", 3, 1000}, other = {"other", 1, 1000},
                                 fine = {"fine", 2, 3};

int main(void)
{
    struct gw_rates *rates = gw_rates_new();
    uint32_t left;
    char key[32];
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(gw_rate_take(rates, &rule, "a", 5000, &left), 0);
        CHECK_EQ(left, 2 - i);
    }
    CHECK_EQ(gw_rate_take(rates, &rule, "a", 5000, &left), 1001);
    CHECK_EQ(gw_rate_take(rates, &rule, "a", 5400, &left), 601);
    CHECK_EQ(gw_rate_take(rates, &rule, "b", 5400, &left), 0);
    CHECK_EQ(gw_rate_take(rates, &other, "a", 5400, &left), 0);
    CHECK_EQ(gw_rate_take(rates, &rule, "a", 6100, &left), 0);
    CHECK(gw_rate_take(rates, &rule, "a", 6100, &left) > 0);
    CHECK_EQ(gw_rate_take(rates, &rule, "a", 100000, &left), 0); /* never more than the burst */
    CHECK_EQ(left, 2);
    CHECK_EQ(gw_rate_take(rates, &fine, "a", 100000, &left), 0); /* 333 million a second */
    CHECK_EQ(gw_rate_take(rates, &fine, "a", 100000, &left), 0);
    CHECK(gw_rate_take(rates, &fine, "a", 100002, &left) > 0);
    CHECK_EQ(gw_rate_take(rates, &fine, "a", 100003, &left), 0);
    for (int i = 0; i < 50000; i++) { /* bounded, and who is out of tries stays known */
        snprintf(key, sizeof(key), "k%d", i);
        CHECK_EQ(gw_rate_take(rates, &rule, key, 100000, &left), 0);
    }
    gw_rates_free(rates);
    return check_result();
}
