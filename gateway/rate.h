/* SPDX-License-Identifier: Apache-2.0 */
/* Token buckets: for what can be guessed (a rule and an address, an e-mail), and for all calls of
 * the API (a user, or the address of who is nobody). In this gateway's memory. Bounded: when there
 * are too many the fullest are forgotten. */
#pragma once

#include "common/base/clock.h" /* rules are made of its units */
#include "common/base/def.h"

struct gw_req;
struct gw_rates;

struct gw_rate_rule {
    const char *name;
    uint32_t burst;  /* how many at once */
    uint64_t per_ns; /* one more each */
};

struct gw_rates *gw_rates_new(void);
struct gw_rates *gw_rates_free(struct gw_rates *rates);
/* Takes one; 0, or how many nanoseconds until there is one again. *ret_left: whole ones left. */
uint64_t gw_rate_take(struct gw_rates *rates, const struct gw_rate_rule *rule, const char *key,
                      uint64_t now_ns, uint32_t *ret_left);
void gw_rate_give_back(struct gw_rates *rates, const struct gw_rate_rule *rule, const char *key);

/* Takes one for a request: sets the RateLimit headers; answers 429 and returns false when there is
 * none. */
bool gw_rate_allow(struct gw_req *rq, const struct gw_rate_rule *rule, const char *key);
/* The same by the general rule of all calls, once it is known whose it is (rq->user). Its headers
 * give way to those of a narrower rule. */
bool gw_rate_allow_call(struct gw_req *rq);
#define GW_RATE_ADMIN 100 /* times as much for administrators */
