/* SPDX-License-Identifier: Apache-2.0 */
/* Counters, gauges and histograms of one process, printed in the Prometheus text format. One
 * thread. Never freed: a metric lives as long as its process. */
#pragma once

#include "common/base/buf.h"

struct dbx_metric;

/* name: "devbox_shim_sandboxes_started_total"; labels: "template=\"python\"" or NULL. The same
 * (name, labels) gives the same object. */
struct dbx_metric *dbx_counter(const char *name, const char *labels, const char *help);
struct dbx_metric *dbx_gauge(const char *name, const char *labels, const char *help);
struct dbx_metric *dbx_histogram(const char *name, const char *labels,
                                 const char *help); /* seconds; 0.1 ms .. 60 s */
void dbx_metric_add(struct dbx_metric *m, double v);
void dbx_metric_set(struct dbx_metric *m, double v);
void dbx_metric_observe(struct dbx_metric *m, double seconds);
int dbx_metrics_print(struct dbx_buf *out);
