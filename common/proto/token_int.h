/* SPDX-License-Identifier: Apache-2.0 */
/* The parsers behind token.h, for its fuzz target, and what its watch does, for its test. */
#pragma once

#include "common/proto/token.h"

struct dbx_keyring *dbx_keyring__parse(const char *text, size_t len, const char *path,
                                       struct dbx_err *err);
int dbx_token__read_payload(const uint8_t *p, size_t len, uint8_t key_id,
                            struct dbx_token *ret) DBX_MUST_USE;
void dbx_keyring__look(void *ring);
