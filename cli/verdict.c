/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/verdict.h"

#include <signal.h>
#include <stdio.h>

#include "common/base/str.h"
#include "common/proto/limits.h"

static int signal_number(const char *name)
{
    for (int n = 1; name && n <= SIGRTMAX; n++)
        if (dbx_streq(dbx_signal_name(n), name))
            return n;
    return 0;
}

/* `devbox run` asks for no limits of its own, so the defaults held. */
static void limit_words(enum dbx_verdict v, char *words, size_t size)
{
    const struct dbx_limits *l = &dbx_limits_default;
    switch (v) {
    case DBX_V_TIME_LIMIT:
        snprintf(words, size, "stopped at the %lld s CPU time limit", (long long)l->cpu_ms / 1000);
        break;
    case DBX_V_WALL_LIMIT:
        snprintf(words, size, "stopped at the %lld s time limit", (long long)l->wall_ms / 1000);
        break;
    case DBX_V_MEMORY_LIMIT:
        snprintf(words, size, "stopped at the %lld MB memory limit", (long long)l->memory_mb);
        break;
    case DBX_V_OUTPUT_LIMIT:
        snprintf(words, size, "stopped at the %lld MB output limit",
                 (long long)l->output_bytes >> 20);
        break;
    case DBX_V_PROCESS_LIMIT:
        snprintf(words, size, "failed at the limit of %lld processes", (long long)l->processes);
        break;
    default:
        snprintf(words, size, "failed at the %lld MB disk limit", (long long)l->disk_mb);
        break;
    }
}

static int cancelled(const struct cli_end *end, char *words, size_t size)
{
    if (end->signalled)
        return CLI_EXIT_SIGNAL + end->signalled;
    snprintf(words, size, "the execution was cancelled");
    return CLI_EXIT_DEVBOX;
}

int cli_exit_code(const struct cli_end *end, char *words, size_t size)
{
    enum dbx_verdict v = end->verdict ? dbx_verdict_parse(end->verdict) : DBX_V_NONE;
    int signo;
    words[0] = '\0';
    switch (v) {
    case DBX_V_OK:
        return 0;
    case DBX_V_EXIT_CODE:
        if (end->exit_code >= 0 && end->exit_code <= 255)
            return (int)end->exit_code;
        break;
    case DBX_V_SIGNAL:
        signo = signal_number(end->signal);
        if (signo)
            return CLI_EXIT_SIGNAL + signo;
        break;
    case DBX_V_TIME_LIMIT:
    case DBX_V_WALL_LIMIT:
    case DBX_V_MEMORY_LIMIT:
    case DBX_V_OUTPUT_LIMIT:
    case DBX_V_PROCESS_LIMIT:
    case DBX_V_DISK_LIMIT:
        limit_words(v, words, size);
        return CLI_EXIT_LIMIT;
    case DBX_V_COMPILE_ERROR:
        snprintf(words, size, "the program does not compile");
        return CLI_EXIT_COMPILE;
    case DBX_V_CANCELLED:
        return cancelled(end, words, size);
    case DBX_V_NODE_LOST:
        snprintf(words, size, "the machine it ran on was lost; how it ended is not known");
        return CLI_EXIT_DEVBOX;
    case DBX_V_NONE:
    case DBX_V_INTERNAL:
        break;
    }
    snprintf(words, size, "DevBox failed to run it (%.40s)",
             end->verdict ? end->verdict : "no verdict");
    return CLI_EXIT_DEVBOX;
}
