/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/unpack/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>

#include "common/proto/files.h"
#include "tests/unit/check.h"

static const struct unpack_limits limits = {
    .entries = 10, .file = 1000, .all = 2000, .ratio = 10, .ratio_at = 1500};

/* A tar of one entry, or two of the same name. */
static size_t make(char *out, size_t size, const char *name, int type, size_t len, int times)
{
    static const char content[4000];
    size_t used = 0;
    struct archive *a = archive_write_new();
    archive_write_set_format_pax_restricted(a);
    archive_write_set_bytes_in_last_block(a, 1);
    CHECK_EQ(archive_write_open_memory(a, out, size, &used), ARCHIVE_OK);
    for (int i = 0; i < times; i++) {
        struct archive_entry *e = archive_entry_new();
        archive_entry_set_pathname(e, name);
        archive_entry_set_filetype(e, (unsigned)type);
        archive_entry_set_size(e, (la_int64_t)len);
        archive_entry_set_perm(e, 04755);
        if (type == AE_IFLNK)
            archive_entry_set_symlink(e, "/etc/passwd");
        CHECK_EQ(archive_write_header(a, e), ARCHIVE_OK);
        archive_write_data(a, content, len);
        archive_entry_free(e);
    }
    archive_write_free(a);
    return used;
}

static int read_back(const char *name, int type, size_t len, int times, struct dbx_err *err)
{
    static char tar[32768];
    struct dbx_buf block;
    dbx_buf_init(&block, 1 << 20);
    size_t n = make(tar, sizeof(tar), name, type, len, times);
    int r = unpack_archive(tar, n, &limits, &block, err);
    if (r == 0) {
        struct dbx_file f;
        size_t at = 0;
        CHECK_EQ(dbx_files_next(block.data, block.len, &at, &f), 1);
        CHECK_EQ(f.size, len);
        CHECK(f.mode <= 0755);
    }
    dbx_buf_done(&block);
    return r;
}

int main(void)
{
    struct dbx_err err = {0};
    CHECK_EQ(read_back("a/b.txt", AE_IFREG, 10, 1, &err), 0);
    CHECK_EQ(read_back("./a/b", AE_IFREG, 0, 1, &err), 0);
    CHECK_EQ(read_back("d/", AE_IFDIR, 0, 1, &err), 0);
    static const struct {
        const char *name;
        int type, times;
        size_t len;
        enum dbx_kind kind;
    } bad[] = {
        {"../x", AE_IFREG, 1, 1, DBX_INVALID},      {"/abs", AE_IFREG, 1, 1, DBX_INVALID},
        {"a/../../x", AE_IFREG, 1, 1, DBX_INVALID}, {"..\\x", AE_IFREG, 1, 1, DBX_INVALID},
        {"a//b", AE_IFREG, 1, 1, DBX_INVALID},      {"a\nb", AE_IFREG, 1, 1, DBX_INVALID},
        {"l", AE_IFLNK, 1, 0, DBX_INVALID},         {"p", AE_IFIFO, 1, 0, DBX_INVALID},
        {"c", AE_IFCHR, 1, 0, DBX_INVALID},         {"b", AE_IFBLK, 1, 0, DBX_INVALID},
        {"twice", AE_IFREG, 2, 1, DBX_INVALID},     {"big", AE_IFREG, 1, 1001, DBX_LIMIT},
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(bad); i++) {
        CHECK(read_back(bad[i].name, bad[i].type, bad[i].len, bad[i].times, &err) < 0);
        CHECK_EQ(err.kind, bad[i].kind);
    }
    static const char *const none[] = {"", "x", "PK\3\4", "not an archive at all"};
    for (size_t i = 0; i < DBX_ARRAY_LEN(none); i++) {
        struct dbx_buf block;
        dbx_buf_init(&block, 1 << 20);
        CHECK(unpack_archive(none[i], strlen(none[i]), &limits, &block, &err) < 0);
        dbx_buf_done(&block);
    }
    return check_result();
}
