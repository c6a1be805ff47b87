/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of bundles-core share. */
#pragma once

#include "bundles/bundles.h"
#include "common/ext/json.h"

#define BND_MAX_ENTRIES 8
#define BND_MAX_SUPPLY 8
#define BND_MAX_LIST 64 /* strings of any array in a template */

/* One way to begin: taken when `file` is among an execution's files ("*.go": when any file in the
 * root ends so). In argv "{main}" stands for the path at json_key of that file. */
struct bnd_entry {
    const char *file;
    const char *json_key; /* or NULL */
    char **compile;       /* owned, words borrowed; or NULL when nothing is compiled */
    char **run;
};

/* A file to add where an execution brings none of that path. */
struct bnd_supply {
    const char *path, *content;
};

struct bnd__template {
    struct bnd_template pub; /* first: a struct bnd_template is one of these */
    int64_t order;
    struct dbx_json_doc *doc; /* owned; the strings live in it */
    char **extensions, **packages, **setup, **stamps, **env, **registry_env;
    char **parked_run, **parked_start, **parked_env, **parked_unless;
    char *image, *digest;
    struct bnd_entry entries[BND_MAX_ENTRIES];
    size_t n_entries;
    struct bnd_supply supply[BND_MAX_SUPPLY];
    size_t n_supply;
    struct bnd_dependency dependencies[BND_MAX_DEPENDENCIES];
};

int bnd__template_parse(const void *data, size_t len, struct bnd__template **ret,
                        struct dbx_err *err) DBX_MUST_USE;
struct bnd__template *bnd__template_free(struct bnd__template *tpl);
void bnd__template_freep(struct bnd__template **tpl);
static inline const struct bnd__template *bnd__template_of(const struct bnd_template *pub)
{
    return dbx_container_of((struct bnd_template *)(uintptr_t)pub, struct bnd__template, pub);
}

/* DIR/images/NAME.json as bundles/build-images writes it. */
struct bnd__manifest {
    char digest[BND_DIGEST_LEN + 1];
    uint64_t bytes;
};
int bnd__manifest_parse(const void *data, size_t len, const char *name, struct bnd__manifest *ret,
                        struct dbx_err *err) DBX_MUST_USE;
bool bnd__digest_valid(const char *s);
