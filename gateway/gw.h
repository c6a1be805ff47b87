/* SPDX-License-Identifier: Apache-2.0 */
/* What the gateway consists of. One, made by server.c; everything is given a pointer to it. */
#pragma once

#include "common/base/list.h"
#include "common/base/log.h"
#include "common/proto/limits.h"
#include "gateway/config.h"
#include "gateway/rate.h"

struct gw {
    const struct gw_config *cfg; /* borrowed from main */
    struct dbx_loop *loop;       /* borrowed from main */
    int unpacker;                /* borrowed from main: of unpack.h */
    struct dbx_keyring *keys;    /* all owned from here on */
    struct gw_store *store;
    struct dbx_olog *olog;      /* NULL until its folder can be opened */
    struct dbx_blobs *blobs;    /* NULL: no blob store */
    struct gw_garbage *garbage; /* likewise */
    struct gw_offload *offload; /* likewise */
    struct gw_auth_cache *auth;
    struct gw_access *access;
    struct gw_passwords *passwords;
    struct gw_rates *rates;
    struct gw_rate_rule rate, rate_of_admins; /* of all calls; burst 0: there is none */
    struct gw_oidc *oidc;                     /* NULL: no identity provider */
    struct gw_templates *templates;
    struct gw_assets *assets;
    struct gw_watches *watches;
    struct gw_shares *shares;
    struct gw_recent *recent;
    struct gw_rooms *rooms;
    struct gw_upstream *up;
    struct gw_webhooks *webhooks;
    struct gw_archiver *archiver;
    struct gw_keep *keep;
    struct dbx_httpd *httpd;
    struct dbx_timer *retry_timer, *drain_timer;

    struct dbx_limits limits_max, compile_limits_max;
    struct dbx_list requests;      /* struct gw_req */
    struct dbx_list sessions;      /* struct gw_session */
    struct dbx_list batch_readers; /* of batches.h: who waits for the next result */
    size_t batch_bodies;           /* that are being decoded and written */
    struct dbx_list sockets;       /* struct gw_socket */
    struct dbx_log_ctx log;
    char *admin_key;  /* owned; hashed into the database at start, then gone */
    bool admin_known; /* it stands there */
    bool admin_asked;
    bool draining, drain_hurried;
    size_t archives; /* that are being made or read */
    size_t outputs;  /* answers of .../output that are being collected */
    struct dbx_metric *open_sockets, *bytes_out;
};
