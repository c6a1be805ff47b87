/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/verdict.h"
#include "tests/unit/check.h"

static const struct {
    struct cli_end end;
    int code;
    const char *words;
} cases[] = {
    {{"OK", NULL, 0, 0}, 0, ""},
    {{"EXIT_CODE", NULL, 5, 0}, 5, ""},
    {{"EXIT_CODE", NULL, 255, 0}, 255, ""},
    {{"EXIT_CODE", NULL, -1, 0}, 125, "DevBox failed to run it (EXIT_CODE)"},
    {{"EXIT_CODE", NULL, 256, 0}, 125, "DevBox failed to run it (EXIT_CODE)"},
    {{"SIGNAL", "SIGSEGV", -1, 0}, 139, ""},
    {{"SIGNAL", "SIGTERM", -1, 0}, 143, ""},
    {{"SIGNAL", "SIG34", -1, 0}, 162, ""},
    {{"SIGNAL", "SIGNONSENSE", -1, 0}, 125, "DevBox failed to run it (SIGNAL)"},
    {{"SIGNAL", NULL, -1, 0}, 125, "DevBox failed to run it (SIGNAL)"},
    {{"TIME_LIMIT", "SIGKILL", -1, 0}, 124, "stopped at the 10 s CPU time limit"},
    {{"WALL_LIMIT", NULL, -1, 0}, 124, "stopped at the 30 s time limit"},
    {{"MEMORY_LIMIT", NULL, -1, 0}, 124, "stopped at the 256 MB memory limit"},
    {{"OUTPUT_LIMIT", NULL, -1, 0}, 124, "stopped at the 16 MB output limit"},
    {{"PROCESS_LIMIT", NULL, 1, 0}, 124, "failed at the limit of 64 processes"},
    {{"DISK_LIMIT", NULL, 1, 0}, 124, "failed at the 256 MB disk limit"},
    {{"COMPILE_ERROR", NULL, 1, 0}, 1, "the program does not compile"},
    {{"CANCELLED", NULL, -1, 0}, 125, "the execution was cancelled"},
    {{"CANCELLED", NULL, -1, 2}, 130, ""},
    {{"NODE_LOST", NULL, -1, 0}, 125, "the machine it ran on was lost; how it ended is not known"},
    {{"INTERNAL", NULL, -1, 0}, 125, "DevBox failed to run it (INTERNAL)"},
    {{"SURPRISE", NULL, 0, 0}, 125, "DevBox failed to run it (SURPRISE)"},
    {{NULL, NULL, 0, 0}, 125, "DevBox failed to run it (no verdict)"},
    {{"OK", NULL, 0, 2}, 0, ""}, /* it was quicker than the cancel */
};

int main(void)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(cases); i++) {
        char words[160];
        CHECK_EQ(cli_exit_code(&cases[i].end, words, sizeof(words)), cases[i].code);
        CHECK_STR(words, cases[i].words);
    }
    return check_result();
}
