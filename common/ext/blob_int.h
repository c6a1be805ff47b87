/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by blob.c (queue, deadlines, calling back) and the two back ends. */
#pragma once

#include "common/base/list.h"
#include "common/ext/blob.h"

#define DBX_BLOB_OP_MAGIC 0x424f5021u

enum dbx_blob_kind { DBX_BLOB_PUT, DBX_BLOB_GET, DBX_BLOB_DELETE };

struct dbx_blob_op {
    uint32_t magic;
    struct dbx_list node;
    struct dbx_blobs *b; /* NULL: it was freed; nobody is called back any more */
    enum dbx_blob_kind kind;
    char name[DBX_BLOB_NAME + 1];
    struct dbx_buf data; /* to be written, or read */
    struct dbx_blob_range range;
    bool has_range, has_sha256;
    uint8_t sha256[DBX_SHA256_LEN];
    struct dbx_err err;
    uint64_t begun_ms, deadline_ms;
    dbx_blob_fn *fn;
    void *user;
    /* of the back end */
    void *at_work;
    unsigned tries;
};

struct dbx_blob_backend {
    void (*start)(void *be, struct dbx_blob_op *op); /* ends with dbx_blob__finish */
    /* The operation is given up: no dbx_blob__finish. True: the back end frees it later, by
     * dbx_blob__op_free (a thread has it). */
    bool (*abandon)(void *be, struct dbx_blob_op *op);
    void (*free)(void *be);
};

extern const struct dbx_blob_backend dbx_blob__file, dbx_blob__s3;
/* url without its scheme */
int dbx_blob__file_open(const struct dbx_blobs_opts *opts, const char *url, void **ret,
                        struct dbx_err *err) DBX_MUST_USE;
int dbx_blob__s3_open(const struct dbx_blobs_opts *opts, const char *url, void **ret,
                      struct dbx_err *err) DBX_MUST_USE;

/* It has ended as op->err says; on the loop's thread. */
void dbx_blob__finish(struct dbx_blob_op *op);
void dbx_blob__op_free(struct dbx_blob_op *op);
/* What was read against what it must be; sets op->err. Any thread. */
void dbx_blob__verify(struct dbx_blob_op *op);
struct dbx_loop *dbx_blob__loop(const struct dbx_blob_op *op);

/* "http://host:9000/bucket/prefix?region=r", strictly. */
struct dbx_blob_s3_url {
    char origin[300], host[270], bucket[64], prefix[100], region[33];
};
int dbx_blob__s3_url_parse(const char *url, struct dbx_blob_s3_url *ret,
                           struct dbx_err *err) DBX_MUST_USE;

#define DBX_S3_CODE 48
/* What stands in <Code> of an error's XML, or "". */
void dbx_blob__s3_code(const void *body, size_t len, char ret[static DBX_S3_CODE]);
