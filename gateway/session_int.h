/* SPDX-License-Identifier: Apache-2.0 */
/* What session.c (the socket and what the viewer says) and stream.c (what he is shown) share. */
#pragma once

#include "common/base/list.h"
#include "common/base/log.h"
#include "common/io/ws.h"
#include "common/proto/token.h"
#include "gateway/share.h"
#include "gateway/stream_json.h"
#include "gateway/watch.h"

struct gw;
struct gw_channel;
struct gw_session;

#define GW_SESSION_MAGIC 0x53455347u
#define GW_HIGH_WATER                                                                              \
    (256u << 10)              /* the log is not read on for a viewer who has this much to get */
#define GW_ACK_WINDOW 100000u /* bytes on their way to a viewer who acknowledges */
#define GW_MAX_INPUT_QUEUE (1u << 20)

/* A process that a viewer may see. */
struct gw_viewed {
    struct gw_session *ss; /* borrowed */
    struct dbx_id id;
    struct gw_watch watch;
    int64_t start;             /* no output of it stands before, in the log */
    int64_t from;              /* records before are not wanted */
    struct gw_text text;       /* JSON: where this viewer stands */
    uint64_t next_seq;         /* binary: the same, by record */
    struct dbx_buf end_record; /* binary: kept until the row is terminal, too */
    struct gw_end end;
    bool started;
    bool asked;           /* the database is asked about it */
    bool by_viewer;       /* since he named it */
    bool hidden;          /* ended long ago, or a stranger: not shown */
    bool done;            /* its terminal status was sent */
    uint64_t sent, acked; /* bytes of output on this connection; `acking` once the first ack came */
    bool acking;
    struct dbx_buf input; /* waits for the process to run, or for the piece before it */
    bool input_eof, input_busy;
    int64_t input_seq;  /* of the last piece in `input`, or -1 */
    int64_t cols, rows; /* of its terminal, to be told; 0: nothing is */
    bool resize_busy;
};

struct gw_session {
    uint32_t magic;
    unsigned refs; /* of the socket, and of calls on their way */
    struct gw *gw;
    struct dbx_ws *ws;          /* NULL once closed */
    struct gw_channel *channel; /* borrowed; NULL: the socket is its own */
    struct dbx_list node;
    struct dbx_log_ctx log;
    struct dbx_id sandbox, user;
    struct gw_audience *audience; /* he is one of it until he leaves */
    enum dbx_role role;
    char credential[65]; /* the token's label: what he came with */
    bool binary;
    const char *over;       /* a channel that is to be ended: why */
    bool told_away;         /* the log is away: he was told */
    bool lost;              /* part of the log was gone when it was read */
    struct dbx_map *viewed; /* process -> struct gw_viewed, owned */
    struct gw_follow *follow;
    char **resume; /* owned: "PROCESS:ID" of the URL, checked */
    size_t n_resume;
    unsigned malformed;
    unsigned asking; /* processes that the viewer named and the database is asked about */
};

/* session.c */
void gw_session_ref(struct gw_session *ss);
void gw_session_unref(struct gw_session *ss);
void gw_session_text(struct gw_session *ss, const char *text, size_t len);
void gw_session_frame(struct gw_session *ss, struct dbx_ws_frame *frame);
void gw_session_error(struct gw_session *ss, const struct dbx_id *process, const char *code,
                      const char *message);
void gw_session_tell_log(struct gw_session *ss); /* that it went away, or came back; once each */
void gw_session_push_input(struct gw_viewed *v); /* sends what may be sent */

/* Says that it is over; nothing is freed before the caller has returned. */
void gw_session_close(struct gw_session *ss, int code, const char *reason);
/* Of a channel of the workspace's socket (socket_stream.c): takes over resume. Said, and left. */
struct gw_session *gw_session_of_channel(struct gw_channel *ch, const struct dbx_id *sandbox,
                                         char **resume, size_t n_resume);
void gw_session_said(struct gw_session *ss, bool binary, const uint8_t *data, size_t len);
void gw_session_left(struct gw_session *ss);

/* stream.c */
void gw_stream_start(struct gw_session *ss); /* after the socket has opened */
void gw_stream_stop(struct gw_session *ss);
void gw_stream_go_on(struct gw_session *ss); /* there may be room again */
/* last_seen_id is checked; -EINVAL when it is none. Sends `resumed`. */
int gw_stream_resume(struct gw_viewed *v, const char *last_seen_id);
struct gw_viewed *gw_stream_find(struct gw_session *ss, const struct dbx_id *process);
/* One that the viewer names and nothing was heard of yet: it was accepted a moment ago, or is none
 * of this sandbox; `asked` until that is known. NULL: too many are asked about. */
struct gw_viewed *gw_stream_ask(struct gw_session *ss, const struct dbx_id *process);
