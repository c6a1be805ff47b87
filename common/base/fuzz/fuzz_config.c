/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/config_int.h"

struct config {
    char *text;
    uint64_t number;
    bool flag;
};

static const struct dbx_config_field fields[] = {
    {"text", DBX_CONFIG_STRING, offsetof(struct config, text), NULL, 0, 0, "", ""},
    {"number", DBX_CONFIG_U64, offsetof(struct config, number), NULL, 1, 99, "", ""},
    {"flag", DBX_CONFIG_BOOL, offsetof(struct config, flag), NULL, 0, 0, "", ""},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct dbx_config__table table = {fields, DBX_ARRAY_LEN(fields), "x", ""};
    struct config cfg = {0};
    struct dbx_err err;
    if (dbx_config__parse_file(&cfg, &table, "f", (const char *)data, size, &err) == 0)
        dbx_assert(cfg.number <= 99);
    dbx_config_done(&cfg, fields, DBX_ARRAY_LEN(fields));
    return 0;
}
