/* SPDX-License-Identifier: Apache-2.0 */
/* PyPI: a project's index in HTML or JSON, whichever the upstream has; files and their metadata. */
#include "common/base/str.h"
#include "common/io/httpd.h"
#include "registry-cache/call.h"

#include <stdlib.h>
#include <string.h>

#define JSON_TYPE "application/vnd.pypi.simple.v1+json"
#define HTML_TYPE "application/vnd.pypi.simple.v1+html"
#define ACCEPT JSON_TYPE ", " HTML_TYPE ";q=0.2, text/html;q=0.1"

static void on_index(struct rc_call *c, struct rc_ref *source)
{
    bool json = strcmp(c->type, JSON_TYPE) == 0;

    rc_call_variant(c, source, json ? RC_FORM_PYPI_JSON : RC_FORM_PYPI_HTML, c->gzip,
                    rc_call_serve);
}

static void get_index(struct rc_call *c, rc_step *next)
{
    rc_call_source(c, dbx_asprintf("pypi/index/%s", c->rt.name), dbx_asprintf("%s/", c->rt.name),
                   ACCEPT, /* gzip= */ true, next);
}

/* PEP 691: the first of ours that the client names decides; nothing or anything means HTML. */
static const char *choose_type(struct rc_call *c)
{
    const char *accept = dbx_http_header(c->req, "accept");

    if (!accept || !strstr(accept, "application/vnd.pypi.simple."))
        return "text/html; charset=utf-8";
    if (strstr(accept, JSON_TYPE) || strstr(accept, "application/vnd.pypi.simple.latest+json"))
        return JSON_TYPE;
    return HTML_TYPE;
}

/* --- files --- */

static void on_links(struct rc_call *c, struct rc_ref *links)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf all = {0};
    bool metadata = c->rt.what == RC_PYPI_METADATA;
    struct rc_link link;

    if (rc_call_read(c, links, &all) < 0) {
        rc_call_fail(c, 503, "the cache cannot read its own copy; ask again");
        return;
    }
    if (rc_links_find(all.data, all.len, c->rt.file, &link) < 0) {
        if (!rc_call_retry(c))
            rc_call_fail(c, 404, "the project has no such file");
        return;
    }
    if (metadata && !link.has_metadata)
        rc_call_fail(c, 404, "upstream has no metadata of this file");
    else if (metadata)
        rc_call_fixed(c, dbx_asprintf("pypi/metadata/%s/%s", c->rt.name, c->rt.file), NULL,
                      dbx_asprintf("%s.metadata", link.url), &link.metadata);
    else
        rc_call_fixed(c, dbx_asprintf("pypi/file/%s/%s", c->rt.name, c->rt.file), NULL,
                      DBX_TAKE(link.url), &link.digest);
    rc_link_done(&link);
}

static void on_index_of_file(struct rc_call *c, struct rc_ref *source)
{
    rc_call_variant(c, source, RC_FORM_PYPI_LINKS, /* gzip= */ false, on_links);
}

static void get_file(struct rc_call *c)
{
    bool metadata = c->rt.what == RC_PYPI_METADATA;
    c->type = metadata ? "text/plain; charset=utf-8" : "application/octet-stream";
    if (!rc_call_kept(c, dbx_asprintf("pypi/%s/%s/%s", metadata ? "metadata" : "file", c->rt.name,
                                      c->rt.file)))
        get_index(c, on_index_of_file);
}

/* The list of all projects holds names only; nothing in it is ours to change. HTML of it would. */
static void on_root(struct rc_call *c, struct rc_ref *source)
{
    if (source->html)
        rc_call_fail(c, 406, "upstream lists its projects in HTML only");
    else
        rc_call_serve_source(c, source);
}

static void get_root(struct rc_call *c)
{
    c->type = JSON_TYPE;
    if (strcmp(choose_type(c), JSON_TYPE) != 0)
        rc_call_fail(c, 406, "the list of all projects is here as " JSON_TYPE " only");
    else
        rc_call_source(c, dbx_strdup("pypi/root"), dbx_strdup(""), JSON_TYPE, /* gzip= */ true,
                       on_root);
}

void rc_pypi_call(struct rc_call *c)
{
    if (c->rt.what == RC_PYPI_ROOT) {
        get_root(c);
    } else if (c->rt.what == RC_PYPI_INDEX && c->rt.slash) {
        DBX_CLEANUP(dbx_freep) char *where = dbx_asprintf("/pypi/simple/%s/", c->rt.name);
        rc_call_redirect(c, where);
    } else if (c->rt.what == RC_PYPI_INDEX) {
        c->type = choose_type(c);
        get_index(c, on_index);
    } else {
        get_file(c);
    }
}
