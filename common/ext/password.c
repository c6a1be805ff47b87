/* SPDX-License-Identifier: Apache-2.0 */
#include "common/ext/password.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

_Static_assert(DBX_PASSWORD_TEXT == crypto_pwhash_argon2id_STRBYTES, "as libsodium writes it");

int dbx_password_hash(const char *password, size_t len, char out[static DBX_PASSWORD_TEXT])
{
    if (sodium_init() < 0)
        return -EIO;
    return crypto_pwhash_argon2id_str(out, password, len,
                                      crypto_pwhash_argon2id_OPSLIMIT_INTERACTIVE,
                                      crypto_pwhash_argon2id_MEMLIMIT_INTERACTIVE) == 0
               ? 0
               : -ENOMEM;
}

bool dbx_password_matches(const char *hash, const char *password, size_t len)
{
    char padded[DBX_PASSWORD_TEXT] = {0};
    size_t n = strnlen(hash, sizeof(padded));
    if (sodium_init() < 0 || n == sizeof(padded))
        return false;
    memcpy(padded, hash, n);
    return crypto_pwhash_argon2id_str_verify(padded, password, len) == 0;
}
