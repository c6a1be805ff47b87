/* SPDX-License-Identifier: Apache-2.0 */
/* npm: packuments full and abbreviated, single versions, tags, tarballs; search and audit are asked
 * for upstream (ask.c). */
#include "common/base/str.h"
#include "common/io/httpd.h"
#include "registry-cache/ask.h"
#include "registry-cache/call.h"

#include <stdlib.h>
#include <string.h>

#define ABBREVIATED "application/vnd.npm.install-v1+json"
#define ACCEPT_ABBREVIATED ABBREVIATED "; q=1.0, application/json; q=0.8"

/* "@scope/name" is one segment upstream. */
static char *upstream_name(const char *name)
{
    const char *slash = strchr(name, '/');

    return slash ? dbx_asprintf("%.*s%%2f%s", (int)(slash - name), name, slash + 1)
                 : dbx_strdup(name);
}

static void on_packument(struct rc_call *c, struct rc_ref *source)
{
    rc_call_variant(c, source, RC_FORM_NPM, c->gzip, rc_call_serve);
}

static void on_tags(struct rc_call *c, struct rc_ref *source)
{
    rc_call_variant(c, source, RC_FORM_NPM_TAGS, c->gzip, rc_call_serve);
}

static void packument(struct rc_call *c, bool abbreviated, rc_step *next)
{
    char *key = dbx_asprintf("npm/%s/%s", abbreviated ? "short" : "full", c->rt.name);

    rc_call_source(c, key, upstream_name(c->rt.name),
                   abbreviated ? ACCEPT_ABBREVIATED : "application/json", /* gzip= */ true, next);
}

static void version(struct rc_call *c)
{
    DBX_CLEANUP(dbx_freep) char *name = upstream_name(c->rt.name);
    char *key = dbx_asprintf("npm/version/%s/%s", c->rt.name, c->rt.version);

    rc_call_source(c, key, dbx_asprintf("%s/%s", name, c->rt.version), "application/json",
                   /* gzip= */ true, on_packument);
}

/* --- tarballs: where, and with which digest, stands in the packument --- */

static void on_links(struct rc_call *c, struct rc_ref *links)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf all = {0};
    struct rc_link link;

    if (rc_call_read(c, links, &all) < 0) {
        rc_call_fail(c, 503, "the cache cannot read its own copy; ask again");
    } else if (rc_links_find(all.data, all.len, c->rt.file, &link) < 0) {
        if (!rc_call_retry(c))
            rc_call_fail(c, 404, "the package has no such file");
    } else {
        rc_call_fixed(c, dbx_asprintf("npm/file/%s/%s", c->rt.name, c->rt.file), NULL,
                      DBX_TAKE(link.url), &link.digest);
        rc_link_done(&link);
    }
}

static void on_packument_of_file(struct rc_call *c, struct rc_ref *source)
{
    rc_call_variant(c, source, RC_FORM_NPM_LINKS, /* gzip= */ false, on_links);
}

static void tarball(struct rc_call *c)
{
    c->type = "application/octet-stream";
    if (!rc_call_kept(c, dbx_asprintf("npm/file/%s/%s", c->rt.name, c->rt.file)))
        packument(c, /* abbreviated= */ true, on_packument_of_file);
}

void rc_npm_call(struct rc_call *c)
{
    const char *accept = dbx_http_header(c->req, "accept");
    bool abbreviated = accept && strstr(accept, ABBREVIATED);

    c->type = "application/json";
    switch (c->rt.what) {
    case RC_NPM_PACKUMENT:
        if (abbreviated)
            c->type = ABBREVIATED;
        packument(c, abbreviated, on_packument);
        return;
    case RC_NPM_VERSION:
        version(c);
        return;
    case RC_NPM_TAGS:
        packument(c, /* abbreviated= */ true, on_tags);
        return;
    case RC_NPM_TARBALL:
        tarball(c);
        return;
    case RC_NPM_SEARCH:
        rc_ask(c, "-/v1/search");
        return;
    case RC_NPM_AUDIT:
        rc_ask(c, c->rt.file);
        return;
    default: /* ping */
        rc_call_text(c, 200, "application/json", "{}", 2);
    }
}
