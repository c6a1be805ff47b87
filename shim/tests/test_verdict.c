/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/verdict.h"
#include "tests/unit/check.h"

#include <signal.h>

static const struct row {
    struct shim_ending e;
    enum dbx_verdict verdict;
    int exit_code, signal;
} rows[] = {
    {{.exited = true}, DBX_V_OK, 0, 0},
    {{.exited = true, .exit_code = 3}, DBX_V_EXIT_CODE, 3, 0},
    {{.exited = true, .exit_code = 255}, DBX_V_EXIT_CODE, 255, 0},
    {{.signal = SIGSEGV}, DBX_V_SIGNAL, -1, SIGSEGV},
    {{0}, DBX_V_INTERNAL, -1, 0},
    {{.sandbox_lost = true}, DBX_V_INTERNAL, -1, 0},
    {{.node_lost = true}, DBX_V_NODE_LOST, -1, 0},
    /* The kill that a limit brought is not the program's signal. */
    {{.cpu_over = true, .signal = SIGKILL}, DBX_V_TIME_LIMIT, -1, 0},
    {{.wall_over = true, .signal = SIGKILL}, DBX_V_WALL_LIMIT, -1, 0},
    {{.output_over = true, .signal = SIGKILL}, DBX_V_OUTPUT_LIMIT, -1, 0},
    {{.oom = true, .signal = SIGKILL}, DBX_V_MEMORY_LIMIT, -1, 0},
    {{.oom = true, .sandbox_lost = true}, DBX_V_MEMORY_LIMIT, -1, 0},
    {{.oom = true, .sandbox_lost = true, .disk_full = true}, DBX_V_MEMORY_LIMIT, -1, 0},
    /* The sandbox died of memory when the count was at its maximum. */
    {{.oom = true, .sandbox_lost = true, .at_process_max = true}, DBX_V_PROCESS_LIMIT, -1, 0},
    {{.oom = true, .at_process_max = true, .signal = SIGKILL}, DBX_V_MEMORY_LIMIT, -1, 0},
    {{.oom = true, .at_process_max = true, .exited = true, .exit_code = 1},
     DBX_V_MEMORY_LIMIT,
     -1,
     0},
    {{.sandbox_lost = true, .at_process_max = true}, DBX_V_INTERNAL, -1, 0},
    {{.cpu_over = true, .sandbox_lost = true}, DBX_V_TIME_LIMIT, -1, 0},
    /* Precedence. */
    {{.cancelled = true, .output_over = true, .oom = true, .exited = true}, DBX_V_CANCELLED, -1, 0},
    {{.output_over = true, .oom = true, .cpu_over = true}, DBX_V_OUTPUT_LIMIT, -1, 0},
    {{.oom = true, .cpu_over = true, .wall_over = true}, DBX_V_MEMORY_LIMIT, -1, 0},
    {{.cpu_over = true, .wall_over = true}, DBX_V_TIME_LIMIT, -1, 0},
    {{.wall_over = true, .disk_full = true, .signal = SIGKILL}, DBX_V_WALL_LIMIT, -1, 0},
    {{.disk_full = true, .at_process_max = true, .exited = true, .exit_code = 1},
     DBX_V_DISK_LIMIT,
     1,
     0},
    {{.at_process_max = true, .exited = true, .exit_code = 1}, DBX_V_PROCESS_LIMIT, 1, 0},
    {{.at_process_max = true, .signal = SIGABRT}, DBX_V_PROCESS_LIMIT, -1, 0},
    /* A program that copes is OK. */
    {{.disk_full = true, .at_process_max = true, .exited = true}, DBX_V_OK, 0, 0},
    {{.node_lost = true, .exited = true}, DBX_V_NODE_LOST, -1, 0},
};

static void check_total(enum dbx_verdict compile, enum dbx_verdict expected)
{
    struct dbx_outcome c = {.verdict = compile};
    CHECK_EQ(shim_verdict_total(&c, NULL), expected);
}

int main(void)
{
    for (size_t i = 0; i < DBX_ARRAY_LEN(rows); i++) {
        struct dbx_outcome out = {0};
        shim_verdict_fill(&rows[i].e, &out);
        if (out.verdict != rows[i].verdict)
            fprintf(stderr, "row %zu\n", i);
        CHECK_EQ(out.verdict, rows[i].verdict);
        CHECK_EQ(out.exit_code, rows[i].exit_code);
        CHECK_EQ(out.signal, rows[i].signal);
    }
    check_total(DBX_V_EXIT_CODE, DBX_V_COMPILE_ERROR);
    check_total(DBX_V_SIGNAL, DBX_V_COMPILE_ERROR);
    check_total(DBX_V_TIME_LIMIT, DBX_V_COMPILE_ERROR);
    check_total(DBX_V_MEMORY_LIMIT, DBX_V_COMPILE_ERROR);
    check_total(DBX_V_CANCELLED, DBX_V_CANCELLED);
    check_total(DBX_V_NODE_LOST, DBX_V_NODE_LOST);
    check_total(DBX_V_INTERNAL, DBX_V_INTERNAL);
    check_total(DBX_V_OK, DBX_V_INTERNAL);
    struct dbx_outcome c = {.verdict = DBX_V_OK}, r = {.verdict = DBX_V_SIGNAL};
    CHECK_EQ(shim_verdict_total(&c, &r), DBX_V_SIGNAL);
    return check_result();
}
