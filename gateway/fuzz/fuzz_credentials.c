/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/credentials.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = dbx_strndup((const char *)data, size), out[GW_SECRET_TEXT], mail[GW_EMAIL_TEXT];
    char scopes[GW_SCOPES_TEXT], again[GW_EMAIL_TEXT];
    uint32_t a, b;
    if (gw_cookie_secret(text, "devbox", out))
        dbx_assert(strlen(out) == GW_SECRET_LEN);
    if (gw_scopes_parse(text, &a) == 0) {
        gw_scopes_text(a, scopes);
        dbx_assert(gw_scopes_parse(scopes, &b) == 0 && a == b);
    }
    if (gw_email_of_path(text, mail) == 0)
        dbx_assert(gw_email_normalize(mail, again) == 0 && strcmp(mail, again) == 0);
    dbx_assert(gw_return_to(text)[0] == '/');
    free(text);
    return 0;
}
