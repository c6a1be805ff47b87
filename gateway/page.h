/* SPDX-License-Identifier: Apache-2.0 */
/* The IDE's page and its files. */
#pragma once

#include <stdbool.h>

struct gw_req;

void gw_page_get(struct gw_req *rq);   /* the page itself, whatever it is to show */
void gw_page_asset(struct gw_req *rq); /* one of its files: /assets/{} or a file of the root */
/* Answers with the page, which sees by its address what to say; false: this gateway has none, and
 * nothing was answered. */
bool gw_page_reply(struct gw_req *rq, int status);
