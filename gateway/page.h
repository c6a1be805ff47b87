/* SPDX-License-Identifier: Apache-2.0 */
/* The IDE's page and its files. */
#pragma once

struct gw_req;

void gw_page_get(struct gw_req *rq);   /* the page itself, whatever it is to show */
void gw_page_asset(struct gw_req *rq); /* one of its files: /assets/{} or a file of the root */
