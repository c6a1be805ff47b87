/* SPDX-License-Identifier: Apache-2.0 */
/* multipart/form-data (RFC 7578) in a body that is here as a whole. Strict: what is not well-formed
 * is refused, nothing is guessed. Pure. */
#pragma once

#include "common/base/err.h"

#define GW_MULTIPART_BOUNDARY 71

/* The boundary in a Content-Type; -EINVAL when it is no multipart/form-data or has none. */
int gw_multipart_boundary(const char *content_type, char ret[static GW_MULTIPART_BOUNDARY],
                          struct dbx_err *err) DBX_MUST_USE;

struct gw_part {
    char name[65];
    char filename[1025]; /* "" when there is none */
    const uint8_t *data; /* in the body */
    size_t len;
};

/* Walks the parts; *offset begins at 0. 1: a part, 0: the end, -EINVAL. */
int gw_multipart_next(const uint8_t *body, size_t len, const char *boundary, size_t *offset,
                      struct gw_part *ret, struct dbx_err *err) DBX_MUST_USE;
