/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/ext/pg_int.h"

static const struct {
    const char *sqlstate; /* a whole one, or its class */
    int code;
    enum dbx_kind kind;
} kinds[] = {
    {"23505", -EEXIST, DBX_CONFLICT},   {"23503", -ENOENT, DBX_NOT_FOUND},
    {"23514", -EINVAL, DBX_INVALID},    {"23502", -EINVAL, DBX_INVALID},
    {"22", -EINVAL, DBX_INVALID},       {"40001", -EAGAIN, DBX_UNAVAIL},
    {"40P01", -EAGAIN, DBX_UNAVAIL},    {"55P03", -EAGAIN, DBX_UNAVAIL},
    {"57P", -ECONNRESET, DBX_UNAVAIL}, /* shutting down, crashed, not accepting yet */
    {"57014", -ETIMEDOUT, DBX_TIMEOUT}, {"25006", -EROFS, DBX_UNAVAIL}, /* a standby */
    {"08", -ECONNRESET, DBX_UNAVAIL},   {"53", -ENOSPC, DBX_LIMIT},
    {"54", -E2BIG, DBX_LIMIT},
};

/* libpq's messages end with a newline and may have several lines. */
static void first_line(char *out, size_t size, const char *text)
{
    dbx_strcpy(out, size, text ? text : "");
    out[strcspn(out, "\n")] = '\0';
}

int dbx_pg__err_result(struct dbx_err *err, const PGresult *res)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    char text[160];
    first_line(text, sizeof(text), PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY));
    for (size_t i = 0; state && i < DBX_ARRAY_LEN(kinds); i++)
        if (dbx_starts_with(state, kinds[i].sqlstate))
            return dbx_err_set(err, kinds[i].code, kinds[i].kind, "database: %s (%s)", text, state);
    return dbx_err_set(err, -EIO, DBX_INTERNAL, "database: %s (%s)", text, state ? state : "?");
}

int dbx_pg__err_conn(struct dbx_err *err, const PGconn *conn, const char *what)
{
    char text[160];
    first_line(text, sizeof(text), PQerrorMessage(conn));
    return dbx_err_set(err, -ECONNRESET, DBX_UNAVAIL, "%s: %s", what,
                       text[0] ? text : "the connection was lost");
}

/* Without one libpq writes the server's notices to stderr. */
void dbx_pg__on_notice(void *arg, const char *message)
{
    (void)arg;
    dbx_log(DBX_LOG_DEBUG, NULL, "database: %.*s", (int)strcspn(message, "\n"), message);
}

PGconn *dbx_pg__connect_start(const char *conninfo)
{
    static const char *const names[] = {"dbname",
                                        "keepalives_idle",
                                        "keepalives_interval",
                                        "keepalives_count",
                                        "tcp_user_timeout",
                                        "application_name",
                                        NULL};
    const char *const values[] = {conninfo, "5", "2", "3", "10000", "devbox", NULL};
    PGconn *conn = PQconnectStartParams(names, values, /* expand_dbname= */ 1);
    if (conn)
        PQsetNoticeProcessor(conn, dbx_pg__on_notice, NULL);
    return conn;
}

size_t dbx_pg_rows(const struct dbx_pg_result *res)
{
    return res->res ? (size_t)PQntuples(res->res) : 0;
}

uint64_t dbx_pg_affected(const struct dbx_pg_result *res)
{
    const char *s = res->res ? PQcmdTuples(res->res) : "";
    uint64_t n = 0;
    return dbx_parse_u64(s, strlen(s), 0, UINT64_MAX, &n) == 0 ? n : 0;
}

const char *dbx_pg_text(const struct dbx_pg_result *res, size_t row, const char *column,
                        size_t *ret_len)
{
    int col = PQfnumber(res->res, column);
    dbx_assert(col >= 0 && row < dbx_pg_rows(res));
    if (PQgetisnull(res->res, (int)row, col))
        return NULL;
    if (ret_len)
        *ret_len = (size_t)PQgetlength(res->res, (int)row, col);
    return PQgetvalue(res->res, (int)row, col);
}

int64_t dbx_pg_i64(const struct dbx_pg_result *res, size_t row, const char *column,
                   int64_t otherwise)
{
    size_t len;
    int64_t v;
    const char *s = dbx_pg_text(res, row, column, &len);
    if (s && len == 1 && (*s == 't' || *s == 'f'))
        return *s == 't';
    return s && dbx_parse_i64(s, len, INT64_MIN, INT64_MAX, &v) == 0 ? v : otherwise;
}

uint8_t *dbx_pg_bytes(const struct dbx_pg_result *res, size_t row, const char *column,
                      size_t *ret_len)
{
    size_t len;
    const char *s = dbx_pg_text(res, row, column, &len);
    if (!s)
        return NULL;
    dbx_assert(len >= 2 && s[0] == '\\' && s[1] == 'x');
    uint8_t *out = dbx_malloc((len - 2) / 2 + 1);
    if (dbx_hex_decode(s + 2, len - 2, out) < 0) {
        free(out);
        return NULL;
    }
    *ret_len = (len - 2) / 2;
    return out;
}
