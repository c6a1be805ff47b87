/* SPDX-License-Identifier: Apache-2.0 */
/* What `batch run` posts. Pure. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

#define CLI_BATCH_MAX (64u << 20) /* as the gateway's */

/* For lines; NULL: not said. */
struct cli_batch_fields {
    const char *template, *isolation, *retry;
};
/* data: the body of POST /api/batches, or executions of it, one a line; appends the body to out. */
int cli_batch_body(const char *data, size_t len, const struct cli_batch_fields *fields,
                   struct dbx_buf *out, struct dbx_err *err) DBX_MUST_USE;
