/* SPDX-License-Identifier: Apache-2.0 */
/* For the system test: plays the shim's part towards the output log. log_writer URL; each line of
 * stdin is "<sandbox id> <record in hexadecimal>", answered by the entry's offset when it is
 * acknowledged. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "common/proto/output_log.h"

#define MAX_LINE (4u << 20)

struct writer {
    struct dbx_loop *loop;
    struct dbx_olog *log;
    struct dbx_buf in;
};

static void on_acked(int64_t offset, const struct dbx_err *err, void *user)
{
    (void)user;
    printf("%" PRId64 "\n", err ? -1 : offset);
    fflush(stdout);
}

static int write_line(struct writer *w, const char *line, size_t len)
{
    struct dbx_id sandbox;
    char id[DBX_ID_TEXT] = "";
    if (len < DBX_ID_TEXT)
        return -EINVAL;
    memcpy(id, line, DBX_ID_TEXT - 1);
    size_t hex = len - DBX_ID_TEXT;
    DBX_CLEANUP(dbx_freep) uint8_t *record = dbx_malloc(hex / 2 + 1);
    if (dbx_id_parse(id, &sandbox) < 0 || dbx_hex_decode(line + DBX_ID_TEXT, hex, record) < 0)
        return -EINVAL;
    return dbx_olog_append(w->log, &sandbox, record, hex / 2, NULL, 0, on_acked, w);
}

static void on_readable(void *user, int events, int error)
{
    struct writer *w = user;
    char chunk[65536];
    (void)events;
    (void)error;
    ssize_t n = read(STDIN_FILENO, chunk, sizeof(chunk));
    if (n <= 0 || dbx_buf_append(&w->in, chunk, (size_t)n) < 0) {
        dbx_loop_stop(w->loop, n == 0 ? 0 : 1);
        return;
    }
    char *end;
    while ((end = memchr(w->in.data, '\n', w->in.len))) {
        size_t len = (size_t)(end - (char *)w->in.data);
        if (write_line(w, (const char *)w->in.data, len) < 0)
            dbx_loop_stop(w->loop, 1);
        dbx_buf_consume(&w->in, len + 1);
    }
}

int main(int argc, char **argv)
{
    struct writer w = {.loop = dbx_loop_new()};
    struct dbx_err err = {0};
    dbx_buf_init(&w.in, MAX_LINE);
    const struct dbx_olog_opts opts = {
        .loop = w.loop, .url = argc > 1 ? argv[1] : "", .writer = true};
    if (dbx_olog_open(&opts, &w.log, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    struct dbx_watch *watch = dbx_watch_new(w.loop, STDIN_FILENO, DBX_READ, on_readable, &w);
    int code = dbx_loop_run(w.loop);
    dbx_watch_free(watch);
    dbx_olog_close(w.log);
    dbx_loop_free(w.loop);
    dbx_buf_done(&w.in);
    return code;
}
