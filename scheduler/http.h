/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

struct dbx_httpd_handlers;

/* user: struct sched. /healthz, /readyz, /metrics, and the links. */
const struct dbx_httpd_handlers *sched_http_handlers(void);
