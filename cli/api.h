/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to DevBox: any gateway will do, and when one is away the next is asked. */
#pragma once

#include "common/base/err.h"

struct dbx_loop;
struct dbx_json;
struct cli_api;

#define CLI_MAX_GATEWAYS 16

/* urls: "http://host:port[,...]". key, ca_file: NULL for none. */
int cli_api_new(struct dbx_loop *loop, const char *urls, const char *key, const char *ca_file,
                struct cli_api **ret, struct dbx_err *err) DBX_MUST_USE;
/* Before the loop is freed; what is on its way is not answered any more. */
void cli_api_close(struct cli_api *api);
struct cli_api *cli_api_free(struct cli_api *api); /* after the loop was */

/* status 0: no gateway answered in time, and err says why. Else root is the body (NULL: not JSON),
 * and for a status of 400 and above err has the gateway's words. */
typedef void cli_api_fn(int status, const struct dbx_json *root, const struct dbx_err *err,
                        void *user);
struct cli_call {
    const char *method, *path;
    const void *body; /* copied; NULL for none */
    size_t body_len;
    const char *idempotency_key; /* or NULL; a call that is not a GET is tried again only with it */
    uint32_t patience_ms;        /* how long gateways that are away are tried */
    uint32_t timeout_ms;         /* of one try; default 15 s */
    size_t max_answer;           /* default 8 MiB */
    const char *accept;          /* or NULL */
    bool save;                   /* the body goes into the file save_fd, which is emptied first */
    int save_fd;
};
/* Calls back once, never before it has returned. */
void cli_api_call(struct cli_api *api, const struct cli_call *call, cli_api_fn *fn, void *user);

const char *cli_api_url(const struct cli_api *api); /* of the gateway that answered last */
const char *cli_api_ca_file(const struct cli_api *api);
void cli_api_next(struct cli_api *api); /* this gateway failed: asks another from now on */
