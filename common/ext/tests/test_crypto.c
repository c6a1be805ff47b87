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
    test_hmac();
    test_crc32c();
    return check_result();
}
