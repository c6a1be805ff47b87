/* SPDX-License-Identifier: Apache-2.0 */
/* A crate's index: one JSON object a line, a version each. */
#include "registry-cache/json_scan.h"
#include "registry-cache/links.h"
#include "registry-cache/transform_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct crate {
    struct rc_json_scan *scan;
    char *version;
    struct rc_digest digest;
    bool fed; /* something of the current line */
};

static bool at(struct rc_json_scan *s, const char *key)
{
    return rc_json_at(s, 1, (const char *const[]){key});
}

static bool wants(struct rc_json_scan *s, void *user)
{
    (void)user;
    return at(s, "vers") || at(s, "cksum");
}

static int on_value(struct rc_json_scan *s, bool is_string, const char *text, size_t len,
                    struct dbx_buf *out, void *user)
{
    struct crate *c = user;

    (void)len;
    (void)out;
    if (is_string && at(s, "vers")) {
        free(c->version);
        c->version = dbx_strdup(text);
    } else if (is_string) {
        (void)rc_digest_hex("sha256", text, &c->digest);
    }
    return 0;
}

static const struct rc_json_handlers handlers = {.wants = wants, .on_value = on_value};

void *rc_crate_new(void)
{
    struct crate *c = DBX_NEW(struct crate);

    c->scan = rc_json_new(&handlers, c);
    rc_json_mute(c->scan, true);
    return c;
}

static int line_ends(struct crate *c, struct dbx_buf *out)
{
    int r = 0;

    if (!c->fed)
        return 0;
    if (!rc_json_done(c->scan))
        return -EBADMSG;
    if (c->version && c->digest.known)
        r = rc_links_put(out, c->version, "", &c->digest, "-");
    free(DBX_TAKE(c->version));
    c->digest.known = c->fed = false;
    rc_json_reset(c->scan);
    return r;
}

static int crate_feed(void *state, const void *data, size_t len, struct dbx_buf *out)
{
    struct crate *c = state;
    const char *p = data, *end = p + len;
    int r = 0;

    while (p < end && r == 0) {
        const char *eol = memchr(p, '\n', (size_t)(end - p)), *stop = eol ? eol : end;
        if (stop > p) {
            c->fed = true;
            r = rc_json_feed(c->scan, p, (size_t)(stop - p), out);
        }
        if (r == 0 && eol)
            r = line_ends(c, out);
        p = stop + 1;
    }
    return r;
}

static int crate_end(void *state, struct dbx_buf *out)
{
    return line_ends(state, out);
}

static void crate_free(void *state)
{
    struct crate *c = state;

    rc_json_free(c->scan);
    free(c->version);
    free(c);
}

const struct rc_transform_ops rc_crate_ops = {crate_feed, crate_end, crate_free};
