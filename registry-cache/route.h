/* SPDX-License-Identifier: Apache-2.0 */
/* What a path asks for. Everything in it is checked and in its one canonical form: a name is one
 * key, whatever way it was written. */
#pragma once

#include "common/base/def.h"

enum rc_eco { RC_NPM, RC_PYPI, RC_GO, RC_CRATES, RC_ECOS };
extern const char *const rc_eco_names[RC_ECOS];

enum rc_what {
    RC_NPM_PACKUMENT, /* name */
    RC_NPM_VERSION,   /* name, version: a version or a tag */
    RC_NPM_TARBALL,   /* name, file */
    RC_NPM_TAGS,      /* name */
    RC_NPM_PING,
    RC_NPM_SEARCH, /* the query is passed on */
    RC_NPM_AUDIT,  /* file: the path below the registry */
    RC_PYPI_ROOT,
    RC_PYPI_INDEX,    /* name */
    RC_PYPI_FILE,     /* name, file */
    RC_PYPI_METADATA, /* name, file: of whose metadata (PEP 658) */
    RC_GO_FIXED,      /* name, file: what never changes: .info, .mod, .zip of a version */
    RC_GO_MOVING,     /* name, file: list, @latest, .info of a branch */
    RC_GO_SUMDB,      /* name: the database's, file: the path in it */
    RC_CRATES_CONFIG,
    RC_CRATES_INDEX,    /* name */
    RC_CRATES_DOWNLOAD, /* name, version */
    RC_CRATES_SEARCH,   /* the query is passed on */
    RC_BLOB,            /* file: sha256 in hex */
    RC_LAYER,           /* file: the key of a dependency layer, as many digits */
    RC_HEALTH,
    RC_READY,
    RC_METRICS,
};

struct rc_route {
    enum rc_what what;
    enum rc_eco eco; /* of what belongs to one */
    char name[512];
    char version[256];
    char file[1024];
    bool slash; /* the index of PyPI without its slash at the end: a redirect */
};

/* path: as sent, without the query. 0, or the status to answer with (400, 404) and, in *ret_why, a
 * sentence. */
int rc_route_parse(const char *path, struct rc_route *ret, const char **ret_why) DBX_MUST_USE;

/* Whether an ecosystem would call its package so. */
bool rc_npm_name_valid(const char *name);
bool rc_crate_name_valid(const char *name);
/* PEP 503; -EINVAL for what is no project's name. */
int rc_pypi_normalize(const char *name, char *out, size_t size) DBX_MUST_USE;
/* "se/rd/" for "serde": the folder of a crate's index. out: 8 bytes. */
void rc_crate_prefix(const char *name, char out[static 8]);
