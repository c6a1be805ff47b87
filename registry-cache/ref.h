/* SPDX-License-Identifier: Apache-2.0 */
/* What the store knows by name. A key stands for one thing of one upstream, in its canonical form;
 * its bytes are a blob, named by their sha256. */
#pragma once

#include "common/base/buf.h"
#include "common/base/list.h"

#define RC_DIGEST 32

enum rc_kind {
    RC_FIXED,   /* never changes: its digest is remembered even when its bytes are gone */
    RC_SOURCE,  /* an upstream's document; becomes stale */
    RC_VARIANT, /* made of a source's bytes, under their digest: as true as these */
};

struct rc_blob;

struct rc_ref {
    char *key;
    enum rc_kind kind;
    uint8_t digest[RC_DIGEST];
    uint64_t size;
    bool gzip;             /* how the bytes are encoded */
    bool html;             /* what the upstream said they are */
    char *etag, *modified; /* the upstream's validators, "" without */
    char *url;             /* where it came from, without credentials */
    int64_t fetched_s;     /* wall clock, of the last answer that said it is so */
    uint32_t max_age_s, swr_s, sie_s;

    /* the store's */
    struct rc_blob *blob; /* borrowed; NULL: evicted */
    struct dbx_list _lru, _of_blob;
};

struct rc_ref *rc_ref_copy(const struct rc_ref *from); /* of what is above the store's own */
struct rc_ref *rc_ref_free(struct rc_ref *ref);        /* NULL-tolerant; returns NULL */

/* Records of the index file: length u32, crc32c u32, then the fields. */
#define RC_RECORD_HEAD 8
#define RC_RECORD_MAX (16u << 10)
int rc_record_write(struct dbx_buf *out, const struct rc_ref *ref) DBX_MUST_USE;
int rc_record_drop(struct dbx_buf *out, const char *key) DBX_MUST_USE;
/* Takes one record off the front. *ret_used 0: what is left is torn or not ours. A dropped key:
 * *ret_ref NULL and *ret_key set. The caller frees both. */
void rc_record_read(const uint8_t *data, size_t len, size_t *ret_used, struct rc_ref **ret_ref,
                    char **ret_key);
