/* SPDX-License-Identifier: Apache-2.0 */
/* Who watches which workspace at this gateway. A NOTIFY of the database, whichever gateway or node
 * made the change, wakes them; what has happened they read by themselves, from where they stand. So
 * a notification that was lost costs nothing but time: all are woken when the session stands anew.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/map.h"
#include "gateway/gw.h"
#include "gateway/request.h"
#include "gateway/socket_int.h"

struct gw_room {
    struct dbx_id id;
    struct dbx_list sockets;
};

struct gw_rooms {
    struct gw *gw;
    struct dbx_pg_session *listener;
    struct dbx_map *rooms; /* workspace -> struct gw_room, owned */
};

static void poke(struct gw_room *room)
{
    struct dbx_list *node, *tmp;
    dbx_list_each(node, tmp, &room->sockets)
    {
        struct gw_socket *sk = dbx_list_entry(node, struct gw_socket, room_node);
        struct dbx_map_iter it = {0};
        while (dbx_map_next(sk->channels, &it)) {
            struct gw_channel *ch = it.value;
            if (ch->kind->poke)
                ch->kind->poke(ch);
        }
    }
}

static void on_listening(const struct dbx_pg_result *res, const struct dbx_err *err, void *user)
{
    struct gw_rooms *rooms = user;
    struct dbx_map_iter it = {0};
    (void)res;
    while (!err && dbx_map_next(rooms->rooms, &it))
        poke(it.value);
}

static void on_up(struct dbx_pg_session *s, void *user)
{
    dbx_pg_session_exec(s, "listen devbox_files", on_listening, user);
}

static void on_down(struct dbx_pg_session *s, const struct dbx_err *err, void *user)
{
    struct gw_rooms *rooms = user;
    (void)s;
    dbx_log(DBX_LOG_WARN, &rooms->gw->log, "events of files: %s", err->msg);
}

static void on_notify(struct dbx_pg_session *s, const char *channel, const char *payload,
                      void *user)
{
    struct gw_rooms *rooms = user;
    struct dbx_id id;
    (void)s;
    (void)channel;
    struct gw_room *room =
        dbx_id_parse(payload, &id) == 0 ? dbx_map_get(rooms->rooms, &id, sizeof(id)) : NULL;
    if (room)
        poke(room);
}

static const struct dbx_pg_session_handlers handlers = {
    .on_up = on_up, .on_down = on_down, .on_notify = on_notify};

struct gw_rooms *gw_rooms_new(struct gw *gw)
{
    struct gw_rooms *rooms = DBX_NEW(struct gw_rooms);
    rooms->gw = gw;
    rooms->rooms = dbx_map_new();
    rooms->listener = dbx_pg_session_new(gw->loop, gw->cfg->database, &handlers, rooms);
    return rooms;
}

struct gw_rooms *gw_rooms_free(struct gw_rooms *rooms)
{
    if (!rooms)
        return NULL;
    dbx_pg_session_free(rooms->listener);
    dbx_assert(dbx_map_count(rooms->rooms) == 0);
    dbx_map_free(rooms->rooms);
    free(rooms);
    return NULL;
}

void gw_room_enter(struct gw_socket *sk)
{
    struct dbx_map *rooms = sk->gw->rooms->rooms;
    struct gw_room *room = dbx_map_get(rooms, &sk->workspace, sizeof(sk->workspace));
    if (!room) {
        room = DBX_NEW(struct gw_room);
        room->id = sk->workspace;
        dbx_list_init(&room->sockets);
        (void)dbx_map_put(rooms, &room->id, sizeof(room->id), room);
    }
    sk->room = room;
    dbx_list_push(&room->sockets, &sk->room_node);
}

void gw_room_leave(struct gw_socket *sk)
{
    struct gw_room *room = DBX_TAKE(sk->room);
    if (!room)
        return;
    dbx_list_remove(&sk->room_node);
    if (!dbx_list_empty(&room->sockets))
        return;
    (void)dbx_map_del(sk->gw->rooms->rooms, &room->id, sizeof(room->id));
    free(room);
}
