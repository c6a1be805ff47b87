/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DBX_CLEANUP(dbx_json_doc_freep) struct dbx_json_doc *doc = NULL;
    struct sched_hello h;
    struct sched_report rp;
    struct sched_proc *sp;
    struct dbx_err err;

    if (dbx_json_parse(data, size, NULL, &doc, NULL) < 0)
        return 0;
    if (sched_hello_decode(dbx_json_root(doc), &h, &err) == 0)
        sched_hello_done(&h);
    if (sched_report_decode(dbx_json_root(doc), true, &rp, &err) == 0)
        sched_report_done(&rp);
    if (sched_place_decode(dbx_json_root(doc), data, size, true, &sp, &err) == 0)
        sched_proc_free(sp);
    return 0;
}
