/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/people.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/api.h"
#include "cli/args.h"
#include "cli/login.h"
#include "cli/run.h"
#include "cli/verdict.h"
#include "common/base/buf.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/io/loop.h"

#define PATIENCE_MS 10000
#define MAX_OUT (8u << 20)
#define MAX_COLUMNS 5

/* What a command is made of: its words, then options of its own. */
struct args {
    const char *words[3];
    size_t n;
    const char *label, *scopes, *expires, *template, *role, *email;
};

struct people {
    struct cli_api *api;
    struct dbx_loop *loop;
    const char *const *columns; /* of a table; NULL: key and value of one object */
};

#define HELP "devbox help tells the commands"

static int wrong(const char *fmt, const char *arg)
{
    cli_say(fmt, arg);
    cli_say(HELP);
    return CLI_EXIT_DEVBOX;
}

static int parse(char **argv, struct args *a)
{
    const struct cli_option options[] = {{"--label", &a->label},     {"--scopes", &a->scopes},
                                         {"--expires", &a->expires}, {"--template", &a->template},
                                         {"--role", &a->role},       {"--email", &a->email}};
    int r = cli_args_read(argv, options, DBX_ARRAY_LEN(options), a->words, DBX_ARRAY_LEN(a->words),
                          &a->n);
    if (r)
        cli_say(HELP);
    return r;
}

/* --- output --- */

/* Control characters do not reach the terminal. */
static void show(const char *text, int width)
{
    for (const char *p = text; *p; p++)
        putchar((unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p);
    printf("%*s", (int)(width - (int)strlen(text) > 0 ? width - (int)strlen(text) : 1), "");
}

static void show_value(const struct dbx_json *value, int width)
{
    char text[400] = "-";
    if (dbx_json_type(value) == DBX_JSON_STRING)
        (void)dbx_strcpy(text, sizeof(text), dbx_json_str(value, NULL));
    else if (dbx_json_type(value) == DBX_JSON_INT)
        snprintf(text, sizeof(text), "%lld", (long long)dbx_json_i64(value, 0));
    for (size_t i = 0; dbx_json_type(value) == DBX_JSON_ARRAY && i < dbx_json_count(value); i++) {
        const char *one = dbx_json_str(dbx_json_at(value, i), NULL);
        size_t used = i ? strlen(text) : 0;
        snprintf(text + used, sizeof(text) - used, "%s%.40s", i ? "," : "", one ? one : "?");
    }
    show(text, width);
}

static void show_row(const struct people *pe, const struct dbx_json *row)
{
    for (size_t i = 0; pe->columns[i]; i++)
        show_value(dbx_json_get(row, pe->columns[i]), i == 0 ? 38 : 26);
    putchar('\n');
}

static void show_table(const struct people *pe, const struct dbx_json *root)
{
    const struct dbx_json *items = dbx_json_get(root, "items");
    for (size_t i = 0; pe->columns[i]; i++)
        show(pe->columns[i], i == 0 ? 38 : 26);
    putchar('\n');
    if (!items)
        show_row(pe, root);
    for (size_t i = 0; i < dbx_json_count(items); i++)
        show_row(pe, dbx_json_at(items, i));
}

static int show_json(const struct dbx_json *root)
{
    struct dbx_buf buf;
    dbx_buf_init(&buf, MAX_OUT);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_node(w, root);
    int r = dbx_jw_end(&w);
    if (r == 0)
        puts(dbx_buf_cstr(&buf));
    dbx_buf_done(&buf);
    return r;
}

static void on_answer(int status, const struct dbx_json *root, const struct dbx_err *err,
                      void *user)
{
    struct people *pe = user;
    int code = 0;
    if (status == 0 || status >= 400) {
        cli_say("%s", err->msg);
        code = CLI_EXIT_DEVBOX;
    } else if (root && isatty(STDOUT_FILENO)) {
        show_table(pe, root);
    } else if (root && show_json(root) < 0) {
        code = CLI_EXIT_DEVBOX;
    }
    dbx_loop_stop(pe->loop, code);
}

static int call(struct people *pe, const char *method, const char *path, const struct dbx_buf *body)
{
    uint8_t random[16];
    char key[33];
    dbx_random(random, sizeof(random));
    dbx_hex_encode(random, sizeof(random), key);
    const struct cli_call c = {.method = method,
                               .path = path,
                               .body = body ? body->data : NULL,
                               .body_len = body ? body->len : 0,
                               .idempotency_key = key,
                               .patience_ms = PATIENCE_MS};
    cli_api_call(pe->api, &c, on_answer, pe);
    return dbx_loop_run(pe->loop);
}

/* --- commands --- */

static void add(struct dbx_jw *w, const char *key, const char *value)
{
    if (value)
        dbx_jw_kstr(w, key, value);
}

static int send(struct people *pe, const char *method, const char *path, struct dbx_buf *buf,
                struct dbx_jw **w)
{
    int r = dbx_jw_end(w);
    r = r < 0 ? wrong("this is no text: %s", "an option") : call(pe, method, path, buf);
    dbx_buf_done(buf);
    return r;
}

/* A word of the command line as one component of a path. */
static char *path_of(const char *before, const char *word, const char *behind)
{
    struct dbx_buf out;
    dbx_buf_init(&out, DBX_MAX_HEADER);
    (void)dbx_buf_str(&out, before);
    for (; word && *word; word++)
        if (strchr("/?#%", *word) || (unsigned char)*word <= ' ' || (unsigned char)*word >= 0x7f)
            (void)dbx_buf_printf(&out, "%%%02X", (unsigned char)*word);
        else
            (void)dbx_buf_append(&out, word, 1);
    (void)dbx_buf_str(&out, behind);
    return (char *)dbx_buf_take(&out);
}

static int keys(struct people *pe, const struct args *a)
{
    static const char *const columns[] = {"id", "label", "scopes", "last_used_at", NULL};
    static const char *const made[] = {"id", "key", NULL};
    const char *verb = a->n > 1 ? a->words[1] : "list";
    pe->columns = columns;
    if (dbx_streq(verb, "list"))
        return call(pe, "GET", "/api/keys", NULL);
    if (dbx_streq(verb, "revoke") && a->n == 3) {
        DBX_CLEANUP(dbx_freep) char *path = path_of("/api/keys/", a->words[2], "");
        return call(pe, "DELETE", path, NULL);
    }
    if (!dbx_streq(verb, "create"))
        return wrong("keys list, keys create or keys revoke ID, not '%s'", verb);
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    add(w, "label", a->label);
    add(w, "expires_at", a->expires);
    if (a->scopes) {
        dbx_jw_key(w, "scopes");
        dbx_jw_array(w);
        for (const char *p = a->scopes; *p; p += strcspn(p, ","), p += *p == ',')
            dbx_jw_strn(w, p, strcspn(p, ","));
        dbx_jw_array_end(w);
    }
    dbx_jw_object_end(w);
    pe->columns = made;
    return send(pe, "POST", "/api/keys", &buf, &w);
}

static int workspaces(struct people *pe, const struct args *a)
{
    static const char *const columns[] = {"id", "name", "template", "role", NULL};
    const char *verb = a->n > 1 ? a->words[1] : "list";
    pe->columns = columns;
    if (dbx_streq(verb, "list"))
        return call(pe, "GET", "/api/workspaces?limit=200", NULL);
    if (dbx_streq(verb, "delete") && a->n == 3) {
        DBX_CLEANUP(dbx_freep) char *path = path_of("/api/workspaces/", a->words[2], "");
        return call(pe, "DELETE", path, NULL);
    }
    if (!dbx_streq(verb, "create") || a->n < 3)
        return wrong("workspaces list, workspaces create NAME or workspaces delete ID, not '%s'",
                     verb);
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "name", a->words[2]);
    dbx_jw_kstr(w, "template", a->template ? a->template : "python");
    dbx_jw_object_end(w);
    return send(pe, "POST", "/api/workspaces", &buf, &w);
}

/* With an e-mail a member, else a link. */
static int share(struct people *pe, const struct args *a)
{
    static const char *const link[] = {"id", "url", NULL}, *const member[] = {"email", "role",
                                                                              NULL};
    if (a->n != 2)
        return wrong("share ID [--role viewer|editor] [--email ADDRESS] [--expires TIME]%s", "");
    DBX_CLEANUP(dbx_freep)
    char *path = path_of("/api/workspaces/", a->words[1], a->email ? "/members/" : "/links");
    DBX_CLEANUP(dbx_freep) char *whole = path_of(path, a->email, "");
    struct dbx_buf buf;
    dbx_buf_init(&buf, DBX_MAX_HEADER);
    struct dbx_jw *w = dbx_jw_new(&buf);
    dbx_jw_object(w);
    dbx_jw_kstr(w, "role", a->role ? a->role : "viewer");
    add(w, "expires_at", a->expires);
    dbx_jw_object_end(w);
    pe->columns = a->email ? member : link;
    return send(pe, a->email ? "PUT" : "POST", whole, &buf, &w);
}

static const struct {
    const char *name;
    int (*run)(struct people *pe, const struct args *a);
} commands[] = {{"login", NULL}, {"keys", keys}, {"workspaces", workspaces}, {"share", share}};

bool cli_people_command(const char *name)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(commands); i++)
        if (dbx_streq(name, commands[i].name))
            return true;
    return false;
}

int cli_people(const struct cli_people_opts *opts, int argc, char **argv)
{
    struct dbx_err err = {0};
    struct args a = {0};
    (void)argc;
    int code = parse(argv, &a);
    if (code)
        return code;
    if (dbx_streq(a.words[0], "login"))
        return cli_login(opts->urls, opts->ca_file, a.email);
    if (!opts->key)
        return wrong("who are you? devbox login, or DEVBOX_API_KEY%s", "");
    struct people pe = {.loop = dbx_loop_new()};
    if (cli_api_new(pe.loop, opts->urls, opts->key, opts->ca_file, &pe.api, &err) < 0) {
        cli_say("%s", err.msg);
        dbx_loop_free(pe.loop);
        return CLI_EXIT_DEVBOX;
    }
    for (size_t i = 0; i < DBX_ARRAY_LEN(commands); i++)
        if (dbx_streq(a.words[0], commands[i].name))
            code = commands[i].run(&pe, &a);
    cli_api_close(pe.api);
    dbx_loop_free(pe.loop);
    cli_api_free(pe.api);
    return code;
}
