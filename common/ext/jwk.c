/* SPDX-License-Identifier: Apache-2.0 */
#include "common/ext/jwk.h"

#include <errno.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"
#include "common/ext/json.h"

#define MAX_KEYS 64
#define MAX_NUMBER 1024 /* bytes: 8192 bits */
#define P256 32

/* base64url of a number; its length, or -EINVAL. */
static int number(const struct dbx_json *key, const char *name, uint8_t out[static MAX_NUMBER])
{
    size_t len, n;
    const char *text = dbx_json_str(dbx_json_get(key, name), &len);
    if (!text || len == 0 || len > MAX_NUMBER * 4 / 3)
        return -EINVAL;
    if (dbx_base64_decode(text, len, out, &n, /* url= */ true) < 0 || n == 0)
        return -EINVAL;
    return (int)n;
}

static EVP_PKEY *make(const char *type, OSSL_PARAM_BLD *bld)
{
    EVP_PKEY *pkey = NULL;
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
        pkey = NULL;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    return pkey;
}

static EVP_PKEY *rsa_key(const struct dbx_json *key)
{
    uint8_t n[MAX_NUMBER + 4], e[MAX_NUMBER + 4];
    int n_len = number(key, "n", n), e_len = number(key, "e", e);
    EVP_PKEY *pkey = NULL;
    if (n_len < 256 || n_len > MAX_NUMBER || e_len < 0 || e_len > 8)
        return NULL;
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    BIGNUM *bn = BN_bin2bn(n, n_len, NULL), *be = BN_bin2bn(e, e_len, NULL);
    if (bld && bn && be && BN_num_bits(bn) >= 2048 && BN_is_odd(be) &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, bn) &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, be))
        pkey = make("RSA", bld);
    BN_free(bn);
    BN_free(be);
    OSSL_PARAM_BLD_free(bld);
    return pkey;
}

static EVP_PKEY *ec_key(const struct dbx_json *key)
{
    uint8_t x[MAX_NUMBER + 4], y[MAX_NUMBER + 4], point[1 + 2 * P256] = {4};
    EVP_PKEY *pkey = NULL;
    if (!dbx_streq(dbx_json_get_str(key, "crv"), "P-256") || number(key, "x", x) != P256 ||
        number(key, "y", y) != P256)
        return NULL;
    memcpy(point + 1, x, P256);
    memcpy(point + 1 + P256, y, P256);
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    if (bld && OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) &&
        OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)))
        pkey = make("EC", bld); /* a point off the curve is refused there */
    OSSL_PARAM_BLD_free(bld);
    return pkey;
}

/* JOSE has r and s side by side, OpenSSL wants DER. Caller frees *ret. */
static int der_of(const uint8_t *sig, size_t len, uint8_t **ret)
{
    if (len != 2 * P256)
        return -EACCES;
    ECDSA_SIG *es = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(sig, P256, NULL), *s = BN_bin2bn(sig + P256, P256, NULL);
    *ret = NULL;
    if (!es || !r || !s || ECDSA_SIG_set0(es, r, s) != 1) {
        BN_free(r);
        BN_free(s);
        ECDSA_SIG_free(es);
        return -ENOMEM;
    }
    int n = i2d_ECDSA_SIG(es, ret);
    ECDSA_SIG_free(es);
    return n > 0 ? n : -EACCES;
}

static bool matches(EVP_PKEY *pkey, bool ec, const void *data, size_t len, const uint8_t *sig,
                    size_t sig_len)
{
    uint8_t *der = NULL;
    int der_len = ec ? der_of(sig, sig_len, &der) : 0;
    if (ec && der_len < 0)
        return false;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, pkey) == 1 &&
              EVP_DigestVerify(ctx, ec ? der : sig, ec ? (size_t)der_len : sig_len, data, len) == 1;
    EVP_MD_CTX_free(ctx);
    OPENSSL_free(der);
    return ok;
}

static bool fits(const struct dbx_json *key, const char *alg, const char *kid, bool ec)
{
    const char *own_alg = dbx_json_get_str(key, "alg"), *use = dbx_json_get_str(key, "use");
    return dbx_streq(dbx_json_get_str(key, "kty"), ec ? "EC" : "RSA") &&
           (!own_alg || dbx_streq(own_alg, alg)) && (!use || dbx_streq(use, "sig")) &&
           (!kid || dbx_streq(dbx_json_get_str(key, "kid"), kid));
}

int dbx_jwk_verify(const struct dbx_json *set, const char *alg, const char *kid, const void *data,
                   size_t len, const uint8_t *sig, size_t sig_len, struct dbx_err *err)
{
    const struct dbx_json *keys = dbx_json_get(set, "keys");
    bool ec = dbx_streq(alg, "ES256"), found = false;
    if (!ec && !dbx_streq(alg, "RS256"))
        return dbx_err_set(err, -EINVAL, DBX_DENIED, "signed by an algorithm that is not accepted");
    size_t n = dbx_json_type(keys) == DBX_JSON_ARRAY ? dbx_json_count(keys) : 0;
    for (size_t i = 0; i < n && i < MAX_KEYS; i++) {
        const struct dbx_json *key = dbx_json_at(keys, i);
        if (dbx_json_type(key) != DBX_JSON_OBJECT || !fits(key, alg, kid, ec))
            continue;
        EVP_PKEY *pkey = ec ? ec_key(key) : rsa_key(key);
        if (!pkey)
            continue;
        found = true;
        bool ok = matches(pkey, ec, data, len, sig, sig_len);
        EVP_PKEY_free(pkey);
        if (ok)
            return 0;
    }
    if (!found)
        return dbx_err_set(err, -ENOENT, DBX_DENIED, "signed by a key that is not known");
    return dbx_err_set(err, -EACCES, DBX_DENIED, "the signature is wrong");
}
