/* SPDX-License-Identifier: Apache-2.0 */
/* The files of the IDE, read once at start: a URL is looked up in a table and never becomes a path.
 * Beside FILE may stand FILE.br and FILE.gz, the same compressed ahead of time. */
#pragma once

#include "common/base/buf.h"
#include "common/base/err.h"

struct gw_assets;

enum gw_coding { GW_IDENTITY, GW_GZIP, GW_BROTLI, GW_CODINGS };

struct gw_asset_body {
    struct dbx_buf data; /* empty: there is none of this coding */
    char etag[40];       /* with its quotes */
};

struct gw_asset {
    const char *type; /* MIME type, static */
    bool immutable;   /* its name changes with its content */
    struct gw_asset_body body[GW_CODINGS];
};

/* dir "": no files. What has no known type is left out; subfolders other than assets/ are, too. */
int gw_assets_load(const char *dir, struct gw_assets **ret, struct dbx_err *err) DBX_MUST_USE;
struct gw_assets *gw_assets_free(struct gw_assets *as);
/* By path without the leading slash ("index.html", "assets/x-1a2b.js"); NULL when there is none. */
const struct gw_asset *gw_assets_find(const struct gw_assets *as, const char *name);

/* Pure. The smallest coding of the asset that Accept-Encoding (NULL: absent) takes. */
enum gw_coding gw_asset_choose(const struct gw_asset *a, const char *accept_encoding);
/* Pure. Whether If-None-Match (NULL: absent) names the tag. */
bool gw_etag_matches(const char *if_none_match, const char *etag);
