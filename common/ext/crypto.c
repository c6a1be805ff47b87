/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL 3 looks an algorithm up by name on each use unless it was fetched once; so it is fetched
 * once. What can fail here (memory, a build without SHA-256) is no matter of input: it aborts.
 *
 * The running SHA-256 is OpenSSL's low-level one, which it calls deprecated: the only one whose
 * state can be written down. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "common/ext/crypto.h"
#include "common/ext/crypto_int.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <string.h>

#define SHA256_CTX_MAGIC 0x5a256c78u
#define HASH_MAGIC 0x68617368u

struct dbx_sha256_ctx {
    uint32_t magic;
    SHA256_CTX sha;
};

static const EVP_MD *sha256_md(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static EVP_MD *cached; /* lives as long as the process */
    EVP_MD *md = __atomic_load_n(&cached, __ATOMIC_ACQUIRE);
    if (md)
        return md;
    pthread_mutex_lock(&lock);
    if (!cached)
        __atomic_store_n(&cached, EVP_MD_fetch(NULL, "SHA256", NULL), __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock);
    dbx_assert(cached);
    return cached;
}

void dbx_sha256(const void *data, size_t len, uint8_t out[static DBX_SHA256_LEN])
{
    dbx_assert(EVP_Digest(data, len, out, NULL, sha256_md(), NULL) == 1);
}

struct dbx_sha256_ctx *dbx_sha256_new(void)
{
    struct dbx_sha256_ctx *ctx = DBX_NEW(struct dbx_sha256_ctx);
    ctx->magic = SHA256_CTX_MAGIC;
    dbx_assert(SHA256_Init(&ctx->sha) == 1);
    return ctx;
}

void dbx_sha256_update(struct dbx_sha256_ctx *ctx, const void *data, size_t len)
{
    dbx_assert(ctx && ctx->magic == SHA256_CTX_MAGIC);
    dbx_assert(SHA256_Update(&ctx->sha, data, len) == 1);
}

void dbx_sha256_peek(const struct dbx_sha256_ctx *ctx, uint8_t out[static DBX_SHA256_LEN])
{
    dbx_assert(ctx && ctx->magic == SHA256_CTX_MAGIC);
    SHA256_CTX copy = ctx->sha;
    dbx_assert(SHA256_Final(out, &copy) == 1);
}

void dbx_sha256_save(const struct dbx_sha256_ctx *ctx, struct dbx_sha256_state *ret)
{
    dbx_assert(ctx && ctx->magic == SHA256_CTX_MAGIC);
    for (int i = 0; i < 8; i++)
        ret->h[i] = ctx->sha.h[i];
    ret->bytes = ((uint64_t)ctx->sha.Nh << 32 | ctx->sha.Nl) / 8;
    memcpy(ret->rest, ctx->sha.data, sizeof(ret->rest));
}

void dbx_sha256_restore(struct dbx_sha256_ctx *ctx, const struct dbx_sha256_state *state)
{
    dbx_assert(ctx && ctx->magic == SHA256_CTX_MAGIC);
    dbx_assert(SHA256_Init(&ctx->sha) == 1);
    for (int i = 0; i < 8; i++)
        ctx->sha.h[i] = state->h[i];
    ctx->sha.Nl = (SHA_LONG)(state->bytes * 8);
    ctx->sha.Nh = (SHA_LONG)(state->bytes * 8 >> 32);
    ctx->sha.num = (unsigned)(state->bytes % sizeof(state->rest));
    memcpy(ctx->sha.data, state->rest, sizeof(state->rest));
}

struct dbx_sha256_ctx *dbx_sha256_free(struct dbx_sha256_ctx *ctx)
{
    if (!ctx)
        return NULL;
    dbx_assert(ctx->magic == SHA256_CTX_MAGIC);
    ctx->magic = 0;
    dbx_freep(&ctx);
    return NULL;
}

/* --- any of them --- */

struct dbx_hash {
    uint32_t magic;
    EVP_MD_CTX *md; /* owned */
};

static const EVP_MD *md_of(enum dbx_hash_kind kind)
{
    switch (kind) {
    case DBX_HASH_SHA1:
        return EVP_sha1();
    case DBX_HASH_SHA384:
        return EVP_sha384();
    case DBX_HASH_SHA512:
        return EVP_sha512();
    default:
        return sha256_md();
    }
}

size_t dbx_hash_len(enum dbx_hash_kind kind)
{
    return (size_t)EVP_MD_get_size(md_of(kind));
}

struct dbx_hash *dbx_hash_new(enum dbx_hash_kind kind)
{
    struct dbx_hash *h = DBX_NEW(struct dbx_hash);

    h->magic = HASH_MAGIC;
    h->md = EVP_MD_CTX_new();
    dbx_assert(h->md && EVP_DigestInit_ex2(h->md, md_of(kind), NULL) == 1);
    return h;
}

void dbx_hash_update(struct dbx_hash *h, const void *data, size_t len)
{
    dbx_assert(h && h->magic == HASH_MAGIC);
    dbx_assert(EVP_DigestUpdate(h->md, data, len) == 1);
}

void dbx_hash_final(struct dbx_hash *h, uint8_t out[static DBX_HASH_MAX])
{
    dbx_assert(h && h->magic == HASH_MAGIC);
    dbx_assert(EVP_DigestFinal_ex(h->md, out, NULL) == 1);
}

struct dbx_hash *dbx_hash_free(struct dbx_hash *h)
{
    if (!h)
        return NULL;
    dbx_assert(h->magic == HASH_MAGIC);
    h->magic = 0;
    EVP_MD_CTX_free(h->md);
    dbx_freep(&h);
    return NULL;
}

void dbx_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                     uint8_t out[static DBX_SHA256_LEN])
{
    dbx_assert(key_len <= INT_MAX);
    dbx_assert(HMAC(sha256_md(), key_len ? key : "", (int)key_len, data, len, out, NULL));
}

/* --- CRC-32C: reflected polynomial 0x82f63b78
 * ---------------------------------------------------------------- */

static const uint32_t *crc_table(void)
{
    static uint32_t table[256];
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int made;
    if (__atomic_load_n(&made, __ATOMIC_ACQUIRE))
        return table;
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
        table[i] = c;
    }
    __atomic_store_n(&made, 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock);
    return table;
}

uint32_t dbx_crc32c__table(uint32_t crc, const void *data, size_t len)
{
    const uint32_t *table = crc_table();
    const uint8_t *p = data;
    crc = ~crc;
    for (size_t i = 0; i < len; i++)
        crc = table[(crc ^ p[i]) & 0xff] ^ (crc >> 8);
    return ~crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t crc, const void *data,
                                                            size_t len)
{
    const uint8_t *p = data;
    uint64_t c = (uint32_t)~crc;
    for (; len >= 8; p += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        c = __builtin_ia32_crc32di(c, word);
    }
    uint32_t low = (uint32_t)c;
    for (; len; p++, len--)
        low = __builtin_ia32_crc32qi(low, *p);
    return ~low;
}
#endif

uint32_t dbx_crc32c(uint32_t crc, const void *data, size_t len)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2"))
        return crc_sse42(crc, data, len);
#endif
    return dbx_crc32c__table(crc, data, len);
}
