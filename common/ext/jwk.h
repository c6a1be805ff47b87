/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures of others: keys as JWK (RFC 7517), RS256 and ES256 (RFC 7518), on OpenSSL. Nothing
 * else is known; above all not "none", and no algorithm whose key would be a secret. */
#pragma once

#include "common/base/err.h"

struct dbx_json;

/* Verifies with the key of that kid in a set ({"keys": [...]}); without a kid with each that fits.
 * -ENOENT: the set has no such key; -EACCES: the signature is wrong; -EINVAL: alg is none of ours.
 * A key's own "alg" and "use", and its type, must fit; RSA keys have 2048 to 8192 bits. */
int dbx_jwk_verify(const struct dbx_json *set, const char *alg, const char *kid, const void *data,
                   size_t len, const uint8_t *sig, size_t sig_len,
                   struct dbx_err *err) DBX_MUST_USE;
