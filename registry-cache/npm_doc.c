/* SPDX-License-Identifier: Apache-2.0 */
/* npm's documents: a packument ("versions" of many), or one version of it. */
#include "registry-cache/json_scan.h"
#include "registry-cache/links.h"
#include "registry-cache/transform_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct npm {
    const struct rc_transform_ctx *ctx;
    struct rc_json_scan *scan;
    char *tarball; /* of the dist that we are in */
    struct rc_digest digest;
    bool digest_is_sri; /* stands above a shasum, whichever comes first */
};

static bool in_dist(struct rc_json_scan *s, const char *key)
{
    const char *const packument[] = {"versions", NULL, "dist", key};
    const char *const version[] = {"dist", key};

    return rc_json_at(s, 4, packument) || rc_json_at(s, 2, version);
}

static bool wants(struct rc_json_scan *s, void *user)
{
    const struct npm *n = user;

    if (n->ctx->form == RC_FORM_NPM_TAGS)
        return false;
    if (in_dist(s, "tarball"))
        return true;
    return n->ctx->form == RC_FORM_NPM_LINKS && (in_dist(s, "integrity") || in_dist(s, "shasum"));
}

/* npm asks for the path that a registry would have chosen itself: /name/-/file. */
static int write_ours(struct npm *n, const char *url, struct dbx_buf *out)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf ours = {.max = 2 * RC_MAX_URL};
    struct rc_url at;
    char file[256];

    if (rc_url_resolve(&n->ctx->from, url, &at) < 0 || rc_url_basename(&at, file, sizeof(file)) < 0)
        return 0; /* whatever it is, it cannot be fetched through us */
    if (dbx_buf_printf(&ours, "%s/npm/%s/-/", n->ctx->base, n->ctx->name) < 0 ||
        rc_segment_encode(&ours, file) < 0)
        return -EBADMSG;
    int r = rc_json_quote(out, dbx_buf_cstr(&ours));
    return r < 0 ? r : 1;
}

static int on_value(struct rc_json_scan *s, bool is_string, const char *text, size_t len,
                    struct dbx_buf *out, void *user)
{
    struct npm *n = user;

    (void)len;
    if (!is_string)
        return 0;
    if (n->ctx->form == RC_FORM_NPM)
        return write_ours(n, text, out);
    if (in_dist(s, "tarball")) {
        free(n->tarball);
        n->tarball = dbx_strdup(text);
    } else if (in_dist(s, "integrity")) {
        n->digest_is_sri |= rc_digest_sri(text, &n->digest);
    } else if (!n->digest_is_sri) {
        (void)rc_digest_hex("sha1", text, &n->digest);
    }
    return 0;
}

static bool is_dist(struct rc_json_scan *s)
{
    static const char *const packument[] = {"versions", NULL, "dist"};
    static const char *const version[] = {"dist"};

    return rc_json_at(s, 3, packument) || rc_json_at(s, 1, version);
}

static bool is_tags(struct rc_json_scan *s)
{
    static const char *const tags[] = {"dist-tags"};

    return rc_json_at(s, 1, tags);
}

static int on_open(struct rc_json_scan *s, struct dbx_buf *out, void *user)
{
    struct npm *n = user;

    (void)out;
    if (n->ctx->form == RC_FORM_NPM_TAGS && is_tags(s))
        rc_json_mute(s, false);
    if (is_dist(s)) {
        free(DBX_TAKE(n->tarball));
        n->digest.known = n->digest_is_sri = false;
    }
    return 0;
}

static int on_close(struct rc_json_scan *s, struct dbx_buf *out, void *user)
{
    struct npm *n = user;
    struct rc_url at;
    char file[256];

    if (n->ctx->form == RC_FORM_NPM_TAGS && is_tags(s))
        rc_json_mute(s, true);
    if (n->ctx->form != RC_FORM_NPM_LINKS || !is_dist(s) || !n->tarball)
        return 0;
    if (rc_url_resolve(&n->ctx->from, n->tarball, &at) < 0 ||
        rc_url_basename(&at, file, sizeof(file)) < 0)
        return 0;
    DBX_CLEANUP(dbx_freep) char *url = rc_url_text(&at);
    return rc_links_put(out, file, url, &n->digest, "-");
}

static const struct rc_json_handlers handlers = {
    .wants = wants, .on_value = on_value, .on_open = on_open, .on_close = on_close};

void *rc_npm_new(const struct rc_transform_ctx *ctx)
{
    struct npm *n = DBX_NEW(struct npm);

    n->ctx = ctx;
    n->scan = rc_json_new(&handlers, n);
    rc_json_mute(n->scan, ctx->form != RC_FORM_NPM);
    return n;
}

static int npm_feed(void *state, const void *data, size_t len, struct dbx_buf *out)
{
    return rc_json_feed(((struct npm *)state)->scan, data, len, out);
}

static int npm_end(void *state, struct dbx_buf *out)
{
    (void)out;
    return rc_json_done(((struct npm *)state)->scan) ? 0 : -EBADMSG;
}

static void npm_free(void *state)
{
    struct npm *n = state;

    rc_json_free(n->scan);
    free(n->tarball);
    free(n);
}

const struct rc_transform_ops rc_npm_ops = {npm_feed, npm_end, npm_free};
