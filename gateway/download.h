/* SPDX-License-Identifier: Apache-2.0 */
/* What a download's headers mean. Pure. */
#pragma once

#include "common/base/def.h"

/* Of "Range" against so many bytes: 0: send all (there is none, or none that we serve: several,
 * other units, malformed), 1: *ret_from up to and with *ret_to, -1: outside of it (416). */
int gw_range_parse(const char *header, uint64_t size, uint64_t *ret_from, uint64_t *ret_to);
/* Whether an If-None-Match names this ETag (hex digits, without quotes). */
bool gw_etag_listed(const char *header, const char *etag);
/* "attachment; filename=...": the last component of a path, for any client. At most 4 KiB; caller
 * frees. */
char *gw_disposition(const char *path, const char *suffix);
