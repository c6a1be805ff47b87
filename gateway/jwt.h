/* SPDX-License-Identifier: Apache-2.0 */
/* ID tokens of OpenID Connect providers: what stands in them, and whether it is for us. Pure. */
#pragma once

#include "common/ext/json.h"
#include "gateway/credentials.h"

#define GW_MAX_JWT (64u << 10)
#define GW_MAX_SUBJECT 255

struct gw_jwt {
    struct dbx_json_doc *header, *claims; /* owned */
    const char *alg, *kid;                /* kid may be NULL */
    size_t signed_len;                    /* of the text, before the second dot */
    uint8_t *sig;                         /* owned */
    size_t sig_len;
};

/* Takes it apart; nothing of it is to be believed before dbx_jwk_verify was content. */
int gw_jwt_parse(const char *text, struct gw_jwt *ret, struct dbx_err *err) DBX_MUST_USE;
void gw_jwt_done(struct gw_jwt *t);

struct gw_id_rules {
    const char *issuer, *client_id, *nonce;
    int64_t now; /* unix seconds; 60 of leeway */
};
struct gw_identity {
    char subject[GW_MAX_SUBJECT + 1];
    char email[GW_EMAIL_TEXT]; /* "" unless the provider has verified it */
};
/* iss, aud (and azp), exp, iat, nbf, nonce, sub. */
int gw_id_token_check(const struct dbx_json *claims, const struct gw_id_rules *rules,
                      struct gw_identity *ret, struct dbx_err *err) DBX_MUST_USE;
