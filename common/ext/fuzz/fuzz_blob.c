/* SPDX-License-Identifier: Apache-2.0 */
/* The address of an S3, names of objects, and what an S3 says when it fails. */
#include "common/ext/blob_int.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char code[DBX_S3_CODE];
    struct dbx_blob_s3_url url;
    DBX_CLEANUP(dbx_freep) char *text = dbx_strndup((const char *)data, size);
    dbx_blob__s3_code(data, size, code);
    if (dbx_blob__s3_url_parse(text, &url, NULL) == 0 && url.prefix[0] == '/')
        abort();
    (void)dbx_blob_name_ok(text);
    return 0;
}
