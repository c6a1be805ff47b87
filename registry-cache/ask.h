/* SPDX-License-Identifier: Apache-2.0 */
/* What cannot be cached: search and audit are passed to upstream as they are, bounded, and their
 * answer back. Away or offline: 503. */
#pragma once

#include "registry-cache/call.h"

/* path: below the ecosystem's first upstream; the request's query and body go with it. */
void rc_ask(struct rc_call *c, const char *path);
