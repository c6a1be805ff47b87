/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/args.h"

#include <string.h>

#include "cli/run.h"
#include "cli/verdict.h"
#include "common/base/str.h"

static int wrong(const char *fmt, const char *arg)
{
    cli_say(fmt, arg);
    return CLI_EXIT_DEVBOX;
}

int cli_args_read(char **argv, const struct cli_option *options, size_t n_options,
                  const char **words, size_t max, size_t *ret_n)
{
    *ret_n = 0;
    for (; *argv; argv++) {
        size_t i = 0;
        if (!dbx_starts_with(*argv, "--")) {
            if (*ret_n == max)
                return wrong("too many words: '%s'", *argv);
            words[(*ret_n)++] = *argv;
            continue;
        }
        while (i < n_options && strcmp(*argv, options[i].name) != 0)
            i++;
        if (i == n_options)
            return wrong("unknown option %s", *argv);
        if (!argv[1])
            return wrong("%s needs a value", *argv);
        *options[i].value = *++argv;
    }
    return 0;
}
