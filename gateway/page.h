/* SPDX-License-Identifier: Apache-2.0 */
/* The try-it page: files of page/, compiled in. */
#pragma once

#include <stddef.h>

struct gw_req;

struct gw_page_file {
    const char *path, *type;
    const char *data;
    size_t len;
};
extern const struct gw_page_file gw_page_files[];
extern const size_t gw_page_len;

void gw_page_get(struct gw_req *rq);
