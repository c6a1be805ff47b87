/* SPDX-License-Identifier: Apache-2.0 */
/* What the shim says to init, by init's own decoder. */
#include "common/base/def.h"
#include "shim/init/decode.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char *argv[INIT_MAX_ARGS + 1], *env[INIT_MAX_ARGS + 1];
    struct init_header h;
    struct init_start_request req = {.argv = argv, .env = env};
    struct init_signal sig;
    struct init_resize resize;
    struct init_listen listen;
    struct init_stream stream;
    struct init_layer layer;
    const char *target, *name;
    struct init_files files;
    struct init_files_iter it = {0};
    struct init_file f;
    const uint8_t *body, *block;
    const char *root;
    size_t len, block_len;
    if (init_decode_header(data, size, &h, &body, &len))
        return 0;
    (void)init_decode_signal(body, len, &sig);
    if (init_decode_resize(body, len, &resize) == 0)
        dbx_assert(resize.size.cols && resize.size.rows);
    if (init_decode_listen(body, len, &listen) == 0)
        dbx_assert(listen.port);
    (void)init_decode_stream(body, len, &stream);
    if (init_decode_layer(body, len, &layer, &target, &name) == 0)
        dbx_assert(target[0] == '/' && name + layer.name_len == (const char *)body + len);
    (void)init_decode_start_tty(body, len, &req);
    if (init_decode_start(body, len, &req) == 0)
        dbx_assert(req.cwd[0] == '/' && strlen(argv[req.fixed.argc - 1]) <= len);
    if (init_decode_files(body, len, &files, &root, &block, &block_len) == 0)
        while (init_files_next(block, block_len, &it, &f) == 0)
            dbx_assert(f.path[0] && f.path[0] != '/' && f.data + f.size <= block + block_len);
    return 0;
}
