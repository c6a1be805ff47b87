/* SPDX-License-Identifier: Apache-2.0 */
/* A project's index in JSON (PEP 691). As JSON it keeps all that it says and only its URLs change;
 * for the other forms its files are taken out. */
#include "registry-cache/json_scan.h"
#include "registry-cache/pypi_doc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct pypi {
    const struct rc_transform_ctx *ctx;
    struct rc_json_scan *scan;
    struct rc_pypi_writer w;
    struct rc_pypi_file file;
};

static bool at2(struct rc_json_scan *s, const char *key)
{
    return rc_json_at(s, 3, (const char *const[]){"files", "", key});
}

static bool at3(struct rc_json_scan *s, const char *key)
{
    return rc_json_at(s, 4, (const char *const[]){"files", "", key, NULL});
}

static bool is_metadata(struct rc_json_scan *s, bool hashed)
{
    static const char *const names[] = {"core-metadata", "dist-info-metadata",
                                        "data-dist-info-metadata"};

    for (size_t i = 0; i < DBX_ARRAY_LEN(names); i++)
        if (hashed ? at3(s, names[i]) : at2(s, names[i]))
            return true;
    return false;
}

static bool wants(struct rc_json_scan *s, void *user)
{
    const struct pypi *p = user;

    if (p->ctx->form == RC_FORM_PYPI_JSON)
        return at2(s, "url");
    return at2(s, "url") || at2(s, "requires-python") || at2(s, "yanked") || at3(s, "hashes") ||
           is_metadata(s, false) || is_metadata(s, true);
}

static void set(char **field, const char *text)
{
    free(*field);
    *field = dbx_strdup(text);
}

static int rewrite(struct pypi *p, const char *url, struct dbx_buf *out)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf ours = {.max = 2 * RC_MAX_URL};

    if (rc_pypi_our_url(&p->w, url, &ours) < 0)
        return 0;
    int r = rc_json_quote(out, dbx_buf_cstr(&ours));
    return r < 0 ? r : 1;
}

static int on_value(struct rc_json_scan *s, bool is_string, const char *text, size_t len,
                    struct dbx_buf *out, void *user)
{
    struct pypi *p = user;
    struct rc_pypi_file *f = &p->file;
    bool yes = !is_string && strcmp(text, "true") == 0;

    (void)len;
    if (p->ctx->form == RC_FORM_PYPI_JSON)
        return is_string ? rewrite(p, text, out) : 0;
    if (is_string && at2(s, "url"))
        set(&f->url, text);
    else if (is_string && at2(s, "requires-python"))
        set(&f->requires_python, text);
    else if ((is_string || yes) && at2(s, "yanked"))
        set(&f->yanked, is_string ? text : "");
    else if (is_string && at3(s, "hashes"))
        rc_pypi_hash(f, rc_json_key(s, 3), text);
    else if (yes && is_metadata(s, false) && !f->metadata)
        set(&f->metadata, "true");
    else if (is_string && is_metadata(s, true) && strcmp(rc_json_key(s, 3), "sha256") == 0) {
        free(f->metadata);
        f->metadata = dbx_asprintf("sha256=%.64s", text);
    }
    return 0;
}

static int on_close(struct rc_json_scan *s, struct dbx_buf *out, void *user)
{
    static const char *const file[] = {"files", ""};
    struct pypi *p = user;

    if (p->ctx->form == RC_FORM_PYPI_JSON || !rc_json_at(s, 2, file))
        return 0;
    int r = rc_pypi_write(&p->w, &p->file, out);
    rc_pypi_file_clear(&p->file);
    return r;
}

static const struct rc_json_handlers handlers = {
    .wants = wants, .on_value = on_value, .on_close = on_close};

void *rc_pypi_json_new(const struct rc_transform_ctx *ctx)
{
    struct pypi *p = DBX_NEW(struct pypi);

    p->ctx = ctx;
    rc_pypi_writer_init(&p->w, ctx);
    p->scan = rc_json_new(&handlers, p);
    rc_json_mute(p->scan, ctx->form != RC_FORM_PYPI_JSON);
    return p;
}

static int pypi_feed(void *state, const void *data, size_t len, struct dbx_buf *out)
{
    return rc_json_feed(((struct pypi *)state)->scan, data, len, out);
}

static int pypi_end(void *state, struct dbx_buf *out)
{
    struct pypi *p = state;

    if (!rc_json_done(p->scan))
        return -EBADMSG;
    return p->ctx->form == RC_FORM_PYPI_JSON ? 0 : rc_pypi_write_end(&p->w, out);
}

static void pypi_free(void *state)
{
    struct pypi *p = state;

    rc_json_free(p->scan);
    rc_pypi_file_clear(&p->file);
    free(p);
}

const struct rc_transform_ops rc_pypi_json_ops = {pypi_feed, pypi_end, pypi_free};
