/* SPDX-License-Identifier: Apache-2.0 */
/* What may be connected to on behalf of somebody we do not trust. */
#pragma once

#include "common/base/def.h"
#include <sys/socket.h>

/* Neither loopback nor private nor link-local nor multicast nor otherwise of this network. (The
 * ranges of documentation are nobody's: they are not refused.) */
bool dbx_address_public(const struct sockaddr *addr);
/* Whether it is in one of the networks, "ADDRESS/BITS" with spaces between. */
bool dbx_address_listed(const struct sockaddr *addr, const char *networks);
int dbx_networks_check(const char *networks) DBX_MUST_USE; /* -EINVAL */
