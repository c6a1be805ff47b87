/* SPDX-License-Identifier: Apache-2.0 */
/* Variants: what a source's bytes become (transform.h), packed or not. Made once for all who wait,
 * in slices, so that a document of 10 MB does not hold the loop. */
#pragma once

#include "registry-cache/rc.h"

struct rc_variant {
    enum rc_form form;
    const char *name; /* the package, canonical */
    const char *base; /* RC_FORM_NPM, else "" */
    bool gzip;
};

/* The variant when it is here. */
struct rc_ref *rc_variant_find(struct rc *rc, const struct rc_ref *source,
                               const struct rc_variant *v);
/* Else: joins who makes it, or begins. w->done will tell. */
int rc_derive_join(struct rc *rc, const struct rc_ref *source, const struct rc_variant *v,
                   struct rc_wait *w, struct rc_problem *ret_p) DBX_MUST_USE;
void rc_derives_free(struct rc *rc);
