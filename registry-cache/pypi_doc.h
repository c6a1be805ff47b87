/* SPDX-License-Identifier: Apache-2.0 */
/* One file of a project's index, whichever way the index was written, and the three ways in which
 * we write it. */
#pragma once

#include "registry-cache/links.h"
#include "registry-cache/transform_int.h"

struct rc_pypi_file {
    char *url;             /* as written */
    char *requires_python; /* or NULL */
    char *yanked;          /* the reason; NULL: not yanked */
    char *metadata;        /* "true" or "sha256=..."; NULL: none */
    struct rc_digest digest;
};

struct rc_pypi_writer {
    const struct rc_transform_ctx *ctx;
    struct rc_url from; /* what URLs are relative to: ctx->from, or what <base> says */
    bool begun;
    size_t files;
};

void rc_pypi_file_clear(struct rc_pypi_file *f); /* frees; all NULL again */
void rc_pypi_writer_init(struct rc_pypi_writer *w, const struct rc_transform_ctx *ctx);
/* Files whose URL is none are left out. */
int rc_pypi_write(struct rc_pypi_writer *w, const struct rc_pypi_file *f, struct dbx_buf *out);
int rc_pypi_write_end(struct rc_pypi_writer *w, struct dbx_buf *out);
/* "../../files/NAME/FILE" for a file's URL; -EINVAL when it is none. */
int rc_pypi_our_url(const struct rc_pypi_writer *w, const char *url, struct dbx_buf *out);
/* "sha256", "hex" as in a fragment or in hashes; a stronger one stays. */
void rc_pypi_hash(struct rc_pypi_file *f, const char *algorithm, const char *hex);
