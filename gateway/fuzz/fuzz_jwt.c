/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/jwt.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct gw_id_rules rules = {
        .issuer = "https://i", .client_id = "c", .nonce = "n", .now = 1000000};
    char *text = dbx_strndup((const char *)data, size);
    struct gw_identity id;
    struct gw_jwt t;
    if (gw_jwt_parse(text, &t, NULL) == 0) {
        (void)!gw_id_token_check(dbx_json_root(t.claims), &rules, &id, NULL);
        gw_jwt_done(&t);
    }
    free(text);
    return 0;
}
