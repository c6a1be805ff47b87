/* SPDX-License-Identifier: Apache-2.0 */
/* The store's folder: what is in it, and the check of it. */
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/str.h"
#include "common/ext/crypto.h"
#include "registry-cache/store_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

void rc_store__blob_path(const uint8_t digest[static RC_DIGEST], char out[static RC_BLOB_PATH])
{
    char hex[2 * RC_DIGEST + 1];

    dbx_hex_encode(digest, RC_DIGEST, hex);
    (void)snprintf(out, RC_BLOB_PATH, "blobs/%.2s/%s", hex, hex);
}

static int make_folders(int dirfd, const char *dir, struct dbx_err *err)
{
    static const char *const top[] = {"blobs", "tmp"};

    for (size_t i = 0; i < DBX_ARRAY_LEN(top); i++)
        if (mkdirat(dirfd, top[i], 0750) < 0 && errno != EEXIST)
            return dbx_err_sys(err, "make '%s' in '%s'", top[i], dir);
    for (unsigned i = 0; i < 256; i++) {
        char sub[16];
        (void)snprintf(sub, sizeof(sub), "blobs/%02x", i);
        if (mkdirat(dirfd, sub, 0750) < 0 && errno != EEXIST)
            return dbx_err_sys(err, "make '%s' in '%s'", sub, dir);
    }
    return 0;
}

int rc_store__prepare(const char *dir, int *ret_dirfd, int *ret_lock, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_closep) int dirfd = -1, lock = -1;
    int r = dbx_fs_mkdirs(dir, 0750, err);

    if (r < 0)
        return r;
    dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0)
        return dbx_err_sys(err, "open '%s'", dir);
    lock = openat(dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (lock < 0)
        return dbx_err_sys(err, "open '%s/lock'", dir);
    if (flock(lock, LOCK_EX | LOCK_NB) < 0)
        return dbx_err_set(err, -EBUSY, DBX_CONFLICT, "'%s' is in use by another process", dir);
    r = make_folders(dirfd, dir, err);
    if (r < 0)
        return r;
    *ret_dirfd = DBX_TAKE_FD(dirfd);
    *ret_lock = DBX_TAKE_FD(lock);
    return 0;
}

/* --- blobs --- */

/* A name that is no digest's does not belong here. */
static int one_name(int dirfd, const char *sub, const char *name, rc_blob_fn *fn, void *user)
{
    uint8_t digest[RC_DIGEST];
    char path[320];
    struct stat st;

    if (name[0] == '.')
        return 0;
    (void)snprintf(path, sizeof(path), "%s/%s", sub, name);
    if (fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    if (strlen(name) != 2 * RC_DIGEST || dbx_hex_decode(name, 2 * RC_DIGEST, digest) < 0 ||
        !S_ISREG(st.st_mode)) {
        (void)unlinkat(dirfd, path, 0);
        return 0;
    }
    return fn(dirfd, digest, (uint64_t)st.st_size, user);
}

int rc_store__each_blob(int dirfd, rc_blob_fn *fn, void *user, struct dbx_err *err)
{
    for (unsigned i = 0; i < 256; i++) {
        char sub[16];
        (void)snprintf(sub, sizeof(sub), "blobs/%02x", i);
        int fd = openat(dirfd, sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = fd < 0 ? NULL : fdopendir(fd);
        if (!d)
            return dbx_err_sys(err, "open '%s'", sub);
        int r = 0;
        for (struct dirent *e; r == 0 && (e = readdir(d));)
            r = one_name(dirfd, sub, e->d_name, fn, user);
        closedir(d);
        if (r)
            return r;
    }
    return 0;
}

/* --- records --- */

int rc_store__each_record(int dirfd, rc_record_fn *fn, void *user, uint64_t *ret_len,
                          struct dbx_err *err)
{
    DBX_CLEANUP(dbx_closep) int fd = openat(dirfd, "index", O_RDONLY | O_CLOEXEC);
    struct stat st;
    size_t at = 0;

    *ret_len = 0;
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0 || fstat(fd, &st) < 0)
        return dbx_err_sys(err, "open the index");
    size_t len = (size_t)st.st_size;
    uint8_t *data = len ? mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    if (data == MAP_FAILED)
        return dbx_err_sys(err, "map the index");
    while (at < len) {
        struct rc_ref *ref;
        size_t used;
        char *key;
        rc_record_read(data + at, len - at, &used, &ref, &key);
        if (!used)
            break;
        at += used;
        fn(ref, key, user);
    }
    if (data)
        munmap(data, len);
    *ret_len = at;
    return 0;
}

/* --- the check --- */

struct fsck {
    uint64_t blobs, bytes, bad, records;
};

bool rc_store__same(int fd, const uint8_t want[static RC_DIGEST])
{
    static uint8_t block[1 << 20];
    uint8_t got[DBX_HASH_MAX];
    off_t at = 0;
    ssize_t n;

    struct dbx_hash *h = dbx_hash_new(DBX_HASH_SHA256);
    for (; (n = pread(fd, block, sizeof(block), at)) > 0; at += n)
        dbx_hash_update(h, block, (size_t)n);
    dbx_hash_final(h, got);
    dbx_hash_free(h);
    return n == 0 && memcmp(got, want, RC_DIGEST) == 0;
}

static int check_blob(int dirfd, const uint8_t digest[static RC_DIGEST], uint64_t size, void *user)
{
    struct fsck *f = user;
    char path[RC_BLOB_PATH];

    rc_store__blob_path(digest, path);
    DBX_CLEANUP(dbx_closep) int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && rc_store__same(fd, digest)) {
        f->blobs++;
        f->bytes += size;
        return 0;
    }
    f->bad++;
    printf("removed %s: its content is another\n", path);
    return unlinkat(dirfd, path, 0) < 0 ? -errno : 0;
}

static void count_record(struct rc_ref *ref, char *key, void *user)
{
    struct fsck *f = user;

    f->records++;
    rc_ref_free(ref);
    free(key);
}

int rc_store_fsck(const char *dir, uint64_t *ret_bad, struct dbx_err *err)
{
    struct fsck f = {0};
    DBX_CLEANUP(dbx_closep) int dirfd = -1, lock = -1;
    uint64_t len = 0;
    struct stat st;

    int r = rc_store__prepare(dir, &dirfd, &lock, err);
    if (r == 0)
        r = rc_store__each_blob(dirfd, check_blob, &f, err);
    if (r == 0)
        r = rc_store__each_record(dirfd, count_record, &f, &len, err);
    if (r < 0)
        return r;
    if (fstatat(dirfd, "index", &st, 0) == 0 && (uint64_t)st.st_size > len)
        printf("the index has %" PRIu64 " bytes at its end that are no record\n",
               (uint64_t)st.st_size - len);
    printf("%" PRIu64 " blobs (%" PRIu64 " bytes) are what their names say, %" PRIu64
           " were not; %" PRIu64 " records\n",
           f.blobs, f.bytes, f.bad, f.records);
    *ret_bad = f.bad;
    return 0;
}
