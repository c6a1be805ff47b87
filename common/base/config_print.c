/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/config_int.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

char *dbx_config__flag_name(const struct dbx_config_field *f)
{
    char *flag = dbx_asprintf("--%s", f->name);
    for (char *p = flag; *p; p++)
        if (*p == '_')
            *p = '-';
    return flag;
}

char *dbx_config__env_name(const struct dbx_config__table *table, const struct dbx_config_field *f)
{
    char *name = dbx_asprintf("DEVBOX_%s_%s", table->daemon, f->name);
    for (char *p = name; *p; p++)
        *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    return name;
}

static const char *placeholder(enum dbx_config_type type)
{
    static const char *const words[] = {
        [DBX_CONFIG_STRING] = " TEXT",
        [DBX_CONFIG_U64] = " NUMBER",
        [DBX_CONFIG_BOOL] = "[=true|false]",
        [DBX_CONFIG_PATH] = " FILE",
    };
    return words[type];
}

/* " (unit ms, 1 to 60000, default 500)" */
static void print_facts(const struct dbx_config_field *f)
{
    if (f->type == DBX_CONFIG_U64) {
        printf("%s%s, ", f->unit && *f->unit ? "in " : "a number", f->unit ? f->unit : "");
        if (f->max)
            printf("%" PRIu64 " to %" PRIu64 ", ", f->min, f->max);
        else if (f->min)
            printf("at least %" PRIu64 ", ", f->min);
    }
    printf("default %s", f->def && *f->def ? f->def : "none");
}

void dbx_config__print_help(const struct dbx_config__table *table)
{
    printf("Usage: devbox-%s [OPTION...]\n%s\n\nOptions:\n", table->daemon, table->summary);
    for (size_t i = 0; i < table->n; i++) {
        const struct dbx_config_field *f = &table->fields[i];
        DBX_CLEANUP(dbx_freep) char *flag = dbx_config__flag_name(f);
        DBX_CLEANUP(dbx_freep) char *env = dbx_config__env_name(table, f);
        printf("  %s%s\n      %s (", flag, placeholder(f->type), f->doc);
        print_facts(f);
        printf("; %s)\n", env);
    }
    printf(
        "  --config FILE\n      Reads lines \"name = value\" (# begins a comment line).\n"
        "  --print-config\n      Prints the values in force as such a file.\n"
        "  --check-config\n      Says whether the values are good.\n"
        "  --version\n"
        "  --help\n"
        "A flag stands before the environment, that before the file, that before the default.\n");
}

static void print_value(void *cfg, const struct dbx_config_field *f)
{
    void *place = dbx_config__place(cfg, f);
    const char *s;
    switch (f->type) {
    case DBX_CONFIG_U64:
        printf("%s = %" PRIu64 "\n", f->name, *(uint64_t *)place);
        return;
    case DBX_CONFIG_BOOL:
        printf("%s = %s\n", f->name, *(bool *)place ? "true" : "false");
        return;
    case DBX_CONFIG_STRING:
    case DBX_CONFIG_PATH:
        s = *(char **)place;
        if (s)
            printf("%s =%s%s\n", f->name, *s ? " " : "", s);
        else
            printf("# %s =\n", f->name);
        return;
    }
}

void dbx_config__print_values(void *cfg, const struct dbx_config__table *table)
{
    printf("# devbox-%s %s\n", table->daemon, DBX_VERSION);
    for (size_t i = 0; i < table->n; i++) {
        const struct dbx_config_field *f = &table->fields[i];
        printf("\n# %s (", f->doc);
        print_facts(f);
        printf(")\n");
        print_value(cfg, f);
    }
}
