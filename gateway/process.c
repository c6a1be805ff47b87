/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/process.h"

#include <errno.h>

#include "common/base/str.h"

int gw_end_read(const char *status, const char *verdict, const struct dbx_json *outcome,
                struct gw_end *ret)
{
    static const char *const open_states[] = {"pending", "running"};
    static const char *const terminal_states[] = {"completed", "failed", "cancelled"};
    struct gw_end end = {0};
    bool known = false;
    for (size_t i = 0; i < DBX_ARRAY_LEN(open_states); i++)
        known |= dbx_streq(status, open_states[i]);
    for (size_t i = 0; i < DBX_ARRAY_LEN(terminal_states); i++)
        end.terminal |= dbx_streq(status, terminal_states[i]);
    if (!known && !end.terminal)
        return -EINVAL;
    (void)dbx_strcpy(end.status, sizeof(end.status), status);
    end.verdict = verdict ? dbx_verdict_parse(verdict) : DBX_V_NONE;
    if (end.terminal && dbx_json_type(outcome) == DBX_JSON_OBJECT) {
        const struct dbx_json *compile = dbx_json_get(outcome, "compile");
        const struct dbx_json *run = dbx_json_get(outcome, "run");
        end.has_outcome = true;
        end.compiled = dbx_json_type(compile) == DBX_JSON_OBJECT &&
                       dbx_outcome_read(compile, &end.compile, NULL) == 0;
        end.ran =
            dbx_json_type(run) == DBX_JSON_OBJECT && dbx_outcome_read(run, &end.run, NULL) == 0;
    }
    *ret = end;
    return 0;
}
