/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/pypi_doc.h"
#include "common/base/str.h"
#include "registry-cache/json_scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void rc_pypi_file_clear(struct rc_pypi_file *f)
{
    free(f->url);
    free(f->requires_python);
    free(f->yanked);
    free(f->metadata);
    memset(f, 0, sizeof(*f));
}

void rc_pypi_hash(struct rc_pypi_file *f, const char *algorithm, const char *hex)
{
    struct rc_digest d = {0};

    if (!rc_digest_hex(algorithm, hex, &d))
        return;
    if (!f->digest.known || dbx_hash_len(d.kind) > dbx_hash_len(f->digest.kind))
        f->digest = d;
}

void rc_pypi_writer_init(struct rc_pypi_writer *w, const struct rc_transform_ctx *ctx)
{
    *w = (struct rc_pypi_writer){.ctx = ctx, .from = ctx->from};
}

static int file_of(const struct rc_pypi_writer *w, const char *url, struct rc_url *at, char *file,
                   size_t size)
{
    if (rc_url_resolve(&w->from, url, at) < 0)
        return -EINVAL;
    return rc_url_basename(at, file, size);
}

int rc_pypi_our_url(const struct rc_pypi_writer *w, const char *url, struct dbx_buf *out)
{
    struct rc_url at;
    char file[512];
    int r = file_of(w, url, &at, file, sizeof(file));

    if (r < 0)
        return r;
    r = dbx_buf_printf(out, "../../files/%s/", w->ctx->name);
    return r < 0 ? r : rc_segment_encode(out, file);
}

/* --- links --- */

static int write_link(struct rc_pypi_writer *w, const struct rc_pypi_file *f, struct dbx_buf *out)
{
    struct rc_url at;
    char file[512], metadata[80] = "-";

    if (file_of(w, f->url, &at, file, sizeof(file)) < 0)
        return 0;
    if (f->metadata) {
        bool hashed = strncmp(f->metadata, "sha256=", 7) == 0 && strlen(f->metadata) == 71;
        (void)dbx_strcpy(metadata, sizeof(metadata), hashed ? f->metadata : "+");
        if (hashed)
            metadata[6] = ':';
    }
    DBX_CLEANUP(dbx_freep) char *url = rc_url_text(&at);
    return rc_links_put(out, file, url, &f->digest, metadata);
}

/* --- HTML --- */

static int put_html(struct dbx_buf *out, const char *s)
{
    int r = 0;

    for (; *s && r == 0; s++)
        r = *s == '&'   ? dbx_buf_str(out, "&amp;")
            : *s == '<' ? dbx_buf_str(out, "&lt;")
            : *s == '>' ? dbx_buf_str(out, "&gt;")
            : *s == '"' ? dbx_buf_str(out, "&quot;")
                        : dbx_buf_append(out, s, 1);
    return r;
}

static int put_attribute(struct dbx_buf *out, const char *name, const char *value)
{
    if (!value)
        return 0;
    int r = dbx_buf_printf(out, " %s=\"", name);
    if (r == 0)
        r = put_html(out, value);
    return r < 0 ? r : dbx_buf_str(out, "\"");
}

static const char *hash_name(enum dbx_hash_kind kind)
{
    return kind == DBX_HASH_SHA512   ? "sha512"
           : kind == DBX_HASH_SHA384 ? "sha384"
           : kind == DBX_HASH_SHA1   ? "sha1"
                                     : "sha256";
}

static int write_html(struct rc_pypi_writer *w, const struct rc_pypi_file *f, struct dbx_buf *out)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf url = {.max = 2 * RC_MAX_URL};
    char hex[2 * DBX_HASH_MAX + 1], file[512];
    struct rc_url at;

    if (file_of(w, f->url, &at, file, sizeof(file)) < 0 || rc_pypi_our_url(w, f->url, &url) < 0)
        return 0;
    int r = dbx_buf_str(out, "<a href=\"");
    if (r == 0)
        r = put_html(out, dbx_buf_cstr(&url));
    if (r == 0 && f->digest.known) {
        dbx_hex_encode(f->digest.bytes, dbx_hash_len(f->digest.kind), hex);
        r = dbx_buf_printf(out, "#%s=%s", hash_name(f->digest.kind), hex);
    }
    if (r == 0)
        r = dbx_buf_str(out, "\"");
    if (r == 0)
        r = put_attribute(out, "data-requires-python", f->requires_python);
    if (r == 0)
        r = put_attribute(out, "data-yanked", f->yanked);
    if (r == 0)
        r = put_attribute(out, "data-core-metadata", f->metadata);
    if (r == 0) /* its name before it was settled */
        r = put_attribute(out, "data-dist-info-metadata", f->metadata);
    if (r == 0)
        r = dbx_buf_str(out, ">");
    if (r == 0)
        r = put_html(out, file);
    return r < 0 ? r : dbx_buf_str(out, "</a><br/>\n");
}

/* --- JSON, when the source was HTML --- */

static int put_pair(struct dbx_buf *out, const char *name, const char *value)
{
    int r = dbx_buf_printf(out, ",\"%s\":", name);

    return r < 0 ? r : rc_json_quote(out, value);
}

static int put_metadata(struct dbx_buf *out, const char *metadata)
{
    if (strncmp(metadata, "sha256=", 7) == 0) {
        int r = dbx_buf_str(out, ",\"core-metadata\":{\"sha256\":");
        if (r == 0)
            r = rc_json_quote(out, metadata + 7);
        return r < 0 ? r : dbx_buf_str(out, "}");
    }
    return dbx_buf_str(out, ",\"core-metadata\":true");
}

static int write_json(struct rc_pypi_writer *w, const struct rc_pypi_file *f, struct dbx_buf *out)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf url = {.max = 2 * RC_MAX_URL};
    char hex[2 * DBX_HASH_MAX + 1] = "", file[512];
    struct rc_url at;

    if (file_of(w, f->url, &at, file, sizeof(file)) < 0 || rc_pypi_our_url(w, f->url, &url) < 0)
        return 0;
    int r = dbx_buf_str(out, w->files ? ",{\"filename\":" : "{\"filename\":");
    w->files++;
    if (r == 0)
        r = rc_json_quote(out, file);
    if (r == 0)
        r = put_pair(out, "url", dbx_buf_cstr(&url));
    if (r == 0)
        r = dbx_buf_str(out, ",\"hashes\":{");
    if (r == 0 && f->digest.known) {
        dbx_hex_encode(f->digest.bytes, dbx_hash_len(f->digest.kind), hex);
        r = dbx_buf_printf(out, "\"%s\":\"%s\"", hash_name(f->digest.kind), hex);
    }
    if (r == 0)
        r = dbx_buf_str(out, "}");
    if (r == 0 && f->requires_python)
        r = put_pair(out, "requires-python", f->requires_python);
    if (r == 0 && f->yanked && *f->yanked)
        r = put_pair(out, "yanked", f->yanked);
    else if (r == 0 && f->yanked)
        r = dbx_buf_str(out, ",\"yanked\":true");
    if (r == 0 && f->metadata)
        r = put_metadata(out, f->metadata);
    return r < 0 ? r : dbx_buf_str(out, "}");
}

/* --- the whole --- */

static int begin(struct rc_pypi_writer *w, struct dbx_buf *out)
{
    w->begun = true;
    if (w->ctx->form == RC_FORM_PYPI_HTML)
        return dbx_buf_printf(out,
                              "<!DOCTYPE html>\n<html><head><meta name=\"pypi:repository-version\" "
                              "content=\"1.0\"><title>%s</title></head><body>\n",
                              w->ctx->name);
    if (w->ctx->form == RC_FORM_PYPI_JSON)
        return dbx_buf_printf(
            out, "{\"meta\":{\"api-version\":\"1.0\"},\"name\":\"%s\",\"files\":[", w->ctx->name);
    return 0;
}

int rc_pypi_write(struct rc_pypi_writer *w, const struct rc_pypi_file *f, struct dbx_buf *out)
{
    int r = w->begun ? 0 : begin(w, out);

    if (r < 0 || !f->url)
        return r;
    if (w->ctx->form == RC_FORM_PYPI_HTML)
        return write_html(w, f, out);
    return w->ctx->form == RC_FORM_PYPI_JSON ? write_json(w, f, out) : write_link(w, f, out);
}

int rc_pypi_write_end(struct rc_pypi_writer *w, struct dbx_buf *out)
{
    int r = w->begun ? 0 : begin(w, out);

    if (r < 0 || w->ctx->form == RC_FORM_PYPI_LINKS)
        return r;
    return dbx_buf_str(out, w->ctx->form == RC_FORM_PYPI_HTML ? "</body></html>\n" : "]}\n");
}
