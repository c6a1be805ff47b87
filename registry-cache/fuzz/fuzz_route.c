/* SPDX-License-Identifier: Apache-2.0 */
/* A path that is taken names nothing that could leave its place. */
#include "registry-cache/route.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DBX_CLEANUP(dbx_freep) char *path = dbx_strndup((const char *)data, size);
    struct rc_route rt;
    const char *why;

    if (rc_route_parse(path, &rt, &why) == 0) {
        dbx_assert(!strstr(rt.name, "..") || (rt.eco == RC_GO || rt.eco == RC_NPM));
        dbx_assert(strcmp(rt.name, "..") != 0 && !strstr(rt.name, "../") &&
                   !strstr(rt.file, "/../"));
        for (const char *p = rt.name; *p; p++)
            dbx_assert(*p > ' ' && *p < 0x7f && *p != '\\');
    } else {
        dbx_assert(*why);
    }
    return 0;
}
