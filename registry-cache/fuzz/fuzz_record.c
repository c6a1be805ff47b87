/* SPDX-License-Identifier: Apache-2.0 */
/* The index as it may be found after a crash; what is read is written the same. The checksum is put
 * right, so that what stands behind it is reached. */
#include "common/ext/crypto.h"
#include "registry-cache/ref.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf rec = {.max = 1 << 20}, out = {.max = 1 << 20};
    struct rc_ref *ref;
    size_t used;
    char *key;

    rc_record_read(data, size, &used, &ref, &key);
    rc_ref_free(ref);
    free(key);
    dbx_buf_u32(&rec, (uint32_t)size);
    dbx_buf_u32(&rec, dbx_crc32c(0, data, size));
    if (size > RC_RECORD_MAX || dbx_buf_append(&rec, data, size) < 0)
        return 0;
    rc_record_read(rec.data, rec.len, &used, &ref, &key);
    dbx_assert(used == 0 || used == rec.len);
    if (ref && rc_record_write(&out, ref) == 0)
        dbx_assert(out.len == rec.len && memcmp(out.data, rec.data, out.len) == 0);
    rc_ref_free(ref);
    free(key);
    return 0;
}
