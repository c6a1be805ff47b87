/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/error.h"

#include <string.h>

#include "common/base/str.h"
#include "common/ext/json.h"

int gw_error_status(enum dbx_kind kind)
{
    switch (kind) {
    case DBX_INVALID:
        return 400;
    case DBX_NOT_FOUND:
        return 404;
    case DBX_CONFLICT:
        return 409;
    case DBX_DENIED:
        return 403;
    case DBX_LIMIT:
        return 429;
    case DBX_TIMEOUT:
        return 504;
    case DBX_UNAVAIL:
        return 503;
    case DBX_OK:
    case DBX_INTERNAL:
        break;
    }
    return 500;
}

void gw_error_write(struct dbx_buf *out, enum dbx_kind kind, const char *code, const char *message,
                    const char *field, const char *request_id)
{
    struct dbx_jw *w = dbx_jw_new(out);
    dbx_jw_object(w);
    dbx_jw_key(w, "error");
    dbx_jw_object(w);
    dbx_jw_kstr(w, "type", dbx_kind_name(kind));
    dbx_jw_kstr(w, "code", code ? code : dbx_kind_name(kind));
    /* Words are cut at a number of bytes: what is left of a cut character goes, too. */
    dbx_jw_key(w, "message");
    dbx_jw_strn(w, message, dbx_utf8_prefix(message, strlen(message), &(bool){false}));
    dbx_jw_key(w, "field");
    if (field && *field)
        dbx_jw_strn(w, field, dbx_utf8_prefix(field, strlen(field), &(bool){false}));
    else
        dbx_jw_null(w);
    dbx_jw_kstr(w, "request_id", request_id);
    dbx_jw_object_end(w);
    dbx_jw_object_end(w);
    int r = dbx_jw_end(&w);
    dbx_assert(r == 0);
}
