/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a run: collect the files, ask which templates there are (for a single file), submit,
 * follow the stream until its terminal status, write out what waits, exit.
 *
 * Input goes one piece at a time: the next is read when the last was taken, so a pipe into us is
 * held back by the program's own pace. Output is acknowledged once it piles up here, so the log
 * holds it for us and not our memory. */
#include "cli/run.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/api.h"
#include "cli/follow.h"
#include "cli/input.h"
#include "cli/output.h"
#include "cli/plan.h"
#include "cli/verdict.h"
#include "common/base/buf.h"
#include "common/base/rand.h"
#include "common/base/str.h"
#include "common/ext/json.h"
#include "common/io/loop.h"

#define SUBMIT_MS 5000u       /* how long gateways that are away are tried */
#define CANCEL_MS 10000u      /* how long a cancelled program's end is waited for */
#define INPUT_AGAIN_MS 50u    /* the program did not read: its last piece is offered again */
#define ACK_FROM (256u << 10) /* so much waiting output makes us acknowledge */
#define ACK_EACH (16u << 10)

enum { OUT, ERR };

struct run {
    const struct cli_run_opts *opts;
    struct dbx_loop *loop;
    struct cli_api *api;
    struct cli_files files;
    struct cli_plan plan;
    struct cli_follow *follow;
    char *execution; /* NULL until it was accepted */
    struct cli_output *out[2];
    bool one_out; /* both are the same file, and out[OUT] */
    bool acking;
    uint64_t acked;

    struct cli_input *in;
    uint8_t piece[CLI_INPUT_PIECE]; /* on its way */
    size_t piece_len;
    uint64_t piece_seq;
    bool in_started, in_done, eof_wanted;
    struct dbx_timer *in_again;

    int signalled;
    struct dbx_timer *cancel_timer;
    bool cancelling; /* a DELETE is on its way */
    bool over;
    int code;
    char words[160];
};

void cli_say(const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (int i = 0; i < n && text[i]; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
    bool colour = isatty(STDERR_FILENO) && !getenv("NO_COLOR");
    fprintf(stderr, colour ? "\x1b[1;31mdevbox:\x1b[0m %s\n" : "devbox: %s\n", text);
}

/* --- the end --- */

static size_t waiting(const struct run *r)
{
    return cli_output_waiting(r->out[OUT]) + (r->one_out ? 0 : cli_output_waiting(r->out[ERR]));
}

static void leave_when_done(struct run *r)
{
    if (!r->over || r->cancelling || waiting(r) > 0)
        return;
    if (r->words[0])
        cli_say("%s", r->words); /* behind what the program itself said */
    r->words[0] = '\0';
    dbx_loop_stop(r->loop, r->code);
}

static void finish(struct run *r, int code)
{
    if (r->over)
        return;
    r->over = true;
    r->code = code;
    cli_follow_close(r->follow);
    dbx_timer_stop(r->in_again);
    leave_when_done(r);
}

static void fail(struct run *r, const struct dbx_err *err)
{
    if (!r->over && !r->signalled)
        cli_say("%s", err->msg);
    finish(r, r->signalled ? CLI_EXIT_SIGNAL + r->signalled : CLI_EXIT_DEVBOX);
}

/* --- output --- */

static void on_written(void *user)
{
    struct run *r = user;
    size_t left = waiting(r);
    leave_when_done(r);
    if (!r->acking || !cli_follow_is_open(r->follow))
        return;
    uint64_t received = cli_follow_received(r->follow);
    uint64_t done = received > left ? received - left : 0;
    if (done >= r->acked + ACK_EACH) {
        r->acked = done;
        cli_follow_ack(r->follow, done);
    }
}

static void cancel(struct run *r);

/* Nobody reads what the program says: like SIGPIPE, but for the program. */
static void on_failed(int error, void *user)
{
    struct run *r = user;
    if (error != -EPIPE)
        cli_say("cannot write the output: %s", strerror(-error));
    if (r->over) {
        r->code = error == -EPIPE ? CLI_EXIT_SIGNAL + SIGPIPE : CLI_EXIT_DEVBOX;
        leave_when_done(r);
        return;
    }
    if (r->execution && !r->cancelling)
        cancel(r);
    finish(r, error == -EPIPE ? CLI_EXIT_SIGNAL + SIGPIPE : CLI_EXIT_DEVBOX);
}

static void show(struct run *r, const struct cli_msg *m)
{
    int which = m->is_stderr || m->compile ? ERR : OUT;
    cli_output_write(r->out[which], m->data, m->len);
    if (!r->acking && waiting(r) > ACK_FROM) {
        r->acking = true;
        r->acked = 0;
        cli_follow_ack(r->follow, 0);
    }
}

static void open_outputs(struct run *r)
{
    static const struct cli_output_handlers handlers = {.on_written = on_written,
                                                        .on_failed = on_failed};
    struct stat a, b;
    r->one_out = fstat(STDOUT_FILENO, &a) == 0 && fstat(STDERR_FILENO, &b) == 0 &&
                 a.st_dev == b.st_dev && a.st_ino == b.st_ino && !S_ISREG(a.st_mode);
    r->out[OUT] = cli_output_new(r->loop, STDOUT_FILENO, &handlers, r);
    r->out[ERR] = r->one_out ? r->out[OUT] : cli_output_new(r->loop, STDERR_FILENO, &handlers, r);
}

/* --- input --- */

static void send_piece(void *user)
{
    struct run *r = user;
    if (!cli_follow_is_open(r->follow) || r->in_done)
        return;
    if (r->piece_len)
        (void)cli_follow_input(r->follow, r->piece, r->piece_len, r->piece_seq);
    else if (r->eof_wanted)
        (void)cli_follow_eof(r->follow);
}

static void on_piece(const uint8_t *data, size_t len, void *user)
{
    struct run *r = user;
    memcpy(r->piece, data, len);
    r->piece_len = len;
    r->piece_seq++;
    send_piece(r);
}

static void on_input_end(void *user)
{
    struct run *r = user;
    r->eof_wanted = true;
    send_piece(r);
}

static void start_input(struct run *r)
{
    if (r->in_started)
        return;
    r->in_started = true;
    cli_input_next(r->in);
}

static void stop_input(struct run *r)
{
    r->in_done = true;
    r->piece_len = 0;
    r->in = cli_input_free(r->in);
}

static void on_taken(struct run *r, int64_t seq)
{
    if (r->piece_len && seq == (int64_t)r->piece_seq) {
        r->piece_len = 0;
        if (!r->in_done)
            cli_input_next(r->in);
    }
}

/* What was read last may have been lost with the connection, or not: it is not given twice. */
static void input_lost(struct run *r)
{
    if (r->piece_len) {
        cli_say("the connection was lost while input was on its way; some of it may be missing");
        r->piece_len = 0;
        if (!r->in_done)
            cli_input_next(r->in);
    }
    if (r->eof_wanted)
        send_piece(r);
}

static void on_stream_error(struct run *r, const struct cli_msg *m)
{
    if (dbx_streq(m->code, "input_full")) {
        dbx_timer_start(r->in_again, INPUT_AGAIN_MS, 0);
        return;
    }
    if (!dbx_streq(m->code, "stdin_closed") && !dbx_streq(m->code, "not_running"))
        cli_say("%s", m->message);
    if (!r->in_done) {
        stop_input(r);
        (void)cli_follow_eof(r->follow); /* rather an end than a program that waits for more */
    }
}

/* --- following --- */

static void on_end(struct run *r, const struct cli_msg *m)
{
    struct cli_end end = {.verdict = m->verdict,
                          .signal = m->signal,
                          .exit_code = m->exit_code,
                          .signalled = r->signalled};
    finish(r, cli_exit_code(&end, r->words, sizeof(r->words)));
}

static void on_open(bool again, void *user)
{
    struct run *r = user;
    r->acking = false;
    if (again)
        input_lost(r);
}

static void on_message(const struct cli_msg *m, void *user)
{
    struct run *r = user;
    if (r->over)
        return;
    switch (m->type) {
    case CLI_MSG_OUTPUT:
        show(r, m);
        break;
    case CLI_MSG_STATUS:
        if (m->ended)
            on_end(r, m);
        else if (m->running && !m->compile)
            start_input(r);
        break;
    case CLI_MSG_GAP:
        cli_say("bytes %lld to %lld of %s are no longer kept", (long long)m->from, (long long)m->to,
                m->is_stderr ? "stderr" : "stdout");
        break;
    case CLI_MSG_INPUT_TAKEN:
        on_taken(r, m->seq);
        break;
    case CLI_MSG_ERROR:
        on_stream_error(r, m);
        break;
    case CLI_MSG_LOG:
        cli_say("%s", m->message ? m->message : "the output log is there again");
        break;
    case CLI_MSG_OTHER:
        break;
    }
}

static void on_lost(const struct dbx_err *err, void *user)
{
    fail(user, err);
}

static void on_accepted(int status, const struct dbx_json *root, const struct dbx_err *err,
                        void *user)
{
    static const struct cli_follow_handlers handlers = {
        .on_open = on_open, .on_message = on_message, .on_lost = on_lost};
    struct run *r = user;
    struct cli_follow_opts o = {.loop = r->loop,
                                .api = r->api,
                                .execution = dbx_json_get_str(root, "id"),
                                .process = dbx_json_get_str(root, "process_id"),
                                .sandbox = dbx_json_get_str(root, "sandbox_id"),
                                .token = dbx_json_get_str(root, "stream_token")};
    struct dbx_err odd = {0};
    if (r->over)
        return;
    if (status == 0 || status >= 300) {
        fail(r, err);
        return;
    }
    if (!o.execution || !o.process || !o.sandbox || !o.token) {
        (void)dbx_err_set(&odd, -EPROTO, DBX_INTERNAL,
                          "%.100s does not answer as a DevBox gateway does", cli_api_url(r->api));
        fail(r, &odd);
        return;
    }
    r->execution = dbx_strdup(o.execution);
    r->follow = cli_follow_new(&o, &handlers, r);
    if (r->signalled)
        cancel(r);
}

/* --- submitting --- */

static void submit(struct run *r)
{
    uint8_t random[16];
    char key[2 * sizeof(random) + 1];
    struct dbx_err err = {0};
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf body = {0};
    dbx_buf_init(&body, DBX_MAX_BODY);
    if (r->signalled) {
        finish(r, CLI_EXIT_SIGNAL + r->signalled);
        return;
    }
    if (cli_plan_body(&r->plan, &r->files, r->opts->args, &body, &err) < 0) {
        fail(r, &err);
        return;
    }
    dbx_random(random, sizeof(random));
    dbx_hex_encode(random, sizeof(random), key);
    struct cli_call call = {.method = "POST",
                            .path = "/api/executions",
                            .body = body.data,
                            .body_len = body.len,
                            .idempotency_key = key,
                            .patience_ms = SUBMIT_MS};
    cli_api_call(r->api, &call, on_accepted, r);
    cli_files_done(&r->files);
}

static void on_templates(int status, const struct dbx_json *root, const struct dbx_err *err,
                         void *user)
{
    struct run *r = user;
    struct dbx_err why = {0};
    if (r->over)
        return;
    if (status != 200)
        fail(r, err);
    else if (cli_plan_file(root, r->opts->path, r->opts->template, &r->plan, &why) < 0)
        fail(r, &why);
    else
        submit(r);
}

static void on_skipped(const char *path, const char *why, void *user)
{
    (void)user;
    cli_say("not sent: %s (%s)", path, why);
}

static int begin(struct run *r, struct dbx_err *err)
{
    bool folder = false;
    int rc = cli_collect(r->opts->path, on_skipped, NULL, &r->files, &folder, err);
    if (rc < 0)
        return rc;
    if (folder) {
        rc = cli_plan_folder(&r->files, r->opts->path, r->opts->template, &r->plan, err);
        if (rc == 0)
            submit(r);
        return rc;
    }
    struct cli_call call = {.method = "GET", .path = "/api/templates", .patience_ms = SUBMIT_MS};
    cli_api_call(r->api, &call, on_templates, r);
    return 0;
}

/* --- cancelling --- */

static void on_cancel_late(void *user)
{
    struct run *r = user;
    cli_say("execution %s was told to stop and has not yet", r->execution ? r->execution : "");
    finish(r, CLI_EXIT_SIGNAL + r->signalled);
}

static void on_cancelled(int status, const struct dbx_json *root, const struct dbx_err *err,
                         void *user)
{
    struct run *r = user;
    (void)root;
    r->cancelling = false;
    if ((status == 0 || status >= 500) && !r->over)
        cli_say("cannot cancel: %s", err->msg);
    leave_when_done(r);
}

static void cancel(struct run *r)
{
    DBX_CLEANUP(dbx_freep) char *path = dbx_asprintf("/api/executions/%s", r->execution);
    struct cli_call call = {.method = "DELETE",
                            .path = path,
                            .idempotency_key = path, /* as often as wanted */
                            .patience_ms = SUBMIT_MS};
    r->cancelling = true;
    cli_api_call(r->api, &call, on_cancelled, r);
}

static void on_signal(void *user, int signo)
{
    struct run *r = user;
    if (r->signalled || r->over) {
        dbx_loop_stop(r->loop, CLI_EXIT_SIGNAL + signo);
        return;
    }
    r->signalled = signo;
    dbx_timer_start(r->cancel_timer, CANCEL_MS, 0);
    if (r->execution)
        cancel(r);
}

/* --- the whole --- */

static struct run *run_new(const struct cli_run_opts *opts, struct dbx_err *err)
{
    static const struct cli_input_handlers input_handlers = {.on_piece = on_piece,
                                                             .on_end = on_input_end};
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct dbx_loop *loop = dbx_loop_new();
    struct cli_api *api = NULL;
    if (cli_api_new(loop, opts->urls, opts->key, opts->ca_file, &api, err) < 0) {
        dbx_loop_free(loop);
        return NULL;
    }
    struct run *r = DBX_NEW(struct run);
    r->opts = opts;
    r->loop = loop;
    r->api = api;
    r->in_again = dbx_timer_new(loop, send_piece, r);
    r->cancel_timer = dbx_timer_new(loop, on_cancel_late, r);
    r->in = cli_input_new(loop, STDIN_FILENO, &input_handlers, r);
    open_outputs(r);
    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < DBX_ARRAY_LEN(signals); i++)
        dbx_loop_on_signal(loop, signals[i], on_signal, r);
    return r;
}

static void run_free(struct run *r)
{
    cli_follow_close(r->follow);
    cli_api_close(r->api);
    dbx_timer_free(r->in_again);
    dbx_timer_free(r->cancel_timer);
    cli_input_free(r->in);
    if (!r->one_out)
        cli_output_free(r->out[ERR]);
    cli_output_free(r->out[OUT]);
    dbx_loop_free(r->loop);
    cli_follow_free(r->follow);
    cli_api_free(r->api);
    cli_files_done(&r->files);
    free(r->execution);
    free(r);
}

int cli_run(const struct cli_run_opts *opts)
{
    struct dbx_err err = {0};
    struct run *r = run_new(opts, &err);
    if (!r) {
        cli_say("%s", err.msg);
        return CLI_EXIT_DEVBOX;
    }
    int code = CLI_EXIT_DEVBOX;
    if (begin(r, &err) < 0)
        cli_say("%s", err.msg);
    else
        code = dbx_loop_run(r->loop);
    run_free(r);
    return code;
}
