/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "gateway/jwt.h"
#include "tests/unit/check.h"

#include <stdlib.h>
#include <string.h>

static const struct gw_id_rules rules = {
    .issuer = "https://i", .client_id = "c", .nonce = "n1", .now = 1000000};
static struct gw_identity id;

static int check(const char *json)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    CHECK_EQ(dbx_json_parse(json, strlen(json), NULL, &doc, NULL), 0);
    return gw_id_token_check(dbx_json_root(doc), &rules, &id, NULL);
}

#define CLAIMS(iss, aud, exp, iat, nonce, more)                                                    \
    "{\"iss\":" iss ",\"aud\":" aud ",\"exp\":" exp ",\"iat\":" iat ",\"nonce\":" nonce            \
    ",\"sub\":\"s\"" more "}"
#define I "\"https://i\""
#define C "\"c\""
#define N "\"n1\""

static void test_claims(void)
{
    static const char *const wrong[] = {
        CLAIMS("\"https://i/\"", C, "1000100", "1000000", N, ""),
        CLAIMS("null", C, "1000100", "1000000", N, ""),
        CLAIMS(I, "\"d\"", "1000100", "1000000", N, ""),
        CLAIMS(I, "[]", "1000100", "1000000", N, ""),
        CLAIMS(I, "[\"c\",\"d\"]", "1000100", "1000000", N, ""),
        CLAIMS(I, C, "1000100", "1000000", N, ",\"azp\":\"d\""),
        CLAIMS(I, C, "999900", "999000", N, ""),
        CLAIMS(I, C, "\"1000100\"", "1000000", N, ""),
        CLAIMS(I, C, "1000100", "1000100", N, ""),
        CLAIMS(I, C, "1000100", "900000", N, ""),
        CLAIMS(I, C, "1000100", "1000000", N, ",\"nbf\":1000090"),
        CLAIMS(I, C, "1000100", "1000000", "\"n2\"", ""),
        CLAIMS(I, C, "1000100", "1000000", "null", ""),
        "{\"iss\":" I ",\"aud\":" C ",\"exp\":1000100,\"iat\":1000000,\"nonce\":" N "}",
        "{\"iss\":" I ",\"aud\":" C ",\"exp\":1000100,\"iat\":1000000,\"nonce\":" N
        ",\"sub\":\"\"}"};
    CHECK_EQ(check(CLAIMS(I, C, "1000100", "1000000", N,
                          ",\"email\":\"A@B.c\",\"email_verified\":true")),
             0);
    CHECK_STR(id.subject, "s");
    CHECK_STR(id.email, "a@b.c");
    CHECK_EQ(check(CLAIMS(I, C, "1000100", "1000000", N, ",\"email\":\"a@b.c\"")), 0);
    CHECK_STR(id.email, "");
    CHECK_EQ(check(CLAIMS(I, C, "1000100", "1000000", N,
                          ",\"email\":\"a@b.c\",\"email_verified\":\"true\"")),
             0);
    CHECK_STR(id.email, "");
    CHECK_EQ(check(CLAIMS(I, "[\"c\",\"d\"]", "1000100", "1000000", N, ",\"azp\":\"c\"")), 0);
    for (size_t i = 0; i < DBX_ARRAY_LEN(wrong); i++)
        CHECK(check(wrong[i]) < 0);
}

static void test_shape(void)
{
    static const char *const wrong[] = {"",
                                        ".",
                                        "..",
                                        "...",
                                        "a.b.c",
                                        "e30.e30",
                                        "e30.e30.",
                                        "eyJhbGciOiJub25lIn0.e30",
                                        "eyJhbGciOiJSUzI1NiJ9.W10.AA",
                                        "eyJhbGciOiJSUzI1NiJ9.e30=.AA",
                                        "eyJhbGciOiJSUzI1NiJ9.e30.A A",
                                        "eyJhbGciOiJSUzI1NiIsImNyaXQiOlsieCJdfQ.e30.AA"};
    struct gw_jwt t;
    CHECK_EQ(gw_jwt_parse("eyJhbGciOiJSUzI1NiJ9.e30.AAAA", &t, NULL), 0);
    CHECK_STR(t.alg, "RS256");
    CHECK(!t.kid);
    CHECK_EQ(t.signed_len, 24);
    CHECK_EQ(t.sig_len, 3);
    gw_jwt_done(&t);
    for (size_t i = 0; i < DBX_ARRAY_LEN(wrong); i++)
        CHECK(gw_jwt_parse(wrong[i], &t, NULL) < 0);
    char *huge = dbx_malloc(GW_MAX_JWT + 2);
    memset(huge, 'A', GW_MAX_JWT + 1);
    huge[GW_MAX_JWT + 1] = '\0';
    CHECK(gw_jwt_parse(huge, &t, NULL) < 0);
    free(huge);
}

int main(void)
{
    test_claims();
    test_shape();
    return check_result();
}
