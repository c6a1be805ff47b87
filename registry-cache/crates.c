/* SPDX-License-Identifier: Apache-2.0 */
/* crates: the sparse index, and downloads. */
#include "common/base/str.h"
#include "common/ext/json.h"
#include "registry-cache/ask.h"
#include "registry-cache/call.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void get_index(struct rc_call *c, rc_step *next)
{
    char prefix[8], lower[512];

    (void)dbx_strcpy(lower, sizeof(lower), c->rt.name);
    for (char *p = lower; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p += 'a' - 'A';
    rc_crate_prefix(lower, prefix);
    rc_call_source(c, dbx_asprintf("crates/index/%s", lower), dbx_asprintf("%s%s", prefix, lower),
                   NULL, /* gzip= */ true, next);
}

/* --- downloads: the digest stands in the index, the address in the upstream's config.json --- */

static void put_hex(struct dbx_buf *out, const struct rc_digest *d)
{
    char hex[2 * DBX_HASH_MAX + 1] = "";

    if (d->known)
        dbx_hex_encode(d->bytes, dbx_hash_len(d->kind), hex);
    dbx_buf_str(out, hex);
}

/* Without a marker in it: /crate/version/download is appended. */
static char *download_url(const struct rc_call *c, const char *dl, const struct rc_digest *d)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf out = {.max = RC_MAX_URL};
    char prefix[8], lower[512];
    bool marked = false;

    rc_crate_prefix(c->rt.name, prefix);
    prefix[strlen(prefix) - 1] = '\0';
    (void)dbx_strcpy(lower, sizeof(lower), prefix);
    for (char *p = lower; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p += 'a' - 'A';
    const struct {
        const char *mark, *value;
    } marks[] = {{"{crate}", c->rt.name},
                 {"{version}", c->rt.version},
                 {"{prefix}", prefix},
                 {"{lowerprefix}", lower},
                 {"{sha256-checksum}", NULL}};
    for (const char *p = dl; *p;) {
        size_t i = 0;
        while (i < DBX_ARRAY_LEN(marks) && !dbx_starts_with(p, marks[i].mark))
            i++;
        if (i == DBX_ARRAY_LEN(marks)) {
            dbx_buf_append(&out, p++, 1);
            continue;
        }
        marked = true;
        if (marks[i].value)
            dbx_buf_str(&out, marks[i].value);
        else
            put_hex(&out, d);
        p += strlen(marks[i].mark);
    }
    if (!marked)
        dbx_buf_printf(&out, "/%s/%s/download", c->rt.name, c->rt.version);
    return dbx_strdup(dbx_buf_cstr(&out));
}

static void on_config(struct rc_call *c, struct rc_ref *source)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf all = {0};
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;

    if (rc_call_read(c, source, &all) < 0 || all.len > 65536 ||
        dbx_json_parse(all.data, all.len, NULL, &doc, NULL) < 0 ||
        !dbx_json_get_str(dbx_json_root(doc), "dl")) {
        rc_call_fail(c, 502, "upstream's config.json does not say where crates are");
        return;
    }
    char *url = download_url(c, dbx_json_get_str(dbx_json_root(doc), "dl"), &c->expect);
    rc_call_fixed(c, dbx_asprintf("crates/file/%s/%s", c->rt.name, c->rt.version), NULL, url,
                  &c->expect);
}

static void on_links(struct rc_call *c, struct rc_ref *links)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf all = {0};
    struct rc_link link;

    if (rc_call_read(c, links, &all) < 0) {
        rc_call_fail(c, 503, "the cache cannot read its own copy; ask again");
    } else if (rc_links_find(all.data, all.len, c->rt.version, &link) < 0) {
        if (!rc_call_retry(c))
            rc_call_fail(c, 404, "the crate has no such version");
    } else {
        c->expect = link.digest;
        rc_link_done(&link);
        rc_call_source(c, dbx_strdup("crates/config"), dbx_strdup("config.json"), NULL,
                       /* gzip= */ false, on_config);
    }
}

static void on_index_of_file(struct rc_call *c, struct rc_ref *source)
{
    rc_call_variant(c, source, RC_FORM_CRATE_LINKS, /* gzip= */ false, on_links);
}

static void download(struct rc_call *c)
{
    c->type = "application/gzip";
    if (!rc_call_kept(c, dbx_asprintf("crates/file/%s/%s", c->rt.name, c->rt.version)))
        get_index(c, on_index_of_file);
}

void rc_crates_call(struct rc_call *c)
{
    char text[1024];

    c->type = "text/plain; charset=utf-8";
    if (c->rt.what == RC_CRATES_CONFIG) {
        int n = snprintf(text, sizeof(text),
                         "{\"dl\":\"%s/crates/api/v1/crates\",\"api\":\"%s/crates\"}\n", c->base,
                         c->base);
        rc_call_text(c, 200, "application/json", text, (size_t)n);
    } else if (c->rt.what == RC_CRATES_INDEX) {
        get_index(c, rc_call_serve_source);
    } else if (c->rt.what == RC_CRATES_SEARCH) {
        rc_ask(c, "api/v1/crates");
    } else {
        download(c);
    }
}
