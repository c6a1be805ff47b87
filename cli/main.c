/* SPDX-License-Identifier: Apache-2.0 */
/* devbox-cli: the client of a DevBox, wherever it runs. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/batch.h"
#include "cli/people.h"
#include "cli/run.h"
#include "cli/verdict.h"
#include "common/base/str.h"

static void usage(FILE *to)
{
    fputs(
        "usage: devbox-cli run [--template NAME] FILE|DIR [-- ARGUMENTS]\n"
        "\n"
        "Runs a program in a sandbox: its input, output and exit code are those of this command.\n"
        "A file is run by the template of its extension; a folder is sent as it is (not hidden\n"
        "folders, node_modules, target, __pycache__; at most 1000 files, 6 MiB) and is run by\n"
        "what it begins with: main.py, main.js, package.json, go.mod, main.go, Cargo.toml or\n"
        "main.rs. What the compiler says goes to stderr. Ctrl-C stops the program, a second one\n"
        "leaves at once.\n"
        "\n"
        "exit code: the program's own; 128 + N when signal N ended it; 124 at a limit; 1 when it\n"
        "does not compile; 125 when DevBox failed or was asked for something wrong.\n"
        "\n"
        "       devbox-cli login [--email ADDRESS]    a key for this machine, kept in "
        "~/.config/devbox\n"
        "       devbox-cli keys [list | create [--label L] [--scopes A,B] [--expires TIME] | "
        "revoke ID]\n"
        "       devbox-cli workspaces [list | create NAME [--template T] | delete ID]\n"
        "       devbox-cli share ID [--role viewer|editor] [--email ADDRESS] [--expires TIME]\n"
        "\n"
        "       devbox-cli batch run FILE [--template T] [--isolation execution|batch]\n"
        "                  [--retry never|safe] [--junit FILE]\n"
        "       devbox-cli batch watch ID [--junit FILE]\n"
        "\n"
        "FILE is the body of POST /api/batches, or one execution of it a line (then --template\n"
        "says of what); - is stdin. On a terminal it tells what failed, else a line of JSON for\n"
        "each result as it comes, and the batch at the end. Exit code 0 when all passed, 1 when\n"
        "not. Ctrl-C leaves; the batch goes on, and watch shows it from its begin.\n"
        "\n"
        "These print a table on a terminal, else JSON.\n"
        "\n"
        "environment: DEVBOX_URL      gateways, separated by commas\n"
        "             DEVBOX_API_KEY  (default: what login kept)\n"
        "             DEVBOX_CA_FILE  certificates to trust for https (default: the system's)\n",
        to);
}

/* Descriptors 0 to 2 that the caller closed would become sockets of ours. */
static void fill_standard_fds(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)!open("/dev/null", O_RDWR);
}

static int wrong(const char *what, const char *arg)
{
    cli_say(what, arg);
    usage(stderr);
    return CLI_EXIT_DEVBOX;
}

static const char *env(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

/* argv behind "run". *ret_help: only the usage is wanted. */
static int parse(char **argv, struct cli_run_opts *o, bool *ret_help)
{
    static char *const none[] = {NULL};
    o->args = none;
    for (; *argv; argv++) {
        const char *arg = *argv;
        if (strcmp(arg, "--") == 0) {
            o->args = argv + 1;
            break;
        }
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            *ret_help = true;
            return 0;
        }
        if (strcmp(arg, "--template") == 0) {
            if (!argv[1])
                return wrong("%s needs a name", arg);
            o->template = *++argv;
        } else if (dbx_starts_with(arg, "--template=")) {
            o->template = arg + strlen("--template=");
        } else if (arg[0] == '-' && arg[1]) {
            return wrong("unknown option %s (arguments of the program go behind --)", arg);
        } else if (o->path) {
            return wrong("one file or folder, not also '%s' (arguments go behind --)", arg);
        } else {
            o->path = arg;
        }
    }
    return o->path ? 0 : wrong("which file or folder?%s", "");
}

int main(int argc, char **argv)
{
    struct cli_run_opts o = {
        .urls = env("DEVBOX_URL"), .key = env("DEVBOX_API_KEY"), .ca_file = env("DEVBOX_CA_FILE")};
    bool help = argc > 1 && (dbx_streq(argv[1], "--help") || dbx_streq(argv[1], "-h") ||
                             dbx_streq(argv[1], "help"));
    fill_standard_fds();
    bool batch = argc > 1 && dbx_streq(argv[1], "batch");
    bool people = batch || (argc > 1 && cli_people_command(argv[1]));
    if (!help && !people && (argc < 2 || strcmp(argv[1], "run") != 0))
        return wrong("unknown command '%s'", argc < 2 ? "" : argv[1]);
    int r = help || people ? 0 : parse(argv + 2, &o, &help);
    if (help) {
        usage(stdout);
        return 0;
    }
    if (r)
        return r;
    if (!o.urls) {
        cli_say("DEVBOX_URL says which DevBox to use, and is not set");
        return CLI_EXIT_DEVBOX;
    }
    DBX_CLEANUP(dbx_freep) char *kept = o.key ? NULL : cli_kept_key(o.urls);
    if (!o.key)
        o.key = kept;
    const struct cli_people_opts who = {.urls = o.urls, .key = o.key, .ca_file = o.ca_file};
    if (batch)
        return cli_batch(&who, argv + 1);
    return people ? cli_people(&who, argc - 1, argv + 1) : cli_run(&o);
}
