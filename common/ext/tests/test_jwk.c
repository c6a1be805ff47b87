/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and signatures made by Python's cryptography. */
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/ext/jwk.h"
#include "tests/unit/check.h"

#include <errno.h>

static const char set_text[] =
    "{\"keys\":[{\"kty\":\"oct\",\"kid\":\"o\",\"k\":\"c2VjcmV0\"},{\"kty\":\"RSA\","
    "\"kid\":\"r\",\"use\":\"sig\",\"alg\":\"RS256\",\"n\":\"0YTZJuH4c-hsNgr6bkBc9yaj"
    "XXtvpOCDuVoA5eEQH17SLMjwk0bEoM58mxDrlSzG7NVFk83RsaMEdGjPTgvfznr0rVoDDA3Kps7G2AM1"
    "Zvogcsl-j4gHy-JBt_GmH3VFgEctgpfYDmtnNIcKp7o-F5gDZ-cyWFCDfdoxVPSruGKXRJhZQrYpr1YU"
    "SLlnOu9qnUYEknSfkL2P-3n5HTt0B08WYJL-IBg-eKx-Yzgb_JLmovcEbBh6zVGSS7jCnFuiPOfGaBPi"
    "jfxlovS8wCRlsIKp2Vuy89r2J4xKLMdf_369mjAfcNEzNsizyjoniB2uBX7I89Se47YlTy8m3hAdnQ\""
    ",\"e\":\"AQAB\"},{\"kty\":\"EC\",\"kid\":\"e\",\"crv\":\"P-256\",\"x\":\"YSDRb2g"
    "e9ILXr5svLvNS9a7-P0jbit9walKcAA62YDY\",\"y\":\"srT6wRfsPJsYvwE5BKi8uE1JWADXZ8wBD"
    "KhNM7wPsyg\"},{\"kty\":\"RSA\",\"kid\":\"weak\",\"n\":\"v5QqStEZneLjtkmrH1GB6VxS"
    "8IelTMVJyKxdCLF8yE7Hogu0iss9KlThzartE9jSXaxk-NcNQG-TSVD7FR3zFjuCG2qjhND6lhad8kCf"
    "Y_NZBWZphf5g6x5Yj33tHkdfobDFnavgGSOUOznw_qXmkxXjRkHMVAhWcC6XxuahiKk\",\"e\":\"AQ"
    "AB\"},{\"kty\":\"EC\",\"kid\":\"off\",\"crv\":\"P-256\",\"x\":\"YSDRb2ge9ILXr5sv"
    "LvNS9a7-P0jbit9walKcAA62YDY\",\"y\":\"YSDRb2ge9ILXr5svLvNS9a7-P0jbit9walKcAA62YD"
    "Y\"}]}";
static const char rs_sig[] =
    "JL6AQDWRby4qex-GtFEGjIX_OwhPY9eZ3BiXguRQYhqXcua53-yjinpCxXHzRAo82xKaIA5NejmMZ8Ov"
    "IRKX3wfkDR_sFlQUKhdAFAkMrvN0RYFQA64wcBVMyWRJUnF5vpEjbxS5FQn_ZZVMlBoXdbUIcEFXnSA_"
    "z_R-gE6Gps9axnE2iFqZMjJARjZ0NWazsTm2uUiF6x7dnHWvfE2-WUyxpwcoeIhQTFyXi3lo8ge0Hps5"
    "JVQ1tQAJHTU9Uo_g7gQukgIBh2A0PLk6nA1gPJsa51tiPdt5FNcdalZEPwD7NgBXaOMdGkAvGSUWFH3d"
    "1UXx3l2RAsJBZEJxVwKG5A";
static const char es_sig[] =
    "i9Q_dkvfEvuVIo1lG_2F7sWvTGGxkRzLSFgiu5U7vuiAyI2N8auP9MaZB0bzZL3VWbOZu1-FLKQ6BHYw"
    "uHkDXQ";
static const char weak_sig[] =
    "KhYUm5YuSCpdHWbMhHxlhtZbW4Td-IG1aCnQjH9P_mXi3C540b7ltt_A8R-NZVxsIXQ_RBaXaHo8C7IN"
    "g29njYNKf6d-wQlClwB1oSR6S25WBlTNFgXkhIL3SjUwJrcOSFwTJleUzhaM83MGE1p4fy4HM0EsBrFb"
    "AcvwRecAt9k";

static const char data[] = "header.payload";

static int verify(const struct dbx_json *set, const char *alg, const char *kid, const char *sig64,
                  size_t flip)
{
    uint8_t sig[600];
    size_t len = 0;
    CHECK_EQ(dbx_base64_decode(sig64, strlen(sig64), sig, &len, true), 0);
    if (flip)
        sig[flip % len] ^= 1;
    return dbx_jwk_verify(set, alg, kid, data, sizeof(data) - 1, sig, len, NULL);
}

int main(void)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    CHECK_EQ(dbx_json_parse(set_text, sizeof(set_text) - 1, NULL, &doc, NULL), 0);
    const struct dbx_json *set = dbx_json_root(doc);
    CHECK_EQ(verify(set, "RS256", "r", rs_sig, 0), 0);
    CHECK_EQ(verify(set, "RS256", NULL, rs_sig, 0), 0);
    CHECK_EQ(verify(set, "ES256", "e", es_sig, 0), 0);
    CHECK_EQ(verify(set, "ES256", NULL, es_sig, 0), 0);
    for (size_t i = 1; i < 64; i++) {
        CHECK_EQ(verify(set, "RS256", "r", rs_sig, i), -EACCES);
        CHECK_EQ(verify(set, "ES256", "e", es_sig, i), -EACCES);
    }
    CHECK_EQ(verify(set, "ES256", "e", rs_sig, 0), -EACCES);
    CHECK_EQ(verify(set, "RS256", "e", rs_sig, 0), -ENOENT); /* of another type */
    CHECK_EQ(verify(set, "RS256", "weak", weak_sig, 0), -ENOENT);
    CHECK_EQ(verify(set, "ES256", "off", es_sig, 0), -ENOENT); /* not on the curve */
    CHECK_EQ(verify(set, "RS256", "none", rs_sig, 0), -ENOENT);
    CHECK_EQ(verify(set, "none", "r", "AA", 0), -EINVAL);
    CHECK_EQ(verify(set, "HS256", "o", rs_sig, 0), -EINVAL);
    CHECK_EQ(verify(set, "HS256", "r", rs_sig, 0), -EINVAL); /* the public key as a secret */
    CHECK_EQ(verify(dbx_json_get(set, "keys"), "RS256", "r", rs_sig, 0), -ENOENT);
    CHECK_EQ(dbx_jwk_verify(set, "RS256", "r", data, 3, (const uint8_t *)"", 0, NULL), -EACCES);
    return check_result();
}
