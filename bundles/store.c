/* SPDX-License-Identifier: Apache-2.0 */
/* The templates of this installation and what the cache holds of their images. bundles/build-images
 * renames a manifest into place as its last step, so that what a manifest names is whole; here only
 * the image's size is looked at again. */
#include "bundles/bundles_int.h"

#include "common/base/fd.h"
#include "common/base/fs.h"
#include "common/base/str.h"
#include "common/ext/crypto.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_MANIFEST (4u << 10)

struct bnd_store {
    char *cache_dir;
    struct bnd__template *templates[BND_MAX_TEMPLATES]; /* sorted by name */
    size_t n;
};

bool bnd__digest_valid(const char *s)
{
    return strlen(s) == BND_DIGEST_LEN && strspn(s, "0123456789abcdef") == BND_DIGEST_LEN;
}

struct manifest_json {
    const char *template, *digest, *key;
    int64_t bytes;
};
#define FIELD(name_, type_, min_, max_)                                                            \
    {                                                                                              \
#name_, DBX_JSON_##type_, offsetof(struct manifest_json, name_), DBX_JSON_REQUIRED, min_,  \
            max_, false                                                                            \
    }
static const struct dbx_json_field manifest_fields[] = {
    FIELD(template, STRING, 1, 32),
    FIELD(digest, STRING, BND_DIGEST_LEN, BND_DIGEST_LEN),
    FIELD(key, STRING, 1, 64),
    FIELD(bytes, INT, 1, INT64_MAX),
};
#undef FIELD

int bnd__manifest_parse(const void *data, size_t len, const char *name, struct bnd__manifest *ret,
                        struct dbx_err *err)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct manifest_json j = {0};
    int rc = dbx_json_parse(data, len, NULL, &doc, err);
    if (rc < 0)
        return rc;
    if (dbx_json_type(dbx_json_root(doc)) != DBX_JSON_OBJECT)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "not an object");
    rc = dbx_json_decode(dbx_json_root(doc), manifest_fields, DBX_ARRAY_LEN(manifest_fields), &j,
                         "", err);
    if (rc < 0)
        return rc;
    if (!bnd__digest_valid(j.digest))
        return dbx_err_field(err, "digest", "the digest is not a sha256 in hex");
    if (strcmp(j.template, name) != 0)
        return dbx_err_field(err, "template", "it is the manifest of '%.32s'", j.template);
    (void)dbx_strcpy(ret->digest, sizeof(ret->digest), j.digest);
    ret->bytes = (uint64_t)j.bytes;
    return 0;
}

/* ---- templates
 * --------------------------------------------------------------------------------------------- */

static int add_template(struct bnd_store *store, const char *dir, const char *file,
                        struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/%s", dir, file);
    DBX_CLEANUP(bnd__template_freep) struct bnd__template *tpl = NULL;
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf data = {0};
    int rc = dbx_fs_read(path, BND_MAX_TEMPLATE_FILE, &data, err);
    if (rc == 0)
        rc = bnd__template_parse(data.data, data.len, &tpl, err);
    if (rc < 0)
        return dbx_err_wrap(err, rc, "template %s", path);
    size_t stem = strlen(file) - strlen(".json");
    if (strlen(tpl->pub.name) != stem || strncmp(tpl->pub.name, file, stem) != 0)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "template %s: its name is '%s'", path,
                           tpl->pub.name);
    if (store->n == BND_MAX_TEMPLATES)
        return dbx_err_set(err, -E2BIG, DBX_LIMIT, "more than %d templates in %s",
                           BND_MAX_TEMPLATES, dir);
    store->templates[store->n++] = DBX_TAKE(tpl);
    return 0;
}

static bool is_template_name(const char *name)
{
    size_t len = strlen(name);
    return len > 5 && name[0] != '.' && strcmp(name + len - 5, ".json") == 0;
}

static int by_name(const void *a, const void *b)
{
    const struct bnd__template *const *x = a, *const *y = b;
    return strcmp((*x)->pub.name, (*y)->pub.name);
}

static void close_dirp(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

static int load_templates(struct bnd_store *store, const char *dir, struct dbx_err *err)
{
    DBX_CLEANUP(close_dirp) DIR *d = opendir(dir);
    if (!d)
        return dbx_err_sys(err, "templates folder %s", dir);
    for (;;) {
        errno = 0;
        struct dirent *de = readdir(d);
        if (!de && errno)
            return dbx_err_sys(err, "read %s", dir);
        if (!de)
            break;
        int rc = is_template_name(de->d_name) ? add_template(store, dir, de->d_name, err) : 0;
        if (rc < 0)
            return rc;
    }
    if (store->n == 0)
        return dbx_err_set(err, -ENOENT, DBX_NOT_FOUND, "there is no template in %s", dir);
    qsort(store->templates, store->n, sizeof(store->templates[0]), by_name);
    return 0;
}

int bnd_store_open(const char *cache_dir, const char *templates_dir, struct bnd_store **ret,
                   struct dbx_err *err)
{
    DBX_CLEANUP(bnd_store_freep) struct bnd_store *store = DBX_NEW(struct bnd_store);
    store->cache_dir = dbx_strdup(cache_dir);
    int rc = load_templates(store, templates_dir, err);
    if (rc < 0)
        return rc;
    (void)bnd_store_refresh(store, NULL, NULL);
    *ret = DBX_TAKE(store);
    return 0;
}

struct bnd_store *bnd_store_free(struct bnd_store *store)
{
    if (!store)
        return NULL;
    for (size_t i = 0; i < store->n; i++)
        bnd__template_free(store->templates[i]);
    free(store->cache_dir);
    free(store);
    return NULL;
}

void bnd_store_freep(struct bnd_store **store)
{
    *store = bnd_store_free(*store);
}

size_t bnd_store_count(const struct bnd_store *store)
{
    return store->n;
}

const struct bnd_template *bnd_store_at(const struct bnd_store *store, size_t i)
{
    dbx_assert(i < store->n);
    return &store->templates[i]->pub;
}

const struct bnd_template *bnd_template_find(const struct bnd_store *store, const char *name)
{
    for (size_t i = 0; i < store->n; i++)
        if (strcmp(store->templates[i]->pub.name, name) == 0)
            return &store->templates[i]->pub;
    return NULL;
}

const struct bnd_template *bnd_template_guess(const struct bnd_store *store, const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
    for (size_t i = 0; dot && i < store->n; i++)
        for (char **ext = store->templates[i]->extensions; *ext; ext++)
            if (strcmp(*ext, dot + 1) == 0)
                return &store->templates[i]->pub;
    return NULL;
}

/* ---- images
 * ------------------------------------------------------------------------------------------------
 */

/* Looks one template's image up: its path, or NULL with the reason in err (nothing when it was
 * simply never built). */
static char *look_up(const struct bnd_store *store, const char *name, struct bnd__manifest *m,
                     struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/images/%s.json", store->cache_dir, name);
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf data = {0};
    struct dbx_err why = {0};
    struct stat st;
    int rc = dbx_fs_read(path, MAX_MANIFEST, &data, &why);
    if (rc == -ENOENT)
        return NULL;
    if (rc == 0)
        rc = bnd__manifest_parse(data.data, data.len, name, m, &why);
    if (rc < 0) {
        (void)dbx_err_set(err, rc, why.kind, "image manifest %s: %s", path, why.msg);
        return NULL;
    }
    DBX_CLEANUP(dbx_freep)
    char *image = dbx_asprintf("%s/images/%s.erofs", store->cache_dir, m->digest);
    if (stat(image, &st) < 0) {
        (void)dbx_err_sys(err, "image of template '%s', %s", name, image);
        return NULL;
    }
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != m->bytes) {
        (void)dbx_err_set(err, -EBADMSG, DBX_INTERNAL,
                          "image of template '%s' has %jd bytes, not %ju", name,
                          (intmax_t)st.st_size, (uintmax_t)m->bytes);
        return NULL;
    }
    return DBX_TAKE(image);
}

int bnd_store_refresh(struct bnd_store *store, bool *ret_changed, struct dbx_err *err)
{
    bool changed = false;
    for (size_t i = 0; i < store->n; i++) {
        struct bnd__template *tpl = store->templates[i];
        struct bnd__manifest m = {0};
        char *image = look_up(store, tpl->pub.name, &m, err);
        changed = changed || !dbx_streq(image, tpl->image);
        free(tpl->image);
        free(tpl->digest);
        tpl->image = image;
        tpl->digest = image ? dbx_strdup(m.digest) : NULL;
        tpl->pub.image = tpl->image;
        tpl->pub.digest = tpl->digest;
        tpl->pub.image_bytes = image ? m.bytes : 0;
    }
    if (ret_changed)
        *ret_changed = changed;
    return 0;
}

static void sha_freep(struct dbx_sha256_ctx **ctx)
{
    *ctx = dbx_sha256_free(*ctx);
}

int bnd_image_verify(const char *path, const char *digest, struct dbx_err *err)
{
    enum { CHUNK = 1 << 20 };
    DBX_CLEANUP(dbx_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return dbx_err_sys(err, "open image %s", path);
    DBX_CLEANUP(sha_freep) struct dbx_sha256_ctx *ctx = dbx_sha256_new();
    DBX_CLEANUP(dbx_freep) uint8_t *chunk = dbx_malloc(CHUNK);
    for (;;) {
        ssize_t n = read(fd, chunk, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return dbx_err_sys(err, "read image %s", path);
        if (n == 0)
            break;
        dbx_sha256_update(ctx, chunk, (size_t)n);
    }
    uint8_t sum[DBX_SHA256_LEN];
    char hex[2 * DBX_SHA256_LEN + 1];
    dbx_sha256_peek(ctx, sum);
    dbx_hex_encode(sum, sizeof(sum), hex);
    if (strcmp(hex, digest) != 0)
        return dbx_err_set(err, -EBADMSG, DBX_INTERNAL, "image %s has the sha256 %s", path, hex);
    return 0;
}
