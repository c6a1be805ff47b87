/* SPDX-License-Identifier: Apache-2.0 */
#include "bundles/layer/extract.h"

#include <sys/mman.h>
#include <unistd.h>

#include "common/base/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct layer_limits limits = {
        .entries = 100, .file = 64u << 10, .all = 256u << 10, .ratio = 100, .ratio_at = 16u << 10};
    struct layer_result res;
    int in = memfd_create("layer", MFD_CLOEXEC);
    if (in >= 0 && size < 1u << 20 && dbx_write_all(in, data, size) == 0 &&
        lseek(in, 0, SEEK_SET) == 0)
        (void)!layer_extract(in, -1, -1, &limits, &res, NULL);
    dbx_close(in);
    return 0;
}
