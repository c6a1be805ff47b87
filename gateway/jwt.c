/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/jwt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/str.h"

#define LEEWAY_S 60
#define MAX_AGE_S 600 /* since it was issued: it comes straight from the provider */

static int bad(struct dbx_err *err, const char *why)
{
    return dbx_err_set(err, -EACCES, DBX_DENIED, "the provider's ID token: %s", why);
}

/* One part: base64url of a JSON object. */
static int part(const char *text, size_t len, struct dbx_json_doc **ret)
{
    const struct dbx_json_limits limits = {.max_depth = 8, .max_nodes = 2000};
    DBX_CLEANUP(dbx_freep) uint8_t *plain = dbx_malloc(len + 4);
    struct dbx_json_doc *doc = NULL;
    size_t n;
    if (dbx_base64_decode(text, len, plain, &n, /* url= */ true) < 0 ||
        dbx_json_parse(plain, n, &limits, &doc, NULL) < 0)
        return -EACCES;
    if (dbx_json_type(dbx_json_root(doc)) != DBX_JSON_OBJECT) {
        dbx_json_doc_free(doc);
        return -EACCES;
    }
    *ret = doc;
    return 0;
}

static int take_apart(const char *text, struct gw_jwt *t)
{
    size_t head = strcspn(text, ".");
    if (text[head] != '.')
        return -EACCES;
    const char *claims = text + head + 1;
    size_t body = strcspn(claims, ".");
    if (claims[body] != '.')
        return -EACCES;
    const char *sig = claims + body + 1;
    size_t sig_len = strlen(sig);
    t->signed_len = head + 1 + body;
    t->sig = dbx_malloc(sig_len + 4);
    if (dbx_base64_decode(sig, sig_len, t->sig, &t->sig_len, /* url= */ true) < 0 ||
        part(text, head, &t->header) < 0 || part(claims, body, &t->claims) < 0)
        return -EACCES;
    t->alg = dbx_json_get_str(dbx_json_root(t->header), "alg");
    t->kid = dbx_json_get_str(dbx_json_root(t->header), "kid");
    /* Extensions that have to be understood are not. */
    return t->alg && !dbx_json_get(dbx_json_root(t->header), "crit") ? 0 : -EACCES;
}

int gw_jwt_parse(const char *text, struct gw_jwt *ret, struct dbx_err *err)
{
    struct gw_jwt t = {0};
    if (strnlen(text, GW_MAX_JWT) == GW_MAX_JWT)
        return bad(err, "is too long");
    if (take_apart(text, &t) < 0) {
        gw_jwt_done(&t);
        return bad(err, "cannot be read");
    }
    *ret = t;
    return 0;
}

void gw_jwt_done(struct gw_jwt *t)
{
    t->header = dbx_json_doc_free(t->header);
    t->claims = dbx_json_doc_free(t->claims);
    free(t->sig);
    t->sig = NULL;
}

static bool is_for(const struct dbx_json *claims, const char *client_id)
{
    const struct dbx_json *aud = dbx_json_get(claims, "aud");
    const char *azp = dbx_json_get_str(claims, "azp");
    bool found = dbx_streq(dbx_json_str(aud, NULL), client_id);
    size_t n = dbx_json_type(aud) == DBX_JSON_ARRAY ? dbx_json_count(aud) : 0;
    for (size_t i = 0; i < n; i++)
        found |= dbx_streq(dbx_json_str(dbx_json_at(aud, i), NULL), client_id);
    return found && (azp ? dbx_streq(azp, client_id) : n <= 1);
}

int gw_id_token_check(const struct dbx_json *claims, const struct gw_id_rules *rules,
                      struct gw_identity *ret, struct dbx_err *err)
{
    int64_t exp = dbx_json_get_i64(claims, "exp", 0), iat = dbx_json_get_i64(claims, "iat", 0);
    size_t sub_len = 0;
    const char *sub = dbx_json_str(dbx_json_get(claims, "sub"), &sub_len);
    const char *email = dbx_json_get_str(claims, "email");
    const char *nonce = dbx_json_get_str(claims, "nonce");
    struct gw_identity id = {0};
    if (!dbx_streq(dbx_json_get_str(claims, "iss"), rules->issuer))
        return bad(err, "is of another issuer");
    if (!is_for(claims, rules->client_id))
        return bad(err, "is for somebody else");
    if (exp <= rules->now - LEEWAY_S || exp <= 0)
        return bad(err, "has expired");
    if (iat > rules->now + LEEWAY_S || iat < rules->now - MAX_AGE_S ||
        dbx_json_get_i64(claims, "nbf", 0) > rules->now + LEEWAY_S)
        return bad(err, "is not of now");
    if (!nonce || strlen(nonce) != strlen(rules->nonce) ||
        !dbx_equal_secret(nonce, rules->nonce, strlen(nonce)))
        return bad(err, "is of another login");
    if (!sub || sub_len == 0 || sub_len > GW_MAX_SUBJECT || strlen(sub) != sub_len)
        return bad(err, "does not say who it is");
    memcpy(id.subject, sub, sub_len + 1);
    if (!email || !dbx_json_get_bool(claims, "email_verified", false) ||
        gw_email_normalize(email, id.email) < 0)
        id.email[0] = '\0';
    *ret = id;
    return 0;
}
