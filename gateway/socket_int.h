/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the workspace's socket share: socket.c (the connection and its channels),
 * socket_rooms.c (what wakes them), socket_tree.c, socket_search.c, socket_stream.c (one kind of
 * channel each). A further kind is a further struct gw_channel_kind. */
#pragma once

#include "common/base/list.h"
#include "common/base/log.h"
#include "common/ext/json.h"
#include "common/ext/pg.h"
#include "common/io/ws.h"
#include "common/proto/token.h"
#include "gateway/request.h"
#include "gateway/socket.h"

#define GW_MAX_CHANNELS 64

struct gw_channel;

struct gw_channel_kind {
    const char *name;
    /* `open` as the client sent it: strict decoding, of these fields (into ch->state, which is
     * `size` zero bytes) besides those that every `open` has. */
    const struct dbx_json_field *fields;
    size_t nfields, size;
    /* May close the channel. The strings in ch->state live during the call. */
    void (*open)(struct gw_channel *ch);
    /* A message that came on it; NULL: none are known. */
    void (*message)(struct gw_channel *ch, const struct dbx_json *root);
    void (*poke)(struct gw_channel *ch);  /* the workspace's files have changed; may be NULL */
    void (*drain)(struct gw_channel *ch); /* there is room again; may be NULL */
    void (*close)(struct gw_channel *ch); /* frees what the state holds */
};
extern const struct gw_channel_kind gw_channel_tree, gw_channel_search, gw_channel_processes;

struct gw_channel {
    struct gw_socket *sk;
    const struct gw_channel_kind *kind;
    uint32_t number; /* the client's */
    uint64_t serial; /* ours: numbers are used again */
    void *state;     /* owned */
};

struct gw_room; /* those who watch one workspace here */

struct gw_socket {
    uint32_t magic;
    unsigned refs; /* of the socket, and of calls on their way */
    struct gw *gw;
    struct dbx_ws *ws; /* NULL once closed, and until it has opened */
    struct dbx_list node, room_node;
    struct gw_room *room;
    struct dbx_log_ctx log;
    struct dbx_id workspace;
    struct gw_user user;
    enum dbx_role role, most; /* most: what the token allows at most */
    struct dbx_map *channels; /* number -> struct gw_channel, owned */
    unsigned malformed;
    char credential[65]; /* what he came with (access.h) */
};

/* --- socket.c --- */
void gw_socket_unref(struct gw_socket *sk);
bool gw_socket_full(const struct gw_socket *sk); /* the client does not read as fast */
/* With the reason in words; the socket is gone for its user. */
void gw_socket_end(struct gw_socket *sk, int code, const char *reason);

/* `open` as a client sent it: number, kind and state of a channel that is not open yet. The state
 * is the caller's, also on failure. */
int gw_channel_decode(const struct dbx_json *root, struct gw_channel *ch,
                      struct dbx_err *err) DBX_MUST_USE;
extern const struct dbx_json_limits gw_socket_json;

/* A message on a channel: begin, put, send. ch NULL: control. */
struct dbx_jw *gw_channel_begin(struct gw_socket *sk, const struct gw_channel *ch, const char *type,
                                struct dbx_buf *buf, size_t max);
void gw_channel_send(struct gw_socket *sk, struct dbx_buf *buf, struct dbx_jw **w);
void gw_channel_error(struct gw_socket *sk, const struct gw_channel *ch, const char *code,
                      const char *message);
/* Tells the client and frees it. code NULL: all is done. */
void gw_channel_end(struct gw_channel *ch, const char *code, const char *message);

/* Asks the database on behalf of a channel; fn is not called when the channel has gone meanwhile.
 */
typedef void gw_channel_fn(struct gw_channel *ch, const struct dbx_pg_result *res,
                           const struct dbx_err *err);
void gw_channel_ask(struct gw_channel *ch, const char *stmt, const struct dbx_pg_param *params,
                    size_t n, gw_channel_fn *fn);

/* --- socket_rooms.c --- */
void gw_room_enter(struct gw_socket *sk);
void gw_room_leave(struct gw_socket *sk);

/* --- socket_sql.c --- */
extern const struct dbx_pg_stmt gw_socket_sql[];
extern const size_t gw_socket_sql_len;
