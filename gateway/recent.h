/* SPDX-License-Identifier: Apache-2.0 */
/* The objects of ended executions that were read lately: what a process wrote does not change once
 * its END record was seen, so it is not read from the log again. Who may see one is asked of the
 * database each time, before. Bounded; those that were not read for the longest time go. */
#pragma once

#include "common/proto/id.h"

struct gw_recent;

struct gw_recent *gw_recent_new(size_t max_bytes);
struct gw_recent *gw_recent_free(struct gw_recent *rc);
/* NULL: not here. Valid until the next call. */
const char *gw_recent_find(struct gw_recent *rc, const struct dbx_id *process, size_t *ret_len);
/* Text is copied; one that is larger than a hundredth of all is not kept. */
void gw_recent_keep(struct gw_recent *rc, const struct dbx_id *process, const char *text,
                    size_t len);
