/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of an upstream's document before a client, or we, can use it: a stream in, a stream
 * out. Everything fed is hostile. */
#pragma once

#include "registry-cache/url.h"

enum rc_form {
    RC_FORM_COPY,        /* the same bytes */
    RC_FORM_NPM,         /* tarballs' URLs point here; packuments and single versions */
    RC_FORM_NPM_LINKS,   /* links (links.h), by file name */
    RC_FORM_NPM_TAGS,    /* only the value of dist-tags */
    RC_FORM_PYPI_JSON,   /* PEP 691 with relative URLs */
    RC_FORM_PYPI_HTML,   /* PEP 503 */
    RC_FORM_PYPI_LINKS,  /* links, by file name */
    RC_FORM_CRATE_LINKS, /* links, by version */
};

struct rc_transform_opts {
    enum rc_form form;
    bool html;                 /* PyPI: the source is HTML, not JSON */
    const char *name;          /* the package, canonical */
    const char *base;          /* RC_FORM_NPM: what our URLs begin with, "http://host:port" */
    const struct rc_url *from; /* where the source came from: what its URLs are relative to */
};

struct rc_transform;
struct rc_transform *rc_transform_new(const struct rc_transform_opts *opts);
/* -EBADMSG: the document is malformed; -E2BIG from out. */
int rc_transform_feed(struct rc_transform *t, const void *data, size_t len,
                      struct dbx_buf *out) DBX_MUST_USE;
int rc_transform_end(struct rc_transform *t, struct dbx_buf *out) DBX_MUST_USE;
struct rc_transform *rc_transform_free(struct rc_transform *t);
