/* SPDX-License-Identifier: Apache-2.0 */
/* The id of a message of the JSON stream: where to read on so that every later byte comes exactly
 * once. Text: phase letter (c compile, r run), then the offset in the log to read from and the
 * bytes given of stdout, stderr and pty, each in hexadecimal behind a digit that tells its length
 * less one. So ids are ordered within a process as strings are. Clients see it as opaque. */
#pragma once

#include "gateway/progress.h"

#define GW_STREAM_ID_MAX 80 /* text with NUL */

struct gw_stream_id {
    int64_t log_offset;
    struct gw_progress at; /* phase and pos */
};

void gw_stream_id_format(const struct gw_stream_id *id, char out[static GW_STREAM_ID_MAX]);
/* "" and "0" stand for the beginning: then log_offset and phase are 0. -EINVAL. */
int gw_stream_id_parse(const char *text, struct gw_stream_id *ret) DBX_MUST_USE;
/* What a client of the binary protocol resumes by: "s" and the seq of the last record it has, in
 * decimal; "" and "0" for the beginning. *ret_next: the first seq it wants. -EINVAL. */
int gw_stream_seq_parse(const char *text, uint64_t *ret_next) DBX_MUST_USE;
/* "PROCESS:LAST_SEEN_ID" of a URL, checked for either protocol; the id begins at DBX_ID_TEXT.
 * -EINVAL. */
int gw_resume_parse(const char *text, bool binary, struct dbx_id *ret_process) DBX_MUST_USE;
