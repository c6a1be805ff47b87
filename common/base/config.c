/* SPDX-License-Identifier: Apache-2.0 */
/* Values are set in the order default, file, environment, flags, each over the one before, and each
 * is checked where it comes from, so that an error names the place. Unknown names in the
 * environment are no error: Kubernetes puts DEVBOX_<SERVICE>_... there for every service, unasked.
 */
#include "common/base/config_int.h"
#include "common/base/fs.h"
#include "common/base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum action { RUN, HELP, VERSION, PRINT, CHECK };

static const struct {
    const char *flag;
    enum action action;
} actions[] = {
    {"--help", HELP},          {"-h", HELP}, {"--version", VERSION}, {"--print-config", PRINT},
    {"--check-config", CHECK},
};

/* What --print-config prints must read back the same. */
static bool printable(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
            return false;
    return !len || (s[0] != ' ' && s[len - 1] != ' ');
}

static int set_value(void *cfg, const struct dbx_config_field *f, const char *source, const char *s,
                     size_t len, struct dbx_err *err)
{
    void *place = dbx_config__place(cfg, f);
    switch (f->type) {
    case DBX_CONFIG_U64:
        if (dbx_parse_u64(s, len, f->min, dbx_config__max(f), place) < 0)
            return dbx_err_field(err, f->name,
                                 "%s: %s must be a number from %" PRIu64 " to %" PRIu64, source,
                                 f->name, f->min, dbx_config__max(f));
        return 0;
    case DBX_CONFIG_BOOL:
        if (len == 4 && memcmp(s, "true", 4) == 0)
            *(bool *)place = true;
        else if (len == 5 && memcmp(s, "false", 5) == 0)
            *(bool *)place = false;
        else
            return dbx_err_field(err, f->name, "%s: %s must be true or false", source, f->name);
        return 0;
    case DBX_CONFIG_STRING:
    case DBX_CONFIG_PATH:
        if (!printable(s, len))
            return dbx_err_field(
                err, f->name,
                "%s: %s must not hold control characters, nor begin or end with a blank", source,
                f->name);
        free(*(char **)place);
        *(char **)place = dbx_strndup(s, len);
        return 0;
    }
    dbx_assert(!"a type of the enum");
    return -EINVAL;
}

static void set_defaults(void *cfg, const struct dbx_config__table *table)
{
    for (size_t i = 0; i < table->n; i++) {
        const struct dbx_config_field *f = &table->fields[i];
        if (!f->def)
            continue;
        int r = set_value(cfg, f, "default", f->def, strlen(f->def), NULL);
        dbx_assert(r == 0 && "a default in the table is wrong");
    }
}

static const struct dbx_config_field *find_name(const struct dbx_config__table *table,
                                                const char *s, size_t len)
{
    for (size_t i = 0; i < table->n; i++)
        if (strlen(table->fields[i].name) == len && memcmp(table->fields[i].name, s, len) == 0)
            return &table->fields[i];
    return NULL;
}

/* Takes blanks off both ends of [*s, *s + *len). */
static void trim(const char **s, size_t *len)
{
    while (*len && strchr(" \t\r", (*s)[*len - 1]) && (*s)[*len - 1])
        --*len;
    while (*len && strchr(" \t\r", **s) && **s) {
        ++*s;
        --*len;
    }
}

static int parse_line(void *cfg, const struct dbx_config__table *table, const char *source,
                      const char *s, size_t len, bool *seen, struct dbx_err *err)
{
    trim(&s, &len);
    if (!len || *s == '#')
        return 0;
    const char *equals = memchr(s, '=', len);
    if (!equals)
        return dbx_err_field(err, "config", "%s: expected name = value", source);
    size_t name_len = (size_t)(equals - s);
    const char *name = s, *value = equals + 1;
    size_t value_len = len - name_len - 1;
    trim(&name, &name_len);
    trim(&value, &value_len);
    const struct dbx_config_field *f = find_name(table, name, name_len);
    if (!f)
        return dbx_err_field(err, "config", "%s: unknown name '%.*s'", source,
                             name_len < 64 ? (int)name_len : 64, name);
    if (seen[f - table->fields])
        return dbx_err_field(err, f->name, "%s: %s stands there twice", source, f->name);
    seen[f - table->fields] = true;
    return set_value(cfg, f, source, value, value_len, err);
}

int dbx_config__parse_file(void *cfg, const struct dbx_config__table *table, const char *source,
                           const char *text, size_t len, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) bool *seen = dbx_calloc(table->n, sizeof(*seen));
    if (!dbx_utf8_valid(text, len))
        return dbx_err_field(err, "config", "%s is not UTF-8", source);
    for (unsigned number = 1; len; number++) {
        const char *newline = memchr(text, '\n', len);
        size_t line = newline ? (size_t)(newline - text) : len;
        DBX_CLEANUP(dbx_freep) char *where = dbx_asprintf("%s:%u", source, number);
        int r = parse_line(cfg, table, where, text, line, seen, err);
        if (r < 0)
            return r;
        text += line + (newline != NULL);
        len -= line + (newline != NULL);
    }
    return 0;
}

static int read_file(void *cfg, const struct dbx_config__table *table, const char *path,
                     struct dbx_err *err)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf text;
    int r = dbx_fs_read(path, DBX_CONFIG__MAX_FILE, &text, err);
    if (r == 0)
        r = dbx_config__parse_file(cfg, table, path, dbx_buf_cstr(&text), text.len, err);
    return r;
}

static int read_environment(void *cfg, const struct dbx_config__table *table, struct dbx_err *err)
{
    for (size_t i = 0; i < table->n; i++) {
        DBX_CLEANUP(dbx_freep) char *name = dbx_config__env_name(table, &table->fields[i]);
        const char *value = getenv(name);
        if (!value)
            continue;
        int r = set_value(cfg, &table->fields[i], name, value, strlen(value), err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* One argument taken apart: "--name=value", "--name value" or "--name". */
struct flag {
    const char *value; /* behind '=', or NULL */
    size_t name_len;
    const char *arg;
};

static struct flag split_flag(const char *arg)
{
    const char *equals = strchr(arg, '=');
    return (struct flag){
        .arg = arg,
        .name_len = equals ? (size_t)(equals - arg) : strlen(arg),
        .value = equals ? equals + 1 : NULL,
    };
}

static bool flag_is(const struct flag *fl, const char *name)
{
    return strlen(name) == fl->name_len && memcmp(name, fl->arg, fl->name_len) == 0;
}

static const struct dbx_config_field *find_flag(const struct dbx_config__table *table,
                                                const struct flag *fl)
{
    for (size_t i = 0; i < table->n; i++) {
        DBX_CLEANUP(dbx_freep) char *name = dbx_config__flag_name(&table->fields[i]);
        if (flag_is(fl, name))
            return &table->fields[i];
    }
    return NULL;
}

static int take_value(struct flag *fl, int argc, char **argv, int *i, struct dbx_err *err)
{
    if (!fl->value && *i + 1 < argc)
        fl->value = argv[++*i];
    if (!fl->value)
        return dbx_err_field(err, fl->arg, "%s wants a value", fl->arg);
    return 0;
}

static bool is_action(const struct flag *fl, enum action *ret)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(actions); i++)
        if (!fl->value && flag_is(fl, actions[i].flag)) {
            *ret = actions[i].action;
            return true;
        }
    return false;
}

/* Goes over the arguments. With cfg NULL it looks for the actions and the file only; with it, it
 * sets values. */
static int read_flags(void *cfg, const struct dbx_config__table *table, int argc, char **argv,
                      enum action *ret_action, const char **ret_file, struct dbx_err *err)
{
    for (int i = 1; i < argc; i++) {
        struct flag fl = split_flag(argv[i]);
        if (is_action(&fl, ret_action))
            continue;
        const struct dbx_config_field *f = find_flag(table, &fl);
        if (!f && !flag_is(&fl, "--config"))
            return dbx_err_field(err, fl.arg, "unknown %s '%.*s'",
                                 dbx_starts_with(fl.arg, "-") ? "flag" : "argument",
                                 (int)fl.name_len, fl.arg);
        if (f && f->type == DBX_CONFIG_BOOL && !fl.value)
            fl.value = "true";
        int r = take_value(&fl, argc, argv, &i, err);
        if (r == 0 && !f)
            *ret_file = fl.value;
        if (r == 0 && f && cfg)
            r = set_value(cfg, f, "command line", fl.value, strlen(fl.value), err);
        if (r < 0)
            return r;
    }
    return 0;
}

static void answer(void *cfg, const struct dbx_config__table *table, enum action action)
{
    switch (action) {
    case HELP:
        dbx_config__print_help(table);
        break;
    case VERSION:
        printf("devbox-%s %s\n", table->daemon, DBX_VERSION);
        break;
    case PRINT:
        dbx_config__print_values(cfg, table);
        break;
    case CHECK:
        printf("the configuration is good\n");
        break;
    case RUN:
        return;
    }
    (void)fflush(stdout);
}

static int load(void *cfg, const struct dbx_config__table *table, int argc, char **argv,
                bool *ret_run, struct dbx_err *err)
{
    enum action action = RUN;
    const char *file = NULL;
    set_defaults(cfg, table);
    int r = read_flags(NULL, table, argc, argv, &action, &file, err);
    if (r == 0 && action != HELP && action != VERSION) {
        if (file)
            r = read_file(cfg, table, file, err);
        if (r == 0)
            r = read_environment(cfg, table, err);
        if (r == 0)
            r = read_flags(cfg, table, argc, argv, &action, &file, err);
    }
    if (r < 0)
        return r;
    answer(cfg, table, action);
    *ret_run = action == RUN;
    return 0;
}

int dbx_config_load(void *cfg, const struct dbx_config_field *fields, size_t n, const char *daemon,
                    const char *summary, int argc, char **argv, bool *ret_run, struct dbx_err *err)
{
    const struct dbx_config__table table = {
        .fields = fields, .n = n, .daemon = daemon, .summary = summary};
    int r = load(cfg, &table, argc, argv, ret_run, err);
    if (r < 0)
        dbx_config_done(cfg, fields, n);
    return r;
}

void dbx_config_done(void *cfg, const struct dbx_config_field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fields[i].type == DBX_CONFIG_STRING || fields[i].type == DBX_CONFIG_PATH)
            dbx_freep(dbx_config__place(cfg, &fields[i]));
}
