/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/token.h"
#include "common/proto/token_int.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char key[] = "1 0000000000000000000000000000000000000000000000000000000000000000";
    struct dbx_keyring *ring = dbx_keyring__parse(key, sizeof(key) - 1, "fuzz", NULL);
    char *text = dbx_strndup((const char *)data, size);
    struct dbx_token t;

    dbx_assert(dbx_token_verify(ring, text, DBX_TOKEN_DAEMON, 0, &t, NULL) <= 0);
    dbx_assert(dbx_token__read_payload(data, size, 1, &t) <= 0);
    dbx_keyring_free(ring);
    dbx_keyring_free(dbx_keyring__parse((const char *)data, size, "fuzz", NULL));
    free(text);
    return 0;
}
