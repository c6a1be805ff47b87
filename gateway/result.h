/* SPDX-License-Identifier: Apache-2.0 */
/* The object of ?wait=true: follows a process to its end and collects what it wrote. Complete when
 * the row is terminal and the log has been read to the END record (or, where there is none, to the
 * end). */
#pragma once

#include "gateway/process.h"

struct gw;
struct gw_result;

/* fn once, never before this returned; the result may be freed in it. err: the log cannot be read.
 */
typedef void gw_result_fn(struct gw_result *rs, const struct dbx_err *err, void *arg);
struct gw_result *gw_result_new(struct gw *gw, const struct gw_process *p, gw_result_fn *fn,
                                void *arg);
struct gw_result *gw_result_free(struct gw_result *rs);
/* In fn: whether the END record was seen, so that it stays as it is. */
bool gw_result_is_final(const struct gw_result *rs);
/* In fn: writes the keys of the object that is open. */
void gw_result_write(struct dbx_jw *w, const struct gw_result *rs);

/* Shared with objects that carry no output. */
void gw_put_id(struct dbx_jw *w, const char *key, const struct dbx_id *id);
void gw_put_time(struct dbx_jw *w, const char *key, int64_t us); /* null when 0 */
/* status, verdict, exit_code, signal */
void gw_put_end(struct dbx_jw *w, const struct gw_end *end);
/* "usage": of the run, else of the compile step, else all zero */
void gw_put_usage(struct dbx_jw *w, const struct gw_end *end);
void gw_put_outcome(struct dbx_jw *w, const struct dbx_outcome *o); /* verdict, exit_code, signal */
void gw_put_usage_of(struct dbx_jw *w, const struct dbx_usage *u);
