/* SPDX-License-Identifier: Apache-2.0 */
/* A channel of kind "search": goes through the files of record in the order of their paths, one at
 * a time, and in turns of a few milliseconds, so that neither a large workspace nor a hostile
 * pattern holds up anybody else. Closing the channel cancels it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/loop.h"
#include "gateway/contents.h"
#include "gateway/gw.h"
#include "gateway/regex.h"
#include "gateway/request.h"
#include "gateway/socket_int.h"

#define TURN_NS 4000000ull
#define MAX_NS 5000000000ull /* of computing, in all */
#define MAX_LINE 16384       /* what is behind is not searched */
#define MAX_SHOWN 240        /* of a line */
#define MAX_MESSAGE (1u << 20)
#define MAX_GLOBS 32
#define DEFAULT_RESULTS 2000

struct search {
    const char *query; /* during open */
    bool regex, case_sensitive, whole_word;
    const struct dbx_json *include, *exclude;
    int64_t max_results;
    struct gw_channel *ch;
    struct gw_regex *re;
    struct dbx_timer *timer;
    char *globs[2][MAX_GLOBS]; /* owned */
    size_t nglobs[2];
    struct {
        struct dbx_id id;
        char *path; /* owned */
    } * files;      /* owned */
    size_t nfiles, at;
    /* the file at hand */
    uint8_t *content;              /* owned, or NULL */
    struct dbx_contents *contents; /* while it is on its way */
    size_t len, pos, line;
    size_t results, in_files, too_hard;
    uint64_t used_ns;
    struct dbx_buf buf;
    struct dbx_jw *w; /* a message that has begun */
    bool blocked, counted;
};

static void turn(void *user);

static void flush(struct search *s)
{
    if (s->w) {
        dbx_jw_array_end(s->w);
        gw_channel_send(s->ch->sk, &s->buf, &s->w);
    }
}

static void end_file(struct search *s)
{
    flush(s);
    s->counted = false;
    free(DBX_TAKE(s->content));
}

static void finish(struct search *s, bool truncated)
{
    struct dbx_buf buf;
    end_file(s);
    struct dbx_jw *w = gw_channel_begin(s->ch->sk, s->ch, "done", &buf, 1024);
    dbx_jw_ki64(w, "matches", (int64_t)s->results);
    dbx_jw_ki64(w, "files", (int64_t)s->in_files);
    dbx_jw_ki64(w, "lines_too_hard", (int64_t)s->too_hard);
    dbx_jw_kbool(w, "truncated", truncated);
    gw_channel_send(s->ch->sk, &buf, &w);
    gw_channel_end(s->ch, NULL, NULL);
}

/* Columns count characters, from 1; the text is the line, shortened around the match. */
static void put_match(struct search *s, const char *line, size_t len, size_t from, size_t to)
{
    size_t start = from > 40 ? from - 40 : 0, column = 1, before = 0;
    while (start > 0 && ((uint8_t)line[start] & 0xC0) == 0x80)
        start--;
    for (size_t i = 0; i < from; i++) {
        column += ((uint8_t)line[i] & 0xC0) != 0x80;
        before += i >= start && ((uint8_t)line[i] & 0xC0) != 0x80;
    }
    size_t shown = len - start < MAX_SHOWN ? len - start : MAX_SHOWN;
    if (!s->w) {
        char id[DBX_ID_TEXT];
        s->w = gw_channel_begin(s->ch->sk, s->ch, "matches", &s->buf, MAX_MESSAGE);
        dbx_id_format(&s->files[s->at].id, id);
        dbx_jw_kstr(s->w, "id", id);
        dbx_jw_kstr(s->w, "path", s->files[s->at].path);
        dbx_jw_key(s->w, "matches");
        dbx_jw_array(s->w);
    }
    s->in_files += !s->counted;
    s->counted = true;
    size_t length = 0;
    for (size_t i = from; i < to; i++)
        length += ((uint8_t)line[i] & 0xC0) != 0x80;
    dbx_jw_object(s->w);
    dbx_jw_ki64(s->w, "line", (int64_t)s->line);
    dbx_jw_ki64(s->w, "column", (int64_t)column);
    dbx_jw_ki64(s->w, "length", (int64_t)length);
    dbx_jw_ki64(s->w, "text_at", (int64_t)before);
    dbx_jw_key(s->w, "text");
    dbx_jw_strn(s->w, line + start, dbx_utf8_prefix(line + start, shown, &(bool){false}));
    dbx_jw_object_end(s->w);
    s->results++;
}

static void search_line(struct search *s, const char *line, size_t len)
{
    size_t at = 0, from, to;
    int r = 0;
    if (len > MAX_LINE)
        len = MAX_LINE;
    while (at <= len && s->results < (size_t)s->max_results &&
           (r = gw_regex_find(s->re, line, len, at, &from, &to)) == 1) {
        put_match(s, line, len, from, to);
        at = to;
    }
    s->too_hard += r < 0;
}

/* Lines until the file ends, or the turn. */
static void go_through(struct search *s, uint64_t begun)
{
    while (s->pos < s->len && s->results < (size_t)s->max_results &&
           dbx_now_ns() - begun < TURN_NS && s->buf.len < MAX_MESSAGE / 2) {
        const char *line = (const char *)s->content + s->pos;
        const char *end = memchr(line, '\n', s->len - s->pos);
        size_t len = end ? (size_t)(end - line) : s->len - s->pos;
        s->line++;
        search_line(s, line, len && line[len - 1] == '\r' ? len - 1 : len);
        s->pos += len + 1;
    }
}

static void on_loaded(struct dbx_contents *cs, const struct dbx_err *err, void *arg)
{
    struct search *s = arg;
    if (err) {
        gw_channel_end(s->ch, "unavailable", "a large file cannot be read now, try again");
        return;
    }
    s->content = dbx_contents_take(cs, 0, &s->len);
    s->contents = dbx_contents_free(s->contents);
    if (s->content && memchr(s->content, '\0', s->len < 8192 ? s->len : 8192))
        s->len = 0; /* no text */
    turn(s);
}

static void on_content(struct gw_channel *ch, const struct dbx_pg_result *res,
                       const struct dbx_err *err)
{
    struct search *s = ch->state;
    if (err) {
        gw_channel_end(ch, "unavailable", "the database cannot be reached, try again");
        return;
    }
    s->pos = s->line = s->len = 0;
    if (dbx_pg_rows(res) == 0) { /* it has gone meanwhile */
        turn(s);
        return;
    }
    s->contents = dbx_contents_new(ch->sk->gw->loop, ch->sk->gw->blobs);
    dbx_contents_add(s->contents, res, 0);
    if (dbx_contents_here(s->contents))
        on_loaded(s->contents, NULL, s);
    else
        dbx_contents_load(s->contents, on_loaded, s);
}

static void next_file(struct search *s)
{
    char id[DBX_ID_TEXT], workspace[DBX_ID_TEXT];
    dbx_id_format(&s->files[s->at].id, id);
    dbx_id_format(&s->ch->sk->workspace, workspace);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(id), DBX_PG_TEXT(workspace)};
    gw_channel_ask(s->ch, "socket_file", params, DBX_ARRAY_LEN(params), on_content);
}

static void turn(void *user)
{
    struct search *s = user;
    uint64_t begun = dbx_now_ns();
    s->blocked = gw_socket_full(s->ch->sk);
    if (s->blocked)
        return;
    go_through(s, begun);
    s->used_ns += dbx_now_ns() - begun;
    bool enough = s->results >= (size_t)s->max_results || s->used_ns > MAX_NS;
    if (s->buf.len >= MAX_MESSAGE / 2)
        flush(s); /* the rest of the file comes yet */
    if (enough) {
        finish(s, true);
    } else if (s->content && s->pos < s->len) {
        dbx_timer_start(s->timer, 1, 0);
    } else {
        end_file(s);
        if (++s->at < s->nfiles)
            next_file(s);
        else
            finish(s, false);
    }
}

static bool wanted(const struct search *s, const char *path)
{
    bool in = s->nglobs[0] == 0;
    for (size_t i = 0; !in && i < s->nglobs[0]; i++)
        in = gw_glob_match(s->globs[0][i], path);
    for (size_t i = 0; in && i < s->nglobs[1]; i++)
        in = !gw_glob_match(s->globs[1][i], path);
    return in;
}

static void on_paths(struct gw_channel *ch, const struct dbx_pg_result *res,
                     const struct dbx_err *err)
{
    struct search *s = ch->state;
    if (err) {
        gw_channel_end(ch, "unavailable", "the database cannot be reached, try again");
        return;
    }
    s->files = dbx_calloc(dbx_pg_rows(res) + 1, sizeof(*s->files));
    for (size_t i = 0; i < dbx_pg_rows(res); i++) {
        const char *path = dbx_pg_text(res, i, "path", NULL), *id = dbx_pg_text(res, i, "id", NULL);
        if (!wanted(s, path) || dbx_id_parse(id, &s->files[s->nfiles].id) < 0)
            continue;
        s->files[s->nfiles++].path = dbx_strdup(path);
    }
    if (s->nfiles == 0)
        finish(s, false);
    else
        next_file(s);
}

static bool take_globs(struct search *s, int which, const struct dbx_json *list)
{
    for (size_t i = 0; i < dbx_json_count(list); i++) {
        const char *glob = dbx_json_str(dbx_json_at(list, i), NULL);
        if (!glob || !*glob || strlen(glob) > 256 || s->nglobs[which] == MAX_GLOBS)
            return false;
        s->globs[which][s->nglobs[which]++] = dbx_strdup(glob);
    }
    return true;
}

static void open_search(struct gw_channel *ch)
{
    struct search *s = ch->state;
    struct dbx_err err = {0};
    const struct gw_regex_opts opts = {
        .literal = !s->regex, .ignore_case = !s->case_sensitive, .whole_word = s->whole_word};
    char id[DBX_ID_TEXT], words[300];
    s->ch = ch;
    s->timer = dbx_timer_new(ch->sk->gw->loop, turn, s);
    if (s->max_results == 0)
        s->max_results = DEFAULT_RESULTS;
    if (!take_globs(s, 0, s->include) || !take_globs(s, 1, s->exclude)) {
        gw_channel_end(ch, "invalid", "include, exclude: at most 32 globs of 256 bytes each");
        return;
    }
    if (gw_regex_new(s->query, &opts, &s->re, &err) < 0) {
        snprintf(words, sizeof(words), "query: %s", err.msg);
        gw_channel_end(ch, "invalid", words);
        return;
    }
    dbx_id_format(&ch->sk->workspace, id);
    const struct dbx_pg_param params[] = {DBX_PG_TEXT(id)};
    gw_channel_ask(ch, "socket_paths", params, 1, on_paths);
}

static void drain(struct gw_channel *ch)
{
    struct search *s = ch->state;
    if (s->blocked)
        dbx_timer_start(s->timer, 0, 0); /* ending here would change what is walked over */
}

static void close_search(struct gw_channel *ch)
{
    struct search *s = ch->state;
    s->timer = dbx_timer_free(s->timer);
    s->re = gw_regex_free(s->re);
    for (int which = 0; which < 2; which++)
        for (size_t i = 0; i < s->nglobs[which]; i++)
            free(s->globs[which][i]);
    for (size_t i = 0; i < s->nfiles; i++)
        free(s->files[i].path);
    free(s->files);
    free(s->content);
    dbx_contents_free(s->contents);
    if (s->w)
        (void)!dbx_jw_end(&s->w);
    dbx_buf_done(&s->buf);
}

static const struct dbx_json_field fields[] = {
    {"query", DBX_JSON_STRING, offsetof(struct search, query), DBX_JSON_REQUIRED, 1, 1024, false},
    {"regex", DBX_JSON_BOOL, offsetof(struct search, regex), 0, 0, 0, false},
    {"case_sensitive", DBX_JSON_BOOL, offsetof(struct search, case_sensitive), 0, 0, 0, false},
    {"whole_word", DBX_JSON_BOOL, offsetof(struct search, whole_word), 0, 0, 0, false},
    {"include", DBX_JSON_ARRAY, offsetof(struct search, include), DBX_JSON_NULLABLE, 0, 0, false},
    {"exclude", DBX_JSON_ARRAY, offsetof(struct search, exclude), DBX_JSON_NULLABLE, 0, 0, false},
    {"max_results", DBX_JSON_INT, offsetof(struct search, max_results), 0, 1, 10000, false},
};

const struct gw_channel_kind gw_channel_search = {.name = "search",
                                                  .fields = fields,
                                                  .nfields = DBX_ARRAY_LEN(fields),
                                                  .size = sizeof(struct search),
                                                  .open = open_search,
                                                  .drain = drain,
                                                  .close = close_search};
