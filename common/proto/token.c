/* SPDX-License-Identifier: Apache-2.0 */
#include "common/proto/token.h"
#include "common/proto/token_int.h"

#include "common/base/fs.h"
#include "common/base/str.h"
#include "common/ext/crypto.h"
#include "common/io/loop.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PREFIX "dbx1."
#define PREFIX_LEN (sizeof(PREFIX) - 1)
#define MAX_KEYS 16
#define KEY_LEN 32
#define FIXED_LEN 44 /* of the payload, before the label */
#define LEEWAY_S 60
#define MAX_KEY_FILE (64u << 10)
#define WATCH_MS 1000
#define SETTLE 3 /* looks; by then every daemon has seen the file */

struct key {
    uint8_t id;
    uint8_t secret[KEY_LEN];
};

struct dbx_keyring {
    size_t n;
    struct key keys[MAX_KEYS];
    size_t signer;   /* its place: 0, but for a while after another key has come first */
    uint32_t settle; /* looks until it is 0 again */

    /* Where it came from, and what the file was then. */
    char *path;
    struct stat seen;
    struct dbx_timer *timer;
    dbx_keyring_fn *on_change;
    void *user;
};

static int parse_key(const char *line, size_t len, struct key *ret)
{
    const char *space = memchr(line, ' ', len);
    uint64_t id;

    if (!space || dbx_parse_u64(line, (size_t)(space - line), 0, 255, &id) < 0)
        return -EINVAL;
    while (*space == ' ')
        space++;
    if ((size_t)(line + len - space) != 2 * KEY_LEN)
        return -EINVAL;
    ret->id = (uint8_t)id;
    return dbx_hex_decode(space, 2 * KEY_LEN, ret->secret);
}

static int add_key(struct dbx_keyring *ring, const char *line, size_t len)
{
    struct key *key = &ring->keys[ring->n];

    if (ring->n == MAX_KEYS)
        return -E2BIG;
    if (parse_key(line, len, key) < 0)
        return -EINVAL;
    for (size_t i = 0; i < ring->n; i++) {
        if (ring->keys[i].id == key->id)
            return -EEXIST;
    }
    ring->n++;
    return 0;
}

static int parse_lines(const char *text, size_t len, struct dbx_keyring *ring, const char *path,
                       struct dbx_err *err)
{
    int number = 0;

    for (const char *p = text, *end = text + len; p < end; number++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((nl ? nl : end) - p);
        while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\r' || p[n - 1] == '\t'))
            n--;
        int r = n == 0 || p[0] == '#' ? 0 : add_key(ring, p, n);
        if (r < 0)
            return dbx_err_set(err, r, DBX_INVALID, "%s:%d: %s", path, number + 1,
                               r == -EEXIST  ? "this key id stands above already"
                               : r == -E2BIG ? "too many keys"
                                             : "not '<id 0-255> <64 hex digits>'");
        p = nl ? nl + 1 : end;
    }
    if (ring->n == 0)
        return dbx_err_set(err, -EINVAL, DBX_INVALID, "%s holds no key", path);
    return 0;
}

struct dbx_keyring *dbx_keyring__parse(const char *text, size_t len, const char *path,
                                       struct dbx_err *err)
{
    struct dbx_keyring *ring = DBX_NEW(struct dbx_keyring);

    return parse_lines(text, len, ring, path, err) < 0 ? dbx_keyring_free(ring) : ring;
}

int dbx_keyring_load(const char *path, struct dbx_keyring **ret, struct dbx_err *err)
{
    struct dbx_buf text;
    struct stat seen = {0};
    (void)stat(path, &seen); /* before it is read: a change between is seen next time */
    int r = dbx_fs_read(path, MAX_KEY_FILE, &text, err);

    if (r < 0)
        return r;
    struct dbx_err why = {0};
    struct dbx_keyring *ring = dbx_keyring__parse(dbx_buf_cstr(&text), text.len, path, &why);
    if (text.data)
        explicit_bzero(text.data, text.len);
    dbx_buf_done(&text);
    if (!ring)
        return dbx_err_set(err, why.code, why.kind, "%s", why.msg);
    ring->path = dbx_strdup(path);
    ring->seen = seen;
    *ret = ring;
    return 0;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static const struct key *key_of_id(const struct dbx_keyring *ring, uint8_t id)
{
    for (size_t i = 0; i < ring->n; i++) {
        if (ring->keys[i].id == id)
            return &ring->keys[i];
    }
    return NULL;
}

/* A key that is new to us may be new to those who are to verify, too: the one that signed goes on
 * for a moment, unless it was removed. */
static void take_over(struct dbx_keyring *ring, const struct dbx_keyring *from)
{
    bool known = key_of_id(ring, from->keys[0].id) != NULL;
    uint8_t id = ring->keys[ring->signer].id;

    memcpy(ring->keys, from->keys, sizeof(ring->keys));
    ring->n = from->n;
    const struct key *signer = known && ring->settle == 0 ? NULL : key_of_id(ring, id);
    ring->signer = signer ? (size_t)(signer - ring->keys) : 0;
    ring->settle = ring->signer ? SETTLE : 0;
}

void dbx_keyring__look(void *user)
{
    struct dbx_keyring *ring = user, *other = NULL;
    struct dbx_err err = {0};
    struct stat now = {0};

    if (ring->settle > 0 && --ring->settle == 0)
        ring->signer = 0;
    (void)stat(ring->path, &now);
    if (same_file(&now, &ring->seen))
        return;
    int r = dbx_keyring_load(ring->path, &other, &err);
    if (r == 0) {
        take_over(ring, other);
        now = other->seen;
        dbx_keyring_free(other);
    }
    ring->seen = now; /* what is wrong is told once */
    if (ring->on_change)
        ring->on_change(r < 0 ? &err : NULL, ring->user);
}

void dbx_keyring_watch(struct dbx_keyring *ring, struct dbx_loop *loop, dbx_keyring_fn *on_change,
                       void *user)
{
    ring->on_change = on_change;
    ring->user = user;
    ring->timer = dbx_timer_new(loop, dbx_keyring__look, ring);
    dbx_timer_start(ring->timer, WATCH_MS, WATCH_MS);
}

struct dbx_keyring *dbx_keyring_free(struct dbx_keyring *ring)
{
    if (!ring)
        return NULL;
    dbx_timer_free(ring->timer);
    free(ring->path);
    explicit_bzero(ring, sizeof(*ring));
    free(ring);
    return NULL;
}

int dbx_token_sign(const struct dbx_keyring *ring, const struct dbx_token *t,
                   char out[static DBX_TOKEN_MAX])
{
    uint8_t payload[FIXED_LEN + sizeof(t->label)] = {0}, mac[DBX_SHA256_LEN];
    size_t label_len = strnlen(t->label, sizeof(t->label));

    if (label_len == sizeof(t->label))
        return -EINVAL;
    const struct key *key = &ring->keys[ring->signer];
    payload[0] = key->id;
    payload[1] = (uint8_t)t->kind;
    payload[2] = (uint8_t)t->role;
    for (int i = 0; i < 8; i++)
        payload[4 + i] = (uint8_t)((uint64_t)t->expires >> (8 * i));
    memcpy(payload + 12, t->subject.b, 16);
    memcpy(payload + 28, t->user.b, 16);
    memcpy(payload + FIXED_LEN, t->label, label_len);

    memcpy(out, PREFIX, PREFIX_LEN);
    size_t n = PREFIX_LEN;
    n += dbx_base64_encode(payload, FIXED_LEN + label_len, out + n, /* url= */ true);
    dbx_hmac_sha256(key->secret, KEY_LEN, out, n, mac);
    out[n++] = '.';
    (void)dbx_base64_encode(mac, sizeof(mac), out + n, /* url= */ true);
    return 0;
}

/* Tries every key, however early one fits. Returns the one that does, or NULL. */
static const struct key *find_key(const struct dbx_keyring *ring, const char *text, size_t len,
                                  const uint8_t mac[static DBX_SHA256_LEN])
{
    const struct key *found = NULL;
    uint8_t want[DBX_SHA256_LEN];

    for (size_t i = 0; i < ring->n; i++) {
        dbx_hmac_sha256(ring->keys[i].secret, KEY_LEN, text, len, want);
        if (dbx_equal_secret(want, mac, sizeof(want)))
            found = &ring->keys[i];
    }
    return found;
}

int dbx_token__read_payload(const uint8_t *p, size_t len, uint8_t key_id, struct dbx_token *ret)
{
    struct dbx_reader rd = {.p = p, .left = len};
    struct dbx_token t = {0};

    if (dbx_rd_u8(&rd) != key_id)
        return -EACCES;
    t.kind = dbx_rd_u8(&rd);
    t.role = dbx_rd_u8(&rd);
    uint8_t reserved = dbx_rd_u8(&rd);
    t.expires = (int64_t)dbx_rd_u64(&rd);
    const uint8_t *subject = dbx_rd_bytes(&rd, 16), *user = dbx_rd_bytes(&rd, 16);
    if (rd.bad || reserved != 0 || t.role > DBX_ROLE_ADMIN || rd.left >= sizeof(t.label))
        return -EACCES;
    memcpy(t.subject.b, subject, 16);
    memcpy(t.user.b, user, 16);
    memcpy(t.label, rd.p, rd.left);
    if (memchr(t.label, '\0', rd.left))
        return -EACCES;
    *ret = t;
    return 0;
}

static int open_token(const struct dbx_keyring *ring, const char *text, struct dbx_token *ret)
{
    uint8_t payload[DBX_TOKEN_MAX], mac[DBX_TOKEN_MAX];
    size_t len = text ? strnlen(text, DBX_TOKEN_MAX) : 0, payload_len, mac_len;

    if (len == DBX_TOKEN_MAX || len < PREFIX_LEN || memcmp(text, PREFIX, PREFIX_LEN) != 0)
        return -EACCES;
    const char *dot = memchr(text + PREFIX_LEN, '.', len - PREFIX_LEN);
    if (!dot)
        return -EACCES;
    size_t signed_len = (size_t)(dot - text);
    if (dbx_base64_decode(dot + 1, len - signed_len - 1, mac, &mac_len, /* url= */ true) < 0 ||
        mac_len != DBX_SHA256_LEN)
        return -EACCES;
    const struct key *key = find_key(ring, text, signed_len, mac);
    if (!key || dbx_base64_decode(text + PREFIX_LEN, signed_len - PREFIX_LEN, payload, &payload_len,
                                  /* url= */ true) < 0)
        return -EACCES;
    return dbx_token__read_payload(payload, payload_len, key->id, ret);
}

int dbx_token_verify(const struct dbx_keyring *ring, const char *text, enum dbx_token_kind kind,
                     int64_t now, struct dbx_token *ret, struct dbx_err *err)
{
    struct dbx_token t;
    int r = open_token(ring, text, &t);

    if (r < 0)
        return dbx_err_set(err, r, DBX_DENIED, "the token is not valid");
    if (t.kind != kind)
        return dbx_err_set(err, -EACCES, DBX_DENIED, "the token is for something else");
    if (t.expires < now - LEEWAY_S)
        return dbx_err_set(err, -ETIME, DBX_DENIED, "the token has expired");
    *ret = t;
    return 0;
}
