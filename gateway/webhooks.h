/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the URL of a batch that it is over: a POST, signed, tried again with back-off until it is
 * answered with 2xx or was tried often enough. Which ones are due stands in the database, and each
 * is taken by one gateway at a time; so it is told at least once, and not again once that is known.
 *
 * Where it goes is the caller's choice, so nothing but public addresses (and networks the operator
 * lists) is connected to; the address is looked at as the connection is made. */
#pragma once

#include "common/base/err.h"

struct gw;
struct gw_webhooks;

struct gw_webhooks *gw_webhooks_new(struct gw *gw);
struct gw_webhooks *gw_webhooks_free(struct gw_webhooks *wh);

/* Pure. user: the struct gw; names "webhook.url". */
int gw_webhook_check_url(const char *url, struct dbx_err *err, void *user) DBX_MUST_USE;
/* Pure: milliseconds from the failure of the attempt numbered so (from 1) to the next. */
uint64_t gw_webhook_backoff(uint64_t first_ms, int64_t attempt);
