/* SPDX-License-Identifier: Apache-2.0 */
/* Results of a batch as JUnit XML, which CI systems show. Pure. */
#pragma once

#include "common/base/buf.h"
#include "gateway/batches.h"

#define GW_JUNIT_MAX_CASE (2u << 20)
#define GW_JUNIT_TAIL "</testsuite>\n"

void gw_junit_head(struct dbx_buf *out, const struct gw_batch_row *b, int64_t tests,
                   int64_t failures, int64_t errors);
/* json: the object of the result. Long output is cut. */
void gw_junit_case(struct dbx_buf *out, const struct gw_process *p, const struct dbx_buf *json);
