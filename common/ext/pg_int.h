/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by pg*.c only. */
#pragma once

#include <libpq-fe.h>

#include "common/ext/pg.h"

struct dbx_pg_result {
    PGresult *res; /* borrowed for the time of the callback */
};

/* The error of a result the server refused, by SQLSTATE. */
int dbx_pg__err_result(struct dbx_err *err, const PGresult *res);
/* The error of a connection. */
int dbx_pg__err_conn(struct dbx_err *err, const PGconn *conn, const char *what);
/* Begins to connect, with keep-alives that notice a dead peer within seconds. */
PGconn *dbx_pg__connect_start(const char *conninfo);
void dbx_pg__on_notice(void *arg, const char *message); /* a PQnoticeProcessor */
