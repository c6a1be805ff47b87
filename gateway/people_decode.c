/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/people_decode.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "common/base/str.h"

struct raw {
    const char *email, *password, *current_password, *token, *label, *name, *role, *expires_at;
    const struct dbx_json *scopes, *disabled;
    int64_t max_workspaces, max_running, max_bytes;
};

#define AT(f) .offset = offsetof(struct raw, f)
#define REQUIRED .flags = DBX_JSON_REQUIRED
#define NULLABLE .flags = DBX_JSON_NULLABLE
#define MAX_QUOTA 1000000
#define MAX_BYTES 9007199254740991ll

static const struct dbx_json_field register_fields[] = {
    {"email", DBX_JSON_STRING, AT(email), REQUIRED},
    {"password", DBX_JSON_STRING, AT(password), REQUIRED, .min = GW_MIN_PASSWORD,
     .max = GW_MAX_PASSWORD},
};
static const struct dbx_json_field login_fields[] = {
    {"email", DBX_JSON_STRING, AT(email), REQUIRED},
    {"password", DBX_JSON_STRING, AT(password), REQUIRED, .max = GW_MAX_PASSWORD},
};
static const struct dbx_json_field password_fields[] = {
    {"password", DBX_JSON_STRING, AT(password), REQUIRED, .min = GW_MIN_PASSWORD,
     .max = GW_MAX_PASSWORD},
    {"current_password", DBX_JSON_STRING, AT(current_password), NULLABLE, .max = GW_MAX_PASSWORD},
};
static const struct dbx_json_field recover_fields[] = {
    {"token", DBX_JSON_STRING, AT(token), REQUIRED, .min = GW_SECRET_LEN, .max = GW_SECRET_LEN},
    {"password", DBX_JSON_STRING, AT(password), REQUIRED, .min = GW_MIN_PASSWORD,
     .max = GW_MAX_PASSWORD},
};
static const struct dbx_json_field key_fields[] = {
    {"label", DBX_JSON_STRING, AT(label), NULLABLE, .max = GW_MAX_LABEL},
    {"name", DBX_JSON_STRING, AT(name), NULLABLE, .max = GW_MAX_LABEL},
    {"scopes", DBX_JSON_ARRAY, AT(scopes), NULLABLE, .max = 8},
    {"expires_at", DBX_JSON_STRING, AT(expires_at), NULLABLE},
};
static const struct dbx_json_field member_fields[] = {
    {"role", DBX_JSON_STRING, AT(role), REQUIRED},
};
static const struct dbx_json_field link_fields[] = {
    {"role", DBX_JSON_STRING, AT(role), REQUIRED},
    {"expires_at", DBX_JSON_STRING, AT(expires_at), NULLABLE},
};
static const struct dbx_json_field user_fields[] = {
    {"role", DBX_JSON_STRING, AT(role)},
    {"disabled", DBX_JSON_NULL, AT(disabled)},
    {"max_workspaces", DBX_JSON_INT, AT(max_workspaces), .max = MAX_QUOTA},
    {"max_running", DBX_JSON_INT, AT(max_running), .max = MAX_QUOTA},
    {"max_bytes", DBX_JSON_INT, AT(max_bytes), .max = MAX_BYTES},
};

#define TABLE(f)                                                                                   \
    {                                                                                              \
        f, DBX_ARRAY_LEN(f)                                                                        \
    }
static const struct {
    const struct dbx_json_field *fields;
    size_t n;
} tables[] = {
    [GW_PEOPLE_REGISTER] = TABLE(register_fields), [GW_PEOPLE_LOGIN] = TABLE(login_fields),
    [GW_PEOPLE_PASSWORD] = TABLE(password_fields), [GW_PEOPLE_RECOVER] = TABLE(recover_fields),
    [GW_PEOPLE_KEY] = TABLE(key_fields),           [GW_PEOPLE_MEMBER] = TABLE(member_fields),
    [GW_PEOPLE_LINK] = TABLE(link_fields),         [GW_PEOPLE_USER] = TABLE(user_fields),
};

/* `n` digits from *p, which goes on. */
static int digits(const char **p, int n, int *ret)
{
    int value = 0;
    for (; n > 0; n--, (*p)++) {
        if (**p < '0' || **p > '9')
            return -EINVAL;
        value = value * 10 + (**p - '0');
    }
    *ret = value;
    return 0;
}

static int literal(const char **p, char c)
{
    return *(*p)++ == c ? 0 : -EINVAL;
}

static int read_zone(const char **p, int *ret_minutes)
{
    int hours, minutes, sign = **p == '-' ? -1 : 1;
    *ret_minutes = 0;
    if (**p == 'Z') {
        (*p)++;
        return 0;
    }
    if (**p != '+' && **p != '-')
        return -EINVAL;
    (*p)++;
    if (digits(p, 2, &hours) < 0 || literal(p, ':') < 0 || digits(p, 2, &minutes) < 0 ||
        hours > 23 || minutes > 59)
        return -EINVAL;
    *ret_minutes = sign * (hours * 60 + minutes);
    return 0;
}

int gw_time_parse(const char *text, int64_t *ret_us)
{
    struct tm tm = {0};
    const char *p = text;
    int zone, day;
    int64_t us = 0;
    if (digits(&p, 4, &tm.tm_year) < 0 || literal(&p, '-') < 0 || digits(&p, 2, &tm.tm_mon) < 0 ||
        literal(&p, '-') < 0 || digits(&p, 2, &tm.tm_mday) < 0 || literal(&p, 'T') < 0 ||
        digits(&p, 2, &tm.tm_hour) < 0 || literal(&p, ':') < 0 || digits(&p, 2, &tm.tm_min) < 0 ||
        literal(&p, ':') < 0 || digits(&p, 2, &tm.tm_sec) < 0)
        return -EINVAL;
    if (*p == '.') {
        int64_t unit = 100000;
        for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10)
            us += (*p - '0') * unit;
    }
    if (tm.tm_year < 1970 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_hour > 23 ||
        tm.tm_min > 59 || tm.tm_sec > 59 || read_zone(&p, &zone) < 0 || *p)
        return -EINVAL;
    day = tm.tm_mday;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    time_t seconds = timegm(&tm);
    if (tm.tm_mday != day) /* the month has no such day */
        return -EINVAL;
    *ret_us = ((int64_t)seconds - zone * 60) * 1000000 + us;
    return 0;
}

static int take_scopes(const struct dbx_json *list, uint32_t *ret, struct dbx_err *err)
{
    uint32_t scopes = 0;
    for (size_t i = 0; i < dbx_json_count(list); i++) {
        const char *name = dbx_json_str(dbx_json_at(list, i), NULL);
        uint32_t one = name ? gw_scope_named(name) : 0;
        if (!one)
            return dbx_err_field(err, "scopes", "must be of read, write, run, account and admin");
        scopes |= one;
    }
    if (list && !scopes)
        return dbx_err_field(err, "scopes", "must not be empty");
    *ret = scopes;
    return 0;
}

static int check_role(enum gw_people_kind kind, const char *role, struct dbx_err *err)
{
    if (!role)
        return 0;
    if (kind == GW_PEOPLE_USER)
        return dbx_streq(role, "user") || dbx_streq(role, "admin")
                   ? 0
                   : dbx_err_field(err, "role", "must be user or admin");
    return dbx_streq(role, "viewer") || dbx_streq(role, "editor")
               ? 0
               : dbx_err_field(err, "role", "must be viewer or editor");
}

static int take(enum gw_people_kind kind, const struct raw *raw, int64_t now_us,
                struct gw_people_body *b, struct dbx_err *err)
{
    b->password = raw->password;
    b->current_password = raw->current_password;
    b->token = raw->token;
    b->label = raw->label ? raw->label : raw->name;
    b->role = raw->role;
    b->max_workspaces = raw->max_workspaces;
    b->max_running = raw->max_running;
    b->max_bytes = raw->max_bytes;
    b->has_disabled = raw->disabled != NULL;
    if (raw->email && gw_email_normalize(raw->email, b->email) < 0)
        return dbx_err_field(err, "email", "must be an e-mail address");
    if (raw->disabled && dbx_json_type(raw->disabled) != DBX_JSON_BOOL)
        return dbx_err_field(err, "disabled", "must be true or false");
    b->disabled = dbx_json_bool(raw->disabled, false);
    if (raw->expires_at && gw_time_parse(raw->expires_at, &b->expires_us) < 0)
        return dbx_err_field(err, "expires_at", "must be a time like 2030-01-02T03:04:05Z");
    if (raw->expires_at && b->expires_us <= now_us)
        return dbx_err_field(err, "expires_at", "has passed already");
    int r = check_role(kind, raw->role, err);
    return r < 0 ? r : take_scopes(raw->scopes, &b->scopes, err);
}

int gw_people_decode(enum gw_people_kind kind, const void *body, size_t len, int64_t now_us,
                     struct gw_people_body *ret, struct dbx_err *err)
{
    const struct dbx_json_limits limits = {.max_depth = 4, .max_nodes = 100};
    struct gw_people_body b = {0};
    struct raw raw = {.max_workspaces = -1, .max_running = -1, .max_bytes = -1};
    bool empty = len == 0 && kind == GW_PEOPLE_KEY; /* nothing of it is required */
    int r = dbx_json_parse(empty ? "{}" : body, empty ? 2 : len, &limits, &b.doc, err);
    if (r < 0) {
        if (err)
            err->kind = DBX_INVALID; /* also when it was too deep or too large */
        return r;
    }
    const struct dbx_json *root = dbx_json_root(b.doc);
    if (dbx_json_type(root) != DBX_JSON_OBJECT)
        r = dbx_err_set(err, -EINVAL, DBX_INVALID, "the body must be a JSON object");
    if (r == 0)
        r = dbx_json_decode(root, tables[kind].fields, tables[kind].n, &raw, "", err);
    if (r == 0)
        r = take(kind, &raw, now_us, &b, err);
    if (r < 0)
        gw_people_body_done(&b);
    else
        *ret = b;
    return r;
}

void gw_people_body_done(struct gw_people_body *b)
{
    b->doc = dbx_json_doc_free(b->doc);
}
