/* SPDX-License-Identifier: Apache-2.0 */
/* Writes archives of files into a buffer: zip (entries stored, names UTF-8), or tar (ustar, with
 * pax headers where a name is too long for it). What goes in is checked already: paths by path.h.
 * Pure; reading archives is another matter (unpack/). */
#pragma once

#include "common/base/buf.h"

enum gw_archive_kind { GW_ARCHIVE_ZIP, GW_ARCHIVE_TAR };

struct gw_archive {
    enum gw_archive_kind kind;
    struct dbx_buf *out; /* borrowed; its maximum bounds the archive */
    struct dbx_buf directory;
    uint32_t count;
};

struct gw_archive_entry {
    const char *path;
    bool folder;
    int64_t mtime; /* unix seconds */
    const uint8_t *data;
    size_t len;
};

void gw_archive_init(struct gw_archive *a, enum gw_archive_kind kind, struct dbx_buf *out);
int gw_archive_add(struct gw_archive *a,
                   const struct gw_archive_entry *e) DBX_MUST_USE; /* -E2BIG */
int gw_archive_end(struct gw_archive *a) DBX_MUST_USE;
void gw_archive_done(struct gw_archive *a);
