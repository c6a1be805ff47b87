/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/rate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/map.h"
#include "gateway/gw.h"
#include "gateway/request.h"

#define MAX_BUCKETS 20000
#define MAX_KEY 400

struct bucket {
    const struct gw_rate_rule *rule;
    double left;
    uint64_t at_ns;
    size_t key_len;
    char key[]; /* rule, NUL, key */
};

struct gw_rates {
    struct dbx_map *buckets; /* struct bucket, owned */
};

struct gw_rates *gw_rates_new(void)
{
    struct gw_rates *rates = DBX_NEW(struct gw_rates);
    rates->buckets = dbx_map_new();
    return rates;
}

static double fill_at(const struct bucket *b, uint64_t now_ns)
{
    double left = b->left;
    if (now_ns > b->at_ns)
        left += (double)(now_ns - b->at_ns) / b->rule->per_ns;
    return left < b->rule->burst ? left : b->rule->burst;
}

/* Those that are at least so full say no more than a new one would, or little. */
static void forget(struct gw_rates *rates, uint64_t now_ns, double share)
{
    struct dbx_map_iter it = {0};
    while (dbx_map_next(rates->buckets, &it)) {
        struct bucket *b = it.value;
        if (fill_at(b, now_ns) < share * b->rule->burst)
            continue;
        (void)dbx_map_del(rates->buckets, b->key, b->key_len);
        free(b);
    }
}

struct gw_rates *gw_rates_free(struct gw_rates *rates)
{
    if (!rates)
        return NULL;
    forget(rates, 0, 0);
    dbx_map_free(rates->buckets);
    free(rates);
    return NULL;
}

static struct bucket *find(struct gw_rates *rates, const struct gw_rate_rule *rule, const char *key,
                           uint64_t now_ns)
{
    char text[MAX_KEY];
    int n = snprintf(text, sizeof(text), "%s %s", rule->name, key);
    size_t len = n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1;
    struct bucket *b = dbx_map_get(rates->buckets, text, len);
    if (b)
        return b;
    for (double share = 1; dbx_map_count(rates->buckets) >= MAX_BUCKETS; share -= 0.25)
        forget(rates, now_ns, share);
    b = dbx_calloc(1, sizeof(*b) + len);
    b->rule = rule;
    b->left = rule->burst;
    b->at_ns = now_ns;
    b->key_len = len;
    memcpy(b->key, text, len);
    (void)dbx_map_put(rates->buckets, b->key, len, b);
    return b;
}

uint64_t gw_rate_take(struct gw_rates *rates, const struct gw_rate_rule *rule, const char *key,
                      uint64_t now_ns, uint32_t *ret_left)
{
    struct bucket *b = find(rates, rule, key, now_ns);
    b->left = fill_at(b, now_ns);
    b->at_ns = now_ns;
    if (b->left < 1) {
        *ret_left = 0;
        return (uint64_t)((1 - b->left) * rule->per_ns) + 1;
    }
    b->left -= 1;
    *ret_left = (uint32_t)b->left;
    return 0;
}

void gw_rate_give_back(struct gw_rates *rates, const struct gw_rate_rule *rule, const char *key)
{
    struct bucket *b = find(rates, rule, key, dbx_now_ns());
    if (b->left + 1 <= rule->burst)
        b->left += 1;
}

static uint64_t seconds(uint64_t ns)
{
    return (ns + DBX_NS_PER_S - 1) / DBX_NS_PER_S;
}

static bool allow(struct gw_req *rq, const struct gw_rate_rule *rule, const char *key, bool tell)
{
    uint32_t left;
    char again[24];
    uint64_t wait_ns = gw_rate_take(rq->gw->rates, rule, key, dbx_now_ns(), &left);
    if (tell || wait_ns)
        rq->rate = (struct gw_req_rate){
            .limit = rule->burst,
            .remaining = left,
            .reset = seconds(wait_ns ? wait_ns : (rule->burst - left) * rule->per_ns)};
    if (!wait_ns)
        return true;
    snprintf(again, sizeof(again), "%" PRIu64, seconds(wait_ns));
    const struct dbx_header header[] = {{"Retry-After", again}, {NULL, NULL}};
    gw_req_fail_status(rq, 429, DBX_LIMIT, "rate_limited", "too many requests, wait a little",
                       header);
    return false;
}

bool gw_rate_allow(struct gw_req *rq, const struct gw_rate_rule *rule, const char *key)
{
    bool first = !rq->rate_narrow; /* of several rules the first, and the narrowest, is told */
    rq->rate_narrow = true;
    return allow(rq, rule, key, first);
}

bool gw_rate_allow_call(struct gw_req *rq)
{
    static const struct dbx_id nobody;
    char user[DBX_ID_TEXT];
    bool known = !dbx_id_equal(&rq->user.id, &nobody);
    const struct gw_rate_rule *rule = rq->user.admin ? &rq->gw->rate_of_admins : &rq->gw->rate;
    if (!rule->burst)
        return true;
    dbx_id_format(&rq->user.id, user);
    return allow(rq, rule, known ? user : rq->peer, true);
}
