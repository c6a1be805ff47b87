/* SPDX-License-Identifier: Apache-2.0 */
/* What an owner of workspaces may have made of dependency layers on this node: so many at a time
 * (those that wait count), so many in an hour, so many bytes in an hour. The hour begins with the
 * first; what is counted is forgotten when the shim ends. */
#pragma once

#include "common/base/err.h"
#include "common/proto/id.h"

struct shim_quota;

struct shim_quota_opts {
    uint64_t at_a_time, hourly, hourly_bytes;
    uint64_t (*now_ms)(void);
};
struct shim_quota *shim_quota_new(const struct shim_quota_opts *opts);
struct shim_quota *shim_quota_free(struct shim_quota *q);

/* One more, until shim_quota_end; -EDQUOT (LIMIT) and words for the owner. */
int shim_quota_begin(struct shim_quota *q, const struct dbx_id *owner,
                     struct dbx_err *err) DBX_MUST_USE;
/* built: false when another node had it; then only the bytes count. */
void shim_quota_end(struct shim_quota *q, const struct dbx_id *owner, bool built, uint64_t bytes);
