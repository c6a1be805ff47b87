/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/ext/pg_int.h"

#define MIGRATE_LOCK 7353871 /* any number that nobody else locks */

static void finishp(PGconn **conn)
{
    if (*conn)
        PQfinish(*conn);
}

static int exec(PGconn *conn, const char *sql, int64_t *ret_number, struct dbx_err *err)
{
    PGresult *res = PQexec(conn, sql);
    ExecStatusType st = PQresultStatus(res);
    int r = 0;
    if (st != PGRES_COMMAND_OK && st != PGRES_TUPLES_OK)
        r = PQstatus(conn) == CONNECTION_BAD ? dbx_pg__err_conn(err, conn, "database")
                                             : dbx_pg__err_result(err, res);
    else if (ret_number && (PQntuples(res) != 1 ||
                            dbx_parse_i64(PQgetvalue(res, 0, 0), strlen(PQgetvalue(res, 0, 0)), 0,
                                          INT64_MAX, ret_number) < 0))
        r = dbx_err_set(err, -EBADMSG, DBX_INTERNAL, "the schema's version is no number");
    PQclear(res);
    return r;
}

static int connect_within(const char *conninfo, uint64_t deadline, PGconn **ret,
                          struct dbx_err *err)
{
    for (;;) {
        PGconn *conn = PQconnectdb(conninfo);
        PQsetNoticeProcessor(conn, dbx_pg__on_notice, NULL);
        if (PQstatus(conn) == CONNECTION_OK) {
            *ret = conn;
            return 0;
        }
        int r = dbx_pg__err_conn(err, conn, "connect to the database");
        PQfinish(conn);
        if (dbx_now_ms() >= deadline)
            return r;
        (void)poll(NULL, 0, 50);
    }
}

static int migrate_one(PGconn *conn, const char *sql, size_t version, struct dbx_err *err)
{
    char record[128];
    int r;
    snprintf(record, sizeof(record), "insert into schema_migrations (version) values (%zu)",
             version);
    if ((r = exec(conn, "begin", NULL, err)) == 0 && (r = exec(conn, sql, NULL, err)) == 0 &&
        (r = exec(conn, record, NULL, err)) == 0)
        r = exec(conn, "commit", NULL, err);
    return r < 0 ? dbx_err_wrap(err, r, "migration %zu", version) : 0;
}

int dbx_pg_migrate(const char *conninfo, const char *const *migrations, size_t n, uint32_t wait_ms,
                   struct dbx_err *err)
{
    DBX_CLEANUP(finishp) PGconn *conn = NULL;
    char lock[64];
    int64_t have = 0;
    int r = connect_within(conninfo, dbx_now_ms() + wait_ms, &conn, err);
    if (r < 0)
        return r;
    snprintf(lock, sizeof(lock), "select pg_advisory_lock(%d)",
             MIGRATE_LOCK); /* ends with the connection */
    if ((r = exec(conn, lock, NULL, err)) < 0 ||
        (r = exec(conn,
                  "create table if not exists schema_migrations (version integer primary key, "
                  "applied_at timestamptz not null default now())",
                  NULL, err)) < 0 ||
        (r = exec(conn, "select coalesce(max(version), 0) from schema_migrations", &have, err)) < 0)
        return r;
    for (size_t i = (size_t)have; i < n; i++)
        if ((r = migrate_one(conn, migrations[i], i + 1, err)) < 0)
            return r;
    return 0;
}
