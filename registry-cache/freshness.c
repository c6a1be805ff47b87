/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/freshness.h"
#include "common/base/clock.h"
#include "common/base/str.h"

#include <string.h>
#include <strings.h>

#define DEFAULT_AGE_S 300
#define MAX_AGE_S 86400

int64_t rc_wall_s(void)
{
    return dbx_wall_us() / 1000000;
}

/* The value of "name=N" in a list of directives. */
static bool directive(const char *list, const char *name, uint64_t *ret)
{
    size_t want = strlen(name);

    while (list && *list) {
        list += strspn(list, " \t,");
        size_t n = strcspn(list, ",");
        if (n > want && strncasecmp(list, name, want) == 0 && list[want] == '=') {
            size_t digits = strspn(list + want + 1, "0123456789");
            if (dbx_parse_u64(list + want + 1, digits, 0, UINT32_MAX, ret) == 0)
                return true;
        }
        list += n;
    }
    return false;
}

static bool flag(const char *list, const char *name)
{
    size_t want = strlen(name);

    while (list && *list) {
        list += strspn(list, " \t,");
        size_t n = strcspn(list, ",=; \t");
        if (n == want && strncasecmp(list, name, want) == 0)
            return true;
        list += strcspn(list, ",");
    }
    return false;
}

static uint32_t bounded(uint64_t v, uint64_t max)
{
    return (uint32_t)(v < max ? v : max);
}

void rc_freshness(const struct rc_config *cfg, const char *cc, struct rc_ref *ref)
{
    bool strict = flag(cc, "no-cache") || flag(cc, "no-store");
    uint64_t v = DEFAULT_AGE_S;

    if (!directive(cc, "s-maxage", &v))
        (void)directive(cc, "max-age", &v);
    if (strict)
        v = 0;
    ref->max_age_s = bounded(v < cfg->fresh_s ? cfg->fresh_s : v, MAX_AGE_S);
    v = cfg->swr_s;
    if (directive(cc, "stale-while-revalidate", &v) && v > cfg->swr_s)
        v = cfg->swr_s;
    ref->swr_s = strict || flag(cc, "must-revalidate") ? 0 : bounded(v, UINT32_MAX);
    ref->sie_s = bounded(cfg->sie_s, UINT32_MAX);
}

static int64_t age(const struct rc_ref *ref, int64_t now_s)
{
    return now_s > ref->fetched_s ? now_s - ref->fetched_s
                                  : 0; /* the clock may have been set back */
}

enum rc_fresh rc_fresh_now(const struct rc_ref *ref, int64_t now_s)
{
    int64_t a = age(ref, now_s);

    if (a < ref->max_age_s || (a == 0 && ref->max_age_s))
        return RC_FRESH;
    return a < (int64_t)ref->max_age_s + ref->swr_s ? RC_STALE_USABLE : RC_STALE;
}

bool rc_usable_on_error(const struct rc_ref *ref, int64_t now_s)
{
    return age(ref, now_s) < (int64_t)ref->max_age_s + ref->sie_s;
}
