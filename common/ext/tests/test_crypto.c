/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "common/ext/crypto.h"
#include "common/ext/crypto_int.h"
#include "tests/unit/check.h"

static const char *hex(const uint8_t digest[static DBX_SHA256_LEN])
{
    static char text[2 * DBX_SHA256_LEN + 1];
    dbx_hex_encode(digest, DBX_SHA256_LEN, text);
    return text;
}

/* FIPS 180-4 */
static void test_sha256(void)
{
    uint8_t out[DBX_SHA256_LEN];
    dbx_sha256("", 0, out);
    CHECK_STR(hex(out), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    dbx_sha256("abc", 3, out);
    CHECK_STR(hex(out), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");

    struct dbx_sha256_ctx *ctx = dbx_sha256_new();
    dbx_sha256_peek(ctx, out);
    CHECK_STR(hex(out), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    dbx_sha256_update(ctx, "a", 1);
    dbx_sha256_peek(ctx, out);
    dbx_sha256_peek(ctx, out);
    CHECK_STR(hex(out), "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb");
    dbx_sha256_update(ctx, "bc", 2);
    dbx_sha256_peek(ctx, out);
    CHECK_STR(hex(out), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(dbx_sha256_free(ctx) == NULL);
    CHECK(dbx_sha256_free(NULL) == NULL);
}

/* A hash that another process goes on with. */
static void test_saved(void)
{
    uint8_t data[300], want[DBX_SHA256_LEN], out[DBX_SHA256_LEN];
    memset(data, 'q', sizeof(data));
    dbx_sha256(data, sizeof(data), want);
    for (size_t cut = 0; cut <= sizeof(data); cut += 7) {
        struct dbx_sha256_state state;
        struct dbx_sha256_ctx *a = dbx_sha256_new(), *b = dbx_sha256_new();
        dbx_sha256_update(a, data, cut);
        dbx_sha256_save(a, &state);
        CHECK_EQ(state.bytes, cut);
        dbx_sha256_restore(b, &state);
        dbx_sha256_update(b, data + cut, sizeof(data) - cut);
        dbx_sha256_peek(b, out);
        CHECK(memcmp(out, want, sizeof(out)) == 0);
        dbx_sha256_free(a);
        dbx_sha256_free(b);
    }
}

/* RFC 4231, cases 1, 2 and 6 */
static void test_hmac(void)
{
    uint8_t key[131], out[DBX_SHA256_LEN];
    static const char hashed[] = "Test Using Larger Than Block-Size Key - Hash Key First";
    memset(key, 0x0b, 20);
    dbx_hmac_sha256(key, 20, "Hi There", 8, out);
    CHECK_STR(hex(out), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    dbx_hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, out);
    CHECK_STR(hex(out), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof(key));
    dbx_hmac_sha256(key, sizeof(key), hashed, sizeof(hashed) - 1, out);
    CHECK_STR(hex(out), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    dbx_hmac_sha256(NULL, 0, "", 0, out);
    CHECK_STR(hex(out), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

/* FIPS 180-4's "abc" */
static void test_hashes(void)
{
    static const struct {
        enum dbx_hash_kind kind;
        size_t len;
        const char *begin;
    } want[] = {
        {DBX_HASH_SHA1, 20, "a9993e364706816aba3e25717850c26c9cd0d89d"},
        {DBX_HASH_SHA256, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {DBX_HASH_SHA384, 48, "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"},
        {DBX_HASH_SHA512, 64, "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"}};

    for (size_t i = 0; i < DBX_ARRAY_LEN(want); i++) {
        uint8_t out[DBX_HASH_MAX];
        char text[2 * DBX_HASH_MAX + 1];
        struct dbx_hash *h = dbx_hash_new(want[i].kind);
        dbx_hash_update(h, "a", 1);
        dbx_hash_update(h, "bc", 2);
        dbx_hash_final(h, out);
        dbx_hash_free(h);
        CHECK_EQ(dbx_hash_len(want[i].kind), want[i].len);
        dbx_hex_encode(out, want[i].len, text);
        CHECK(strncmp(text, want[i].begin, strlen(want[i].begin)) == 0);
    }
}

/* RFC 3720, B.4 */
static void test_crc32c(void)
{
    uint8_t data[1000];
    memset(data, 0, 32);
    CHECK_EQ(dbx_crc32c(0, data, 32), 0x8a9136aau);
    memset(data, 0xff, 32);
    CHECK_EQ(dbx_crc32c(0, data, 32), 0x62a8ab43u);
    CHECK_EQ(dbx_crc32c(0, "123456789", 9), 0xe3069283u);
    CHECK_EQ(dbx_crc32c(dbx_crc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
    CHECK_EQ(dbx_crc32c(0, NULL, 0), 0);
    CHECK_EQ(dbx_crc32c__table(0, "123456789", 9), 0xe3069283u);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 31 + 7);
    for (size_t start = 0; start < 9; start++)
        for (size_t len = 0; len < 100; len++)
            CHECK_EQ(dbx_crc32c(5, data + start, len), dbx_crc32c__table(5, data + start, len));
}

int main(void)
{
    test_sha256();
    test_saved();
    test_hmac();
    test_hashes();
    test_crc32c();
    return check_result();
}
