/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/limits.h"

#include "common/base/str.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

const struct dbx_limits dbx_limits_default = {10000, 30000, 256, 16777216, 64, 1024, 256};
const struct dbx_limits dbx_limits_compile_default = {60000, 60000, 1024, 16777216, 64, 1024, 256};

#define LIMIT(f)                                                                                   \
    {                                                                                              \
#f, offsetof(struct dbx_limits, f)                                                         \
    }
#define USAGE(f)                                                                                   \
    {                                                                                              \
#f, offsetof(struct dbx_usage, f)                                                          \
    }
struct i64_field {
    const char *name;
    size_t offset;
};
static const struct i64_field limit_fields[] = {
    LIMIT(cpu_ms),    LIMIT(wall_ms),    LIMIT(memory_mb), LIMIT(output_bytes),
    LIMIT(processes), LIMIT(open_files), LIMIT(disk_mb),
};
static const struct i64_field usage_fields[] = {
    USAGE(queued_ms),         USAGE(start_ms),     USAGE(wall_ms),    USAGE(cpu_ms),
    USAGE(memory_peak_bytes), USAGE(output_bytes), USAGE(disk_bytes),
};

static int64_t get_i64(const void *base, size_t offset)
{
    int64_t v;
    memcpy(&v, (const char *)base + offset, sizeof(v));
    return v;
}

static void set_i64(void *base, size_t offset, int64_t v)
{
    memcpy((char *)base + offset, &v, sizeof(v));
}

int dbx_limits_decode(const struct dbx_json *object, const struct dbx_limits *defaults,
                      const struct dbx_limits *max, const char *prefix, struct dbx_limits *ret,
                      struct dbx_err *err)
{
    struct dbx_json_field fields[DBX_ARRAY_LEN(limit_fields)] = {0};
    struct dbx_limits l;

    for (size_t i = 0; i < DBX_ARRAY_LEN(limit_fields); i++) {
        size_t offset = limit_fields[i].offset;
        int64_t def = get_i64(defaults, offset), most = get_i64(max, offset);
        fields[i].name = limit_fields[i].name;
        fields[i].type = DBX_JSON_INT;
        fields[i].offset = offset;
        fields[i].min = 1;
        fields[i].max = most;
        set_i64(&l, offset, def < most ? def : most);
    }
    if (dbx_json_type(object) != DBX_JSON_NULL) {
        int r = dbx_json_decode(object, fields, DBX_ARRAY_LEN(fields), &l, prefix, err);
        if (r < 0)
            return r;
    }
    *ret = l;
    return 0;
}

static void write_fields(struct dbx_jw *w, const void *base, const struct i64_field *fields,
                         size_t n)
{
    dbx_jw_object(w);
    for (size_t i = 0; i < n; i++)
        dbx_jw_ki64(w, fields[i].name, get_i64(base, fields[i].offset));
    dbx_jw_object_end(w);
}

void dbx_limits_write(struct dbx_jw *w, const struct dbx_limits *l)
{
    write_fields(w, l, limit_fields, DBX_ARRAY_LEN(limit_fields));
}

void dbx_usage_write(struct dbx_jw *w, const struct dbx_usage *u)
{
    write_fields(w, u, usage_fields, DBX_ARRAY_LEN(usage_fields));
}

void dbx_usage_read(const struct dbx_json *object, struct dbx_usage *ret)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(usage_fields); i++) {
        int64_t v = dbx_json_get_i64(object, usage_fields[i].name, 0);
        set_i64(ret, usage_fields[i].offset, v < 0 ? 0 : v);
    }
}

static const struct {
    const char *name, *status;
} verdicts[] = {
    [DBX_V_NONE] = {NULL, NULL},
    [DBX_V_OK] = {"OK", "completed"},
    [DBX_V_EXIT_CODE] = {"EXIT_CODE", "completed"},
    [DBX_V_SIGNAL] = {"SIGNAL", "completed"},
    [DBX_V_TIME_LIMIT] = {"TIME_LIMIT", "failed"},
    [DBX_V_WALL_LIMIT] = {"WALL_LIMIT", "failed"},
    [DBX_V_MEMORY_LIMIT] = {"MEMORY_LIMIT", "failed"},
    [DBX_V_OUTPUT_LIMIT] = {"OUTPUT_LIMIT", "failed"},
    [DBX_V_PROCESS_LIMIT] = {"PROCESS_LIMIT", "failed"},
    [DBX_V_DISK_LIMIT] = {"DISK_LIMIT", "failed"},
    [DBX_V_COMPILE_ERROR] = {"COMPILE_ERROR", "failed"},
    [DBX_V_CANCELLED] = {"CANCELLED", "cancelled"},
    [DBX_V_NODE_LOST] = {"NODE_LOST", "failed"},
    [DBX_V_INTERNAL] = {"INTERNAL", "failed"},
};

const char *dbx_verdict_name(enum dbx_verdict v)
{
    return (size_t)v < DBX_ARRAY_LEN(verdicts) ? verdicts[v].name : NULL;
}

const char *dbx_verdict_status(enum dbx_verdict v)
{
    return (size_t)v < DBX_ARRAY_LEN(verdicts) ? verdicts[v].status : NULL;
}

enum dbx_verdict dbx_verdict_parse(const char *s)
{
    for (size_t i = DBX_V_OK; s && i < DBX_ARRAY_LEN(verdicts); i++) {
        if (strcmp(verdicts[i].name, s) == 0)
            return (enum dbx_verdict)i;
    }
    return DBX_V_NONE;
}

const char *dbx_signal_name(int signo)
{
    static char names[65][16];

    if (signo < 0 || signo >= (int)DBX_ARRAY_LEN(names))
        return "SIG?";
    if (!names[signo][0]) {
        const char *abbrev = signo > 0 ? sigabbrev_np(signo) : NULL;
        if (abbrev)
            (void)snprintf(names[signo], sizeof(names[signo]), "SIG%s", abbrev);
        else
            (void)snprintf(names[signo], sizeof(names[signo]), "SIG%d", signo);
    }
    return names[signo];
}

static void write_int_or_null(struct dbx_jw *w, const char *key, int v, int none)
{
    dbx_jw_key(w, key);
    if (v == none)
        dbx_jw_null(w);
    else
        dbx_jw_i64(w, v);
}

void dbx_outcome_write(struct dbx_jw *w, const struct dbx_outcome *o)
{
    dbx_jw_object(w);
    dbx_jw_kstr(w, "verdict", dbx_verdict_name(o->verdict));
    write_int_or_null(w, "exit_code", o->exit_code, -1);
    write_int_or_null(w, "signal", o->signal, 0);
    dbx_jw_ki64(w, "stdout_bytes", o->stdout_bytes);
    dbx_jw_ki64(w, "stderr_bytes", o->stderr_bytes);
    dbx_jw_key(w, "usage");
    dbx_usage_write(w, &o->usage);
    dbx_jw_object_end(w);
}

int dbx_outcome_read(const struct dbx_json *object, struct dbx_outcome *ret, struct dbx_err *err)
{
    struct dbx_outcome o = {0};
    int64_t exit_code = dbx_json_get_i64(object, "exit_code", -1);
    int64_t signo = dbx_json_get_i64(object, "signal", 0);

    if (dbx_json_type(object) != DBX_JSON_OBJECT)
        return dbx_err_field(err, "outcome", "is not an object");
    o.verdict = dbx_verdict_parse(dbx_json_get_str(object, "verdict"));
    if (o.verdict == DBX_V_NONE)
        return dbx_err_field(err, "outcome.verdict", "is unknown");
    if (exit_code < -1 || exit_code > 255)
        return dbx_err_field(err, "outcome.exit_code", "is out of range");
    if (signo < 0 || signo > 64)
        return dbx_err_field(err, "outcome.signal", "is out of range");
    o.exit_code = (int)exit_code;
    o.signal = (int)signo;
    o.stdout_bytes = dbx_json_get_i64(object, "stdout_bytes", 0);
    o.stderr_bytes = dbx_json_get_i64(object, "stderr_bytes", 0);
    if (o.stdout_bytes < 0 || o.stderr_bytes < 0)
        return dbx_err_field(err, "outcome.stdout_bytes", "is negative");
    dbx_usage_read(dbx_json_get(object, "usage"), &o.usage);
    *ret = o;
    return 0;
}
