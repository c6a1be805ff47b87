/* SPDX-License-Identifier: Apache-2.0 */
/* The templates that exist: their names are checked when an execution is accepted. */
#pragma once

#include "common/base/err.h"

struct gw_req;
struct gw_templates;

/* Every NAME.json of a folder; one that cannot be read is an error that names it. */
int gw_templates_load(const char *dir, struct gw_templates **ret, struct dbx_err *err) DBX_MUST_USE;
struct gw_templates *gw_templates_free(struct gw_templates *ts);
bool gw_templates_has(const struct gw_templates *ts, const char *name);

void gw_templates_list(struct gw_req *rq); /* GET /api/templates */
