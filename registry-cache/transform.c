/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/transform.h"
#include "registry-cache/transform_int.h"

#include <stdlib.h>

struct rc_transform {
    struct rc_transform_ctx ctx;
    const struct rc_transform_ops *ops; /* NULL: a copy */
    void *state;
};

static void choose(struct rc_transform *t, bool html)
{
    switch (t->ctx.form) {
    case RC_FORM_COPY:
        return;
    case RC_FORM_NPM:
    case RC_FORM_NPM_LINKS:
    case RC_FORM_NPM_TAGS:
        t->ops = &rc_npm_ops;
        t->state = rc_npm_new(&t->ctx);
        return;
    case RC_FORM_CRATE_LINKS:
        t->ops = &rc_crate_ops;
        t->state = rc_crate_new();
        return;
    default:
        t->ops = html ? &rc_pypi_html_ops : &rc_pypi_json_ops;
        t->state = html ? rc_pypi_html_new(&t->ctx) : rc_pypi_json_new(&t->ctx);
    }
}

struct rc_transform *rc_transform_new(const struct rc_transform_opts *opts)
{
    struct rc_transform *t = DBX_NEW(struct rc_transform);

    t->ctx.form = opts->form;
    t->ctx.name = dbx_strdup(opts->name ? opts->name : "");
    t->ctx.base = dbx_strdup(opts->base ? opts->base : "");
    if (opts->from)
        t->ctx.from = *opts->from;
    choose(t, opts->html);
    return t;
}

int rc_transform_feed(struct rc_transform *t, const void *data, size_t len, struct dbx_buf *out)
{
    return t->ops ? t->ops->feed(t->state, data, len, out) : dbx_buf_append(out, data, len);
}

int rc_transform_end(struct rc_transform *t, struct dbx_buf *out)
{
    return t->ops ? t->ops->end(t->state, out) : 0;
}

struct rc_transform *rc_transform_free(struct rc_transform *t)
{
    if (!t)
        return NULL;
    if (t->ops)
        t->ops->free(t->state);
    free(t->ctx.name);
    free(t->ctx.base);
    free(t);
    return NULL;
}
