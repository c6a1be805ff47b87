/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/login.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "cli/people.h"
#include "cli/run.h"
#include "cli/verdict.h"
#include "common/base/fs.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/io/http_client.h"
#include "common/io/loop.h"

#define MAX_LINE 1200
#define MAX_KEYS (64u << 10)
#define COOKIE "__Host-devbox="

struct login {
    struct dbx_loop *loop;
    char *url; /* owned: the first gateway */
    const char *ca_file;
    int status;
    char cookie[128], csrf[64], key[128], words[300];
};

/* --- what is kept: lines "URL KEY" --- */

static char *first_url(const char *urls)
{
    size_t len = strcspn(urls, ",");
    while (len > 0 && urls[len - 1] == '/')
        len--;
    return dbx_strndup(urls, len);
}

/* Where; caller frees. NULL: there is no home. */
static char *folder(void)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (config && *config)
        return dbx_asprintf("%s/devbox", config);
    return home && *home ? dbx_asprintf("%s/.config/devbox", home) : NULL;
}

static int read_kept(struct dbx_buf *ret)
{
    DBX_CLEANUP(dbx_freep) char *dir = folder();
    if (!dir)
        return -ENOENT;
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/keys", dir);
    return dbx_fs_read(path, MAX_KEYS, ret, NULL);
}

char *cli_kept_key(const char *urls)
{
    DBX_CLEANUP(dbx_freep) char *url = first_url(urls);
    size_t n = strlen(url);
    struct dbx_buf buf;
    char *key = NULL;
    if (read_kept(&buf) < 0)
        return NULL;
    for (const char *p = dbx_buf_cstr(&buf); *p && !key; p += strcspn(p, "\n"), p += *p == '\n')
        if (strncmp(p, url, n) == 0 && p[n] == ' ')
            key = dbx_strndup(p + n + 1, strcspn(p + n + 1, " \r\n"));
    dbx_buf_done(&buf);
    return key;
}

static int keep(const struct login *lo, struct dbx_err *err)
{
    DBX_CLEANUP(dbx_freep) char *dir = folder();
    size_t n = strlen(lo->url);
    struct dbx_buf old, all;
    if (!dir)
        return dbx_err_set(err, -ENOENT, DBX_NOT_FOUND, "HOME is not set: nowhere to keep the key");
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("%s/keys", dir);
    int r = dbx_fs_mkdirs(dir, 0700, err);
    if (r < 0)
        return r;
    dbx_buf_init(&all, MAX_KEYS + MAX_LINE);
    (void)dbx_buf_printf(&all, "%s %s\n", lo->url, lo->key);
    if (read_kept(&old) == 0) {
        for (const char *p = dbx_buf_cstr(&old); *p;) {
            size_t len = strcspn(p, "\n");
            if (len > 0 && !(strncmp(p, lo->url, n) == 0 && p[n] == ' '))
                (void)dbx_buf_printf(&all, "%.*s\n", (int)len, p);
            p += len + (p[len] == '\n');
        }
        dbx_buf_done(&old);
    }
    r = dbx_fs_write_atomic(path, all.data, all.len, 0600, err);
    explicit_bzero(all.data, all.len);
    dbx_buf_done(&all);
    return r;
}

/* --- asking the person --- */

/* One line, without its end; false at the end of the input. */
static bool read_line(const char *prompt, bool hidden, char out[static MAX_LINE])
{
    struct termios old, quiet;
    bool terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &old) == 0;
    if (terminal) {
        fputs(prompt, stderr);
        quiet = old;
        quiet.c_lflag &= (tcflag_t) ~(unsigned)ECHO;
        if (hidden)
            (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
    }
    bool ok = fgets(out, MAX_LINE, stdin) != NULL;
    if (terminal && hidden) {
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
        fputc('\n', stderr);
    }
    if (ok)
        out[strcspn(out, "\r\n")] = '\0';
    return ok;
}

/* --- two calls: a session, then a key of it --- */

/* What an answer does not have stays as it was. */
static void take(char *out, size_t size, const char *value)
{
    if (value)
        (void)dbx_strcpy(out, size, value);
}

static void on_answer(struct dbx_fetch *f, const struct dbx_fetch_result *result, void *user)
{
    struct login *lo = user;
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    const char *cookie = dbx_fetch_header(f, "set-cookie");
    lo->status = result->status;
    if (result->status == 0) {
        snprintf(lo->words, sizeof(lo->words), "no DevBox answers at %.100s: %.150s", lo->url,
                 result->err->msg);
    } else if (dbx_json_parse(result->body->data, result->body->len, NULL, &doc, NULL) == 0) {
        const struct dbx_json *root = dbx_json_root(doc);
        const char *words = dbx_json_get_str(dbx_json_get(root, "error"), "message");
        (void)dbx_strcpy(lo->words, sizeof(lo->words), words ? words : "");
        take(lo->csrf, sizeof(lo->csrf), dbx_json_get_str(root, "csrf_token"));
        take(lo->key, sizeof(lo->key), dbx_json_get_str(root, "key"));
    }
    if (cookie && dbx_starts_with(cookie, COOKIE))
        snprintf(lo->cookie, sizeof(lo->cookie), "Cookie: %.*s", (int)strcspn(cookie, ";"), cookie);
    dbx_loop_stop(lo->loop, 0);
}

static int post(struct login *lo, const char *path, const struct dbx_buf *body, bool signed_in)
{
    DBX_CLEANUP(dbx_freep) char *url = dbx_asprintf("%s%s", lo->url, path);
    DBX_CLEANUP(dbx_freep) char *csrf = dbx_asprintf("X-CSRF-Token: %s", lo->csrf);
    const char *const headers[] = {"Content-Type: application/json", signed_in ? csrf : NULL,
                                   signed_in ? lo->cookie : NULL, NULL};
    const struct dbx_fetch_opts opts = {.method = "POST",
                                        .url = url,
                                        .headers = headers,
                                        .body = body->data,
                                        .body_len = body->len,
                                        .ca_file = lo->ca_file};
    struct dbx_http_client *http = dbx_http_client_new(lo->loop);
    dbx_fetch(http, &opts, on_answer, lo);
    (void)dbx_loop_run(lo->loop);
    dbx_http_client_free(http);
    return lo->status;
}

static int write_pair(struct dbx_buf *buf, const char *a, const char *av, const char *b,
                      const char *bv)
{
    struct dbx_jw *w = dbx_jw_new(buf);
    dbx_jw_object(w);
    dbx_jw_kstr(w, a, av);
    if (b)
        dbx_jw_kstr(w, b, bv);
    dbx_jw_object_end(w);
    return dbx_jw_end(&w);
}

static int enter(struct login *lo, const char *email, const char *password, struct dbx_err *err)
{
    char host[64] = "", label[80];
    struct dbx_buf body;
    dbx_buf_init(&body, DBX_MAX_HEADER);
    int r = write_pair(&body, "email", email, "password", password);
    if (r == 0 && post(lo, "/api/auth/login", &body, false) != 200)
        r = -EACCES;
    if (body.data)
        explicit_bzero(body.data, body.len);
    dbx_buf_clear(&body);
    (void)gethostname(host, sizeof(host) - 1);
    snprintf(label, sizeof(label), "login on %s", host);
    if (r == 0)
        r = write_pair(&body, "label", label, NULL, NULL);
    if (r == 0 && post(lo, "/api/keys", &body, true) != 201)
        r = -EACCES;
    dbx_buf_clear(&body);
    (void)dbx_buf_str(&body, "{}");
    if (r == 0)
        (void)post(lo, "/api/auth/logout", &body, true); /* the key is enough from here on */
    dbx_buf_done(&body);
    return r < 0 ? dbx_err_set(err, r, DBX_DENIED, "%s",
                               *lo->words ? lo->words : "the gateway did not understand")
                 : 0;
}

int cli_login(const char *urls, const char *ca_file, const char *email)
{
    char asked[MAX_LINE], password[MAX_LINE];
    struct dbx_err err = {0};
    if (!email && read_line("E-mail: ", false, asked))
        email = asked;
    if (!email || !read_line("Password: ", true, password)) {
        cli_say("who are you? give --email, and the password as a line of input");
        return CLI_EXIT_DEVBOX;
    }
    struct login lo = {.loop = dbx_loop_new(), .url = first_url(urls), .ca_file = ca_file};
    int r = enter(&lo, email, password, &err);
    explicit_bzero(password, sizeof(password));
    if (r == 0)
        r = keep(&lo, &err);
    if (r < 0)
        cli_say("%s", err.msg);
    else
        cli_say("signed in at %s as %s", lo.url, email);
    explicit_bzero(lo.key, sizeof(lo.key));
    free(lo.url);
    dbx_loop_free(lo.loop);
    return r < 0 ? CLI_EXIT_DEVBOX : 0;
}
