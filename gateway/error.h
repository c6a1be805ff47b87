/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that says how errors look to clients. Pure. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

int gw_error_status(enum dbx_kind kind); /* HTTP status */
/* {"error":{...}}; code NULL: the name of the kind; a field that is empty is null. */
void gw_error_write(struct dbx_buf *out, enum dbx_kind kind, const char *code, const char *message,
                    const char *field, const char *request_id);
