/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/layer_map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DBX_CLEANUP(dbx_layer_map_done) struct dbx_layer_map map = {0};
    DBX_CLEANUP(dbx_layer_map_done) struct dbx_layer_map again = {0};
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf words = {.max = DBX_LAYER_MAP_MAX};

    if (dbx_layer_map_read(data, size, &map, NULL) < 0)
        return 0;
    for (size_t i = 0; i < map.n_parts; i++)
        dbx_assert(dbx_layer_map_part(&map, i) >= 1 &&
                   dbx_layer_map_part(&map, i) <= DBX_LAYER_PART);
    dbx_assert(dbx_layer_map_write(&map, &words) == 0);
    dbx_assert(dbx_layer_map_read(words.data, words.len, &again, NULL) == 0);
    dbx_assert(again.size == map.size && again.n_parts == map.n_parts);
    return 0;
}
