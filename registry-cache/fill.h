/* SPDX-License-Identifier: Apache-2.0 */
/* One fetch from upstream into the store, however many wait for it. It goes on when all of them
 * have left. What never changes (RC_FIXED) can be shown while it comes; its last byte is held back
 * until the whole has been verified. */
#pragma once

#include "registry-cache/rc.h"

struct rc_fill;

/* Joins the fill of want->key, or begins it. 0: w->more and w->done will tell. Negative: *ret_p
 * says why not (nothing will be called). w NULL: for the store only. */
int rc_fill_join(struct rc *rc, const struct rc_want *want, struct rc_wait *w,
                 struct rc_problem *ret_p) DBX_MUST_USE;

/* In more(): */
struct rc_fill_view {
    int fd;
    uint64_t ready;        /* bytes that may be shown */
    int64_t total;         /* of all; -1: not known yet */
    bool whole;            /* verified: ready is all there is */
    const uint8_t *digest; /* when whole */
};
void rc_fill_view(const struct rc *rc, const char *key, struct rc_fill_view *ret);
void rc_fills_free(struct rc *rc);
