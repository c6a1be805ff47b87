/* SPDX-License-Identifier: Apache-2.0 */
/* Between transform.c, which owns one, and the formats. Each has a state that begins with nothing
 * in common. */
#pragma once

#include "registry-cache/transform.h"

struct rc_transform_ops {
    int (*feed)(void *state, const void *data, size_t len, struct dbx_buf *out);
    int (*end)(void *state, struct dbx_buf *out);
    void (*free)(void *state);
};

/* Copies of the options that live as long as the transform. */
struct rc_transform_ctx {
    enum rc_form form;
    char *name, *base;
    struct rc_url from;
};

void *rc_npm_new(const struct rc_transform_ctx *ctx);
extern const struct rc_transform_ops rc_npm_ops;
void *rc_crate_new(void);
extern const struct rc_transform_ops rc_crate_ops;
void *rc_pypi_json_new(const struct rc_transform_ctx *ctx);
extern const struct rc_transform_ops rc_pypi_json_ops;
void *rc_pypi_html_new(const struct rc_transform_ctx *ctx);
extern const struct rc_transform_ops rc_pypi_html_ops;
