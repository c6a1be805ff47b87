/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/box_table.h"

#include "common/proto/path.h"

#include <errno.h>
#include <string.h>

#define MAX_ENTRIES 10000

struct head {
    char magic[4];
    uint32_t count;
    int64_t revision;
};

struct fixed {
    uint16_t path_len;
    uint8_t folder, zero;
    uint32_t mode;
    int64_t revision;
    uint8_t sha[DBX_SHA256_LEN];
};

int shim_table_begin(struct dbx_buf *out, int64_t revision)
{
    const struct head h = {.magic = {'D', 'B', 'X', 'T'}, .revision = revision};
    return dbx_buf_append(out, &h, sizeof(h));
}

int shim_table_add(struct dbx_buf *out, const struct shim_table_entry *e)
{
    struct fixed f = {.path_len = (uint16_t)e->path_len,
                      .folder = e->folder,
                      .mode = e->mode,
                      .revision = e->revision};
    struct head h;
    memcpy(f.sha, e->sha, sizeof(f.sha));
    memcpy(&h, out->data, sizeof(h));
    if (h.count == MAX_ENTRIES)
        return -E2BIG;
    int r = dbx_buf_append(out, &f, sizeof(f));
    if (r == 0)
        r = dbx_buf_append(out, e->path, e->path_len);
    h.count++;
    if (r == 0)
        memcpy(out->data, &h, sizeof(h));
    return r;
}

static int read_one(const uint8_t *data, size_t len, struct shim_table_entry *ret, size_t *ret_used)
{
    struct fixed f;
    if (len < sizeof(f))
        return -EBADMSG;
    memcpy(&f, data, sizeof(f));
    const char *path = (const char *)data + sizeof(f);
    if (f.folder > 1 || f.zero || f.mode > 0777 || f.revision < 0 || f.path_len > len - sizeof(f) ||
        dbx_path_check(path, f.path_len, "path", NULL) < 0)
        return -EBADMSG;
    *ret = (struct shim_table_entry){.path = path,
                                     .path_len = f.path_len,
                                     .folder = f.folder,
                                     .mode = f.mode,
                                     .revision = f.revision};
    memcpy(ret->sha, f.sha, sizeof(ret->sha));
    *ret_used = sizeof(f) + f.path_len;
    return 0;
}

int shim_table_read(const uint8_t *data, size_t len, int64_t *ret_revision,
                    void (*fn)(const struct shim_table_entry *e, void *user), void *user)
{
    struct head h;
    size_t at = sizeof(h), used = 0;
    if (len < sizeof(h))
        return -EBADMSG;
    memcpy(&h, data, sizeof(h));
    if (memcmp(h.magic, "DBXT", 4) != 0 || h.count > MAX_ENTRIES || h.revision < 0)
        return -EBADMSG;
    for (uint32_t i = 0; i < h.count; i++) {
        struct shim_table_entry e;
        if (read_one(data + at, len - at, &e, &used) < 0)
            return -EBADMSG;
        fn(&e, user);
        at += used;
    }
    *ret_revision = h.revision;
    return at == len ? 0 : -EBADMSG;
}
