/* SPDX-License-Identifier: Apache-2.0 */
#include "registry-cache/ref.h"
#include "common/ext/crypto.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { REC_PUT = 1, REC_DROP = 2 };

static char *own(const char *s)
{
    return dbx_strdup(s ? s : "");
}

struct rc_ref *rc_ref_copy(const struct rc_ref *from)
{
    struct rc_ref *ref = DBX_NEW(struct rc_ref);

    *ref = *from;
    ref->key = own(from->key);
    ref->etag = own(from->etag);
    ref->modified = own(from->modified);
    ref->url = own(from->url);
    ref->blob = NULL;
    dbx_list_init(&ref->_lru);
    dbx_list_init(&ref->_of_blob);
    return ref;
}

struct rc_ref *rc_ref_free(struct rc_ref *ref)
{
    if (!ref)
        return NULL;
    free(ref->key);
    free(ref->etag);
    free(ref->modified);
    free(ref->url);
    free(ref);
    return NULL;
}

/* --- writing --- */

static void put_text(struct dbx_buf *out, const char *s)
{
    size_t len = strlen(s);

    dbx_buf_u16(out, (uint16_t)len);
    dbx_buf_append(out, s, len);
}

static int frame(struct dbx_buf *out, const struct dbx_buf *body)
{
    int r = dbx_buf_u32(out, (uint32_t)body->len);

    if (r == 0)
        r = dbx_buf_u32(out, dbx_crc32c(0, body->data, body->len));
    return r < 0 ? r : dbx_buf_append(out, body->data, body->len);
}

int rc_record_write(struct dbx_buf *out, const struct rc_ref *ref)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf body = {.max = 4 * RC_RECORD_MAX};

    if (strlen(ref->key) + strlen(ref->etag) + strlen(ref->modified) + strlen(ref->url) + 128 >
        RC_RECORD_MAX)
        return -E2BIG;
    dbx_buf_u8(&body, REC_PUT);
    dbx_buf_u8(&body, (uint8_t)ref->kind);
    dbx_buf_u8(&body, (uint8_t)(ref->gzip | ref->html << 1));
    dbx_buf_append(&body, ref->digest, RC_DIGEST);
    dbx_buf_u64(&body, ref->size);
    dbx_buf_u64(&body, (uint64_t)ref->fetched_s);
    dbx_buf_u32(&body, ref->max_age_s);
    dbx_buf_u32(&body, ref->swr_s);
    dbx_buf_u32(&body, ref->sie_s);
    put_text(&body, ref->key);
    put_text(&body, ref->etag);
    put_text(&body, ref->modified);
    put_text(&body, ref->url);
    return frame(out, &body);
}

int rc_record_drop(struct dbx_buf *out, const char *key)
{
    DBX_CLEANUP(dbx_buf_done) struct dbx_buf body = {.max = 4 * RC_RECORD_MAX};

    if (strlen(key) + 16 > RC_RECORD_MAX)
        return -E2BIG;
    dbx_buf_u8(&body, REC_DROP);
    put_text(&body, key);
    return frame(out, &body);
}

/* --- reading --- */

static char *take_text(struct dbx_reader *r)
{
    size_t len = dbx_rd_u16(r);
    const uint8_t *p = dbx_rd_bytes(r, len);

    if (!p || memchr(p, 0, len)) {
        r->bad = true;
        return NULL;
    }
    return dbx_strndup((const char *)p, len);
}

static struct rc_ref *take_ref(struct dbx_reader *r)
{
    struct rc_ref *ref = DBX_NEW(struct rc_ref);
    uint8_t kind = dbx_rd_u8(r), flags = dbx_rd_u8(r);
    const uint8_t *digest = dbx_rd_bytes(r, RC_DIGEST);

    if (digest)
        memcpy(ref->digest, digest, RC_DIGEST);
    ref->kind = (enum rc_kind)kind;
    ref->gzip = flags & 1;
    ref->html = flags & 2;
    ref->size = dbx_rd_u64(r);
    ref->fetched_s = (int64_t)dbx_rd_u64(r);
    ref->max_age_s = dbx_rd_u32(r);
    ref->swr_s = dbx_rd_u32(r);
    ref->sie_s = dbx_rd_u32(r);
    ref->key = take_text(r);
    ref->etag = take_text(r);
    ref->modified = take_text(r);
    ref->url = take_text(r);
    dbx_list_init(&ref->_lru);
    dbx_list_init(&ref->_of_blob);
    if (r->bad || r->left || kind > RC_VARIANT || flags > 3 || !*ref->key || ref->fetched_s < 0)
        return rc_ref_free(ref);
    return ref;
}

void rc_record_read(const uint8_t *data, size_t len, size_t *ret_used, struct rc_ref **ret_ref,
                    char **ret_key)
{
    struct dbx_reader head = {.p = data, .left = len};
    uint32_t size = dbx_rd_u32(&head), crc = dbx_rd_u32(&head);
    const uint8_t *body = size <= RC_RECORD_MAX ? dbx_rd_bytes(&head, size) : NULL;

    *ret_used = 0;
    *ret_ref = NULL;
    *ret_key = NULL;
    if (head.bad || !body || size < 3 || dbx_crc32c(0, body, size) != crc)
        return;
    struct dbx_reader r = {.p = body, .left = size};
    uint8_t type = dbx_rd_u8(&r);
    if (type == REC_PUT)
        *ret_ref = take_ref(&r);
    else if (type == REC_DROP)
        *ret_key = take_text(&r);
    if (*ret_ref || *ret_key)
        *ret_used = RC_RECORD_HEAD + size;
}
