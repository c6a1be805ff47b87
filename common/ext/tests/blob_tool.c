/* SPDX-License-Identifier: Apache-2.0 */
/* The blob store from outside: blob_tool URL put NAME <data | get NAME [FROM LEN] | delete NAME
 * | fill N SIZE. fill writes N objects ("fill/I", of SIZE bytes that begin with I), and prints each
 * name when it is written. A failure's kind is the last line of stderr. For
 * tests/system/test_blobs.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/str.h"
#include "common/ext/blob.h"
#include "common/io/loop.h"

struct tool {
    struct dbx_loop *loop;
    struct dbx_blobs *blobs;
    uint64_t at, count, size; /* of fill */
    int code;
};

static void on_done(struct dbx_buf *data, const struct dbx_err *err, void *user)
{
    struct tool *t = user;
    if (err)
        fprintf(stderr, "%s\n%s\n", err->msg, dbx_kind_name(err->kind));
    else if (data)
        (void)!fwrite(data->data, 1, data->len, stdout);
    t->code = err ? 1 : 0;
    dbx_loop_stop(t->loop, 0);
}

static void fill_next(struct tool *t);

static void on_filled(struct dbx_buf *data, const struct dbx_err *err, void *user)
{
    struct tool *t = user;
    if (err) {
        on_done(data, err, user);
        return;
    }
    printf("fill/%llu\n", (unsigned long long)t->at++);
    fflush(stdout);
    if (t->at < t->count)
        fill_next(t);
    else
        dbx_loop_stop(t->loop, 0);
}

static void fill_next(struct tool *t)
{
    char name[40];
    char *data = calloc(1, t->size);
    dbx_assert(data && t->size >= 20);
    snprintf(data, 20, "%llu", (unsigned long long)t->at);
    snprintf(name, sizeof(name), "fill/%llu", (unsigned long long)t->at);
    dbx_blob_put(t->blobs, name, data, t->size, on_filled, t);
    free(data);
}

static void read_stdin(struct dbx_buf *data)
{
    uint8_t piece[65536];
    size_t n;
    dbx_buf_init(data, DBX_BLOB_MAX);
    while ((n = fread(piece, 1, sizeof(piece), stdin)) > 0)
        dbx_assert(dbx_buf_append(data, piece, n) == 0);
}

static bool begin(struct tool *t, int argc, char **argv)
{
    struct dbx_blob_range range;
    struct dbx_buf data;
    const char *what = argv[2];
    if (dbx_streq(what, "put") && argc == 4) {
        read_stdin(&data);
        dbx_blob_put(t->blobs, argv[3], data.data, data.len, on_done, t);
        dbx_buf_done(&data);
    } else if (dbx_streq(what, "get") && argc == 4) {
        dbx_blob_get(t->blobs, argv[3], DBX_BLOB_MAX, NULL, NULL, on_done, t);
    } else if (dbx_streq(what, "get") && argc == 6 &&
               dbx_parse_u64(argv[4], strlen(argv[4]), 0, UINT32_MAX, &range.from) == 0 &&
               dbx_parse_u64(argv[5], strlen(argv[5]), 0, UINT32_MAX, &range.len) == 0) {
        dbx_blob_get(t->blobs, argv[3], DBX_BLOB_MAX, &range, NULL, on_done, t);
    } else if (dbx_streq(what, "delete") && argc == 4) {
        dbx_blob_delete(t->blobs, argv[3], on_done, t);
    } else if (dbx_streq(what, "fill") && argc == 5 &&
               dbx_parse_u64(argv[3], strlen(argv[3]), 1, UINT32_MAX, &t->count) == 0 &&
               dbx_parse_u64(argv[4], strlen(argv[4]), 20, DBX_BLOB_MAX, &t->size) == 0) {
        fill_next(t);
    } else {
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct tool t = {.loop = dbx_loop_new()};
    struct dbx_blobs_opts opts = {
        .loop = t.loop, .url = argc > 2 ? argv[1] : "", .keys_file = getenv("BLOB_KEYS_FILE")};
    struct dbx_err err = {0};
    if (dbx_blobs_open(&opts, &t.blobs, &err) < 0) {
        fprintf(stderr, "%s\n", err.msg);
        t.code = 2;
    } else if (argc < 4 || !begin(&t, argc, argv)) {
        t.code = 2;
    } else {
        dbx_loop_run(t.loop);
    }
    dbx_blobs_free(t.blobs);
    dbx_loop_free(t.loop);
    return t.code;
}
