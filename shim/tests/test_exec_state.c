/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/exec.h"
#include "tests/unit/check.h"

int main(void)
{
    for (int from = 0; from < SHIM_EX_STATES; from++) {
        CHECK(shim_exec_may(from, SHIM_EX_ENDED) == (from != SHIM_EX_ENDED));
        CHECK(!shim_exec_may(from, from));
        CHECK((shim_exec_deadline_ms(from) == 0) == (from == SHIM_EX_ENDED));
        CHECK(strcmp(shim_exec_state_name(from), "unknown") != 0);
        for (int to = 0; to < SHIM_EX_STATES; to++) {
            CHECK(!shim_exec_may(SHIM_EX_ENDED, to));
            if (shim_exec_may(from, to)) /* only running comes again, behind a compiler's end */
                CHECK(to > from || (from == SHIM_EX_DRAINING && to == SHIM_EX_RUNNING));
        }
        if (from < SHIM_EX_SHIPPING)
            CHECK(shim_exec_may(from, SHIM_EX_SHIPPING));
    }
    CHECK(shim_exec_may(SHIM_EX_PREPARING, SHIM_EX_COMPILING));
    CHECK(shim_exec_may(SHIM_EX_PREPARING, SHIM_EX_RUNNING));
    CHECK(!shim_exec_may(SHIM_EX_COMPILING, SHIM_EX_RUNNING));
    CHECK(!shim_exec_may(SHIM_EX_QUEUED, SHIM_EX_PREPARING));
    CHECK(!shim_exec_may(SHIM_EX_STATES, SHIM_EX_ENDED));
    CHECK_STR(shim_exec_state_name(SHIM_EX_DRAINING), "draining");
    return check_result();
}
