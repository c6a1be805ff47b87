/* SPDX-License-Identifier: Apache-2.0 */
/* How long an upstream's document counts (RFC 9111, RFC 5861). */
#pragma once

#include "registry-cache/rc.h"

/* Fills max_age_s, swr_s and sie_s from Cache-Control (or NULL) and what the operator allows. */
void rc_freshness(const struct rc_config *cfg, const char *cache_control, struct rc_ref *ref);

enum rc_fresh {
    RC_FRESH,
    RC_STALE_USABLE, /* show it, and ask again behind */
    RC_STALE,        /* ask first */
};
enum rc_fresh rc_fresh_now(const struct rc_ref *ref, int64_t now_s);
/* Whether it is better than an error. */
bool rc_usable_on_error(const struct rc_ref *ref, int64_t now_s);
