/* SPDX-License-Identifier: Apache-2.0 */
/* The Go module proxy protocol, and the checksum database behind it. Nothing in it holds a URL; the
 * client checks modules against go.sum and the database itself. */
#include "common/base/str.h"
#include "registry-cache/call.h"

#include <string.h>

static const char *type_of(const char *file)
{
    size_t len = strlen(file);

    if (len > 4 && strcmp(file + len - 4, ".zip") == 0)
        return "application/zip";
    if ((len > 5 && strcmp(file + len - 5, ".info") == 0) || strcmp(file, "@latest") == 0)
        return "application/json";
    return "text/plain; charset=utf-8";
}

/* Tiles and records of the tree never change; its head does. */
static bool sumdb_fixed(const char *file)
{
    return dbx_starts_with(file, "tile/") || dbx_starts_with(file, "lookup/");
}

void rc_go_call(struct rc_call *c)
{
    bool sumdb = c->rt.what == RC_GO_SUMDB;
    bool fixed = sumdb ? sumdb_fixed(c->rt.file) : c->rt.what == RC_GO_FIXED;
    const char *prefix = sumdb ? "sumdb/" : "";
    char *path = dbx_asprintf("%s%s/%s", prefix, c->rt.name, c->rt.file);
    char *key = dbx_asprintf("go/%s", path);

    c->type = sumdb && dbx_starts_with(c->rt.file, "tile/") ? "application/octet-stream"
              : sumdb                                       ? "text/plain; charset=utf-8"
                                                            : type_of(c->rt.file);
    if (fixed)
        rc_call_fixed(c, key, path, NULL, NULL);
    else
        rc_call_source(c, key, path, NULL, /* gzip= */ false, rc_call_serve);
}
