/* SPDX-License-Identifier: Apache-2.0 */
/* A record: version u16, then fields {tag u16, length u32, bytes}, in any order, none twice. Which
 * member a tag stands for is said by a table; tags are never used for anything else again. */
#include "shim/record.h"

#include "shim/exec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_VERSION 1
#define MAX_RECORD (16u << 20)
#define MAX_WORDS 65536

enum form {
    FLAG,  /* bool: 0 or 1 */
    NUM,   /* an integer of 2, 4 or 8 bytes */
    INUM,  /* a signed one of 4 or 8 */
    RAW,   /* so many bytes */
    TEXT,  /* a NUL-terminated array */
    STR,   /* char *, or NULL */
    WORDS, /* char **, NULL-terminated, or NULL */
    BYTES, /* struct dbx_buf */
};

struct field {
    uint16_t tag;
    uint8_t form;
    bool needed;
    uint32_t offset, size;
};

#define FIELD(tag, form, type, member)                                                             \
    {                                                                                              \
        (tag), (form), false, offsetof(type, member), sizeof(((type *)0)->member)                  \
    }
#define NEEDED(tag, form, type, member)                                                            \
    {                                                                                              \
        (tag), (form), true, offsetof(type, member), sizeof(((type *)0)->member)                   \
    }

#define S struct shim_sandbox_record
static const struct field sandbox_fields[] = {
    NEEDED(1, TEXT, S, template),
    NEEDED(2, NUM, S, disk_mb),
    NEEDED(3, NUM, S, memory_mb),
    NEEDED(4, NUM, S, cpu_millis),
    NEEDED(5, NUM, S, processes),
    NEEDED(6, INUM, S, sentry),
    NEEDED(7, NUM, S, limit_bytes),
    NEEDED(8, NUM, S, idle_bytes),
    NEEDED(9, NUM, S, mark.cpu_us),
    NEEDED(10, NUM, S, mark.memory_bytes),
    NEEDED(11, NUM, S, mark.memory_peak_bytes),
    NEEDED(12, NUM, S, mark.file_bytes),
    NEEDED(13, NUM, S, mark.oom_kills),
    NEEDED(14, NUM, S, mark.pids),
    NEEDED(15, FLAG, S, fresh),
    NEEDED(16, TEXT, S, digest),
    FIELD(17, FLAG, S, plain),
};
#undef S

#define S struct shim_box_record
static const struct field box_fields[] = {
    NEEDED(1, RAW, S, instance),  NEEDED(2, NUM, S, idle_ms),  NEEDED(3, NUM, S, idle_at_ms),
    NEEDED(4, NUM, S, max_at_ms), NEEDED(5, FLAG, S, closing), FIELD(6, NUM, S, memory_mb),
    FIELD(7, FLAG, S, standby),
};
#undef S

#define S struct shim_stdin_record
static const struct field stdin_fields[] = {
    NEEDED(1, NUM, S, at),
    NEEDED(2, BYTES, S, data),
};
#undef S

#define S struct shim_request
#define LIMITS(base, l)                                                                            \
    NEEDED(base, INUM, S, l.cpu_ms), NEEDED((base) + 1, INUM, S, l.wall_ms),                       \
        NEEDED((base) + 2, INUM, S, l.memory_mb), NEEDED((base) + 3, INUM, S, l.output_bytes),     \
        NEEDED((base) + 4, INUM, S, l.processes), NEEDED((base) + 5, INUM, S, l.open_files),       \
        NEEDED((base) + 6, INUM, S, l.disk_mb)
static const struct field request_fields[] = {
    NEEDED(1, RAW, S, process),     NEEDED(2, RAW, S, sandbox),      NEEDED(3, INUM, S, attempt),
    NEEDED(4, INUM, S, epoch),      NEEDED(5, INUM, S, accepted_us), NEEDED(6, TEXT, S, trace),
    NEEDED(7, TEXT, S, template),   FIELD(8, WORDS, S, env),         NEEDED(9, FLAG, S, stdin_open),
    NEEDED(10, FLAG, S, workspace), FIELD(11, STR, S, cwd),          FIELD(12, INUM, S, revision),
    FIELD(13, INUM, S, idle_ms),    FIELD(14, INUM, S, max_ms),      FIELD(15, BYTES, S, input),
    FIELD(16, NUM, S, cols),        FIELD(17, NUM, S, rows),         LIMITS(20, limits),
    LIMITS(30, compile_limits),
};
#undef S

#define S struct shim_exec_record
static const struct field exec_fields[] = {
    NEEDED(101, RAW, S, instance),    NEEDED(102, NUM, S, state),
    NEEDED(103, FLAG, S, in_compile), FIELD(104, FLAG, S, warm),
    FIELD(105, FLAG, S, spoke),       NEEDED(106, FLAG, S, cancelled),
    NEEDED(107, FLAG, S, node_lost),  FIELD(108, INUM, S, arrived_us),
    FIELD(109, INUM, S, claimed_us),  FIELD(110, INUM, S, started_us),
    FIELD(111, NUM, S, claimed_ms),   FIELD(112, NUM, S, oom_mark),
    FIELD(113, TEXT, S, trouble),     FIELD(114, WORDS, S, run_argv),
    FIELD(115, NUM, S, verdict),      FIELD(116, FLAG, S, has_compile),
    FIELD(117, FLAG, S, has_run),     FIELD(118, FLAG, S, end_record),
    FIELD(119, NUM, S, end_seq),      FIELD(120, TEXT, S, words),
    FIELD(121, BYTES, S, end),        FIELD(122, NUM, S, uid),
};
#undef S

#define S struct shim_phase_record
static const struct field phase_fields[] = {
    NEEDED(0, FLAG, S, began),
    NEEDED(1, FLAG, S, started),
    NEEDED(2, FLAG, S, exited),
    NEEDED(3, FLAG, S, killed),
    NEEDED(4, FLAG, S, others_gone),
    NEEDED(5, FLAG, S, ended),
    NEEDED(6, FLAG, S, shipped),
    NEEDED(7, NUM, S, watch.cpu_ms),
    NEEDED(8, NUM, S, watch.wall_ms),
    NEEDED(9, NUM, S, watch.ncpu),
    NEEDED(10, NUM, S, watch.began_ms),
    NEEDED(11, NUM, S, watch.held_ms),
    NEEDED(12, NUM, S, watch.held_since_ms),
    NEEDED(13, FLAG, S, ending.cancelled),
    NEEDED(14, FLAG, S, ending.output_over),
    NEEDED(15, FLAG, S, ending.oom),
    NEEDED(16, FLAG, S, ending.cpu_over),
    NEEDED(17, FLAG, S, ending.wall_over),
    NEEDED(18, FLAG, S, ending.node_lost),
    NEEDED(19, FLAG, S, ending.sandbox_lost),
    NEEDED(20, FLAG, S, ending.disk_full),
    NEEDED(21, FLAG, S, ending.at_process_max),
    NEEDED(22, FLAG, S, ending.exited),
    NEEDED(23, INUM, S, ending.exit_code),
    NEEDED(24, INUM, S, ending.signal),
    NEEDED(25, NUM, S, outcome.verdict),
    NEEDED(26, INUM, S, outcome.exit_code),
    NEEDED(27, INUM, S, outcome.signal),
    NEEDED(28, INUM, S, outcome.stdout_bytes),
    NEEDED(29, INUM, S, outcome.stderr_bytes),
    NEEDED(30, INUM, S, outcome.usage.queued_ms),
    NEEDED(31, INUM, S, outcome.usage.start_ms),
    NEEDED(32, INUM, S, outcome.usage.wall_ms),
    NEEDED(33, INUM, S, outcome.usage.cpu_ms),
    NEEDED(34, INUM, S, outcome.usage.memory_peak_bytes),
    NEEDED(35, INUM, S, outcome.usage.output_bytes),
    NEEDED(36, INUM, S, outcome.usage.disk_bytes),
    NEEDED(37, NUM, S, ordered_ms),
    NEEDED(38, NUM, S, exited_ms),
    NEEDED(39, RAW, S, sha),
};
#undef S

/* A table, the object that it is about, and what its tags begin with. */
struct part {
    const struct field *fields;
    size_t n;
    void *object;
    uint16_t base;
};
#define PART(table, object, base)                                                                  \
    {                                                                                              \
        (table), DBX_ARRAY_LEN(table), (void *)(uintptr_t)(object), (base)                         \
    }
#define COMPILE_BASE 200
#define RUN_BASE 300

/* ---- encode ---- */

static int put_head(struct dbx_buf *out, uint16_t tag, size_t len)
{
    int r = dbx_buf_u16(out, tag);
    return r < 0 ? r : dbx_buf_u32(out, (uint32_t)len);
}

static int put_bytes(struct dbx_buf *out, uint16_t tag, const void *data, size_t len)
{
    int r = put_head(out, tag, len);
    return r < 0 || len == 0 ? r : dbx_buf_append(out, data, len);
}

static int put_words(struct dbx_buf *out, uint16_t tag, char *const *words)
{
    size_t len = 0;
    int r = 0;
    if (!words)
        return 0;
    for (size_t i = 0; words[i]; i++)
        len += strlen(words[i]) + 1;
    r = put_head(out, tag, len);
    for (size_t i = 0; r == 0 && words[i]; i++)
        r = dbx_buf_append(out, words[i], strlen(words[i]) + 1);
    return r;
}

static int put_number(struct dbx_buf *out, uint16_t tag, const struct field *f, const void *p)
{
    uint64_t v = 0;
    if (f->form == FLAG)
        v = *(const bool *)p;
    else if (f->size == 8)
        memcpy(&v, p, 8);
    else if (f->size == 2)
        v = *(const uint16_t *)p;
    else if (f->form == INUM)
        v = (uint64_t)(int64_t) * (const int32_t *)p;
    else
        v = *(const uint32_t *)p;
    int r = put_head(out, tag, 8);
    return r < 0 ? r : dbx_buf_u64(out, v);
}

static int put_field(struct dbx_buf *out, const struct part *part, const struct field *f)
{
    const void *p = (const char *)part->object + f->offset;
    uint16_t tag = (uint16_t)(f->tag + part->base);
    const struct dbx_buf *buf = p;
    const char *str;
    switch ((enum form)f->form) {
    case FLAG:
    case NUM:
    case INUM:
        return put_number(out, tag, f, p);
    case RAW:
        return put_bytes(out, tag, p, f->size);
    case TEXT:
        return put_bytes(out, tag, p, strlen(p));
    case STR:
        str = *(char *const *)p;
        return str ? put_bytes(out, tag, str, strlen(str)) : 0;
    case WORDS:
        return put_words(out, tag, *(char *const *const *)p);
    case BYTES:
        return put_bytes(out, tag, buf->data, buf->len);
    }
    return -EINVAL;
}

static int encode(const struct part *parts, size_t n, struct dbx_buf *out)
{
    int r = dbx_buf_u16(out, RECORD_VERSION);
    for (size_t k = 0; k < n && r == 0; k++)
        for (size_t i = 0; i < parts[k].n && r == 0; i++)
            r = put_field(out, &parts[k], &parts[k].fields[i]);
    return r;
}

int shim_sandbox_record_encode(const struct shim_sandbox_record *rec, struct dbx_buf *out)
{
    const struct part part = PART(sandbox_fields, rec, 0);
    return encode(&part, 1, out);
}

int shim_box_record_encode(const struct shim_box_record *rec, struct dbx_buf *out)
{
    const struct part part = PART(box_fields, rec, 0);
    return encode(&part, 1, out);
}

int shim_exec_record_encode(const struct shim_exec_record *rec, struct dbx_buf *out)
{
    const struct part parts[] = {
        PART(request_fields, rec->rq, 0),
        PART(exec_fields, rec, 0),
        PART(phase_fields, &rec->compile, COMPILE_BASE),
        PART(phase_fields, &rec->run, RUN_BASE),
    };
    return encode(parts, DBX_ARRAY_LEN(parts), out);
}

int shim_stdin_record_encode(uint64_t at, const void *data, size_t len, struct dbx_buf *out)
{
    struct shim_stdin_record rec = {
        .at = at, .data = {.data = (uint8_t *)(uintptr_t)data, .len = len}}; /* only read */
    const struct part part = PART(stdin_fields, &rec, 0);
    return encode(&part, 1, out);
}

/* ---- decode ---- */

static int bad(struct dbx_err *err, const char *what)
{
    return dbx_err_set(err, -EBADMSG, DBX_INVALID, "a record of the shim before: %s", what);
}

static char **take_words(const uint8_t *p, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += p[i] == 0;
    if (n > MAX_WORDS)
        return NULL;
    char **words = dbx_calloc(n + 1, sizeof(*words));
    for (size_t i = 0; i < n; i++) {
        words[i] = dbx_strdup((const char *)p);
        p += strlen(words[i]) + 1;
    }
    return words;
}

static int get_number(const struct field *f, void *p, const uint8_t *data, size_t len)
{
    uint64_t v;
    if (len != 8)
        return -EBADMSG;
    memcpy(&v, data, 8);
    if (f->form == FLAG) {
        if (v > 1)
            return -EBADMSG;
        *(bool *)p = v == 1;
    } else if (f->size == 8) {
        memcpy(p, &v, 8);
    } else if (f->size == 2) {
        if (v > UINT16_MAX)
            return -EBADMSG;
        *(uint16_t *)p = (uint16_t)v;
    } else if (f->form == INUM) {
        if ((int64_t)v < INT32_MIN || (int64_t)v > INT32_MAX)
            return -EBADMSG;
        *(int32_t *)p = (int32_t)(int64_t)v;
    } else {
        if (v > UINT32_MAX)
            return -EBADMSG;
        *(uint32_t *)p = (uint32_t)v;
    }
    return 0;
}

static int get_field(const struct field *f, void *object, const uint8_t *data, size_t len)
{
    void *p = (char *)object + f->offset;
    struct dbx_buf *buf = p;
    switch ((enum form)f->form) {
    case FLAG:
    case NUM:
    case INUM:
        return get_number(f, p, data, len);
    case RAW:
        if (len != f->size)
            return -EBADMSG;
        memcpy(p, data, len);
        return 0;
    case TEXT:
        if (len >= f->size || memchr(data, 0, len))
            return -EBADMSG;
        memcpy(p, data, len); /* the rest is zero */
        return 0;
    case STR:
        if (memchr(data, 0, len))
            return -EBADMSG;
        *(char **)p = dbx_strndup((const char *)data, len);
        return 0;
    case WORDS:
        if (len > 0 && data[len - 1] != 0)
            return -EBADMSG;
        *(char ***)p = take_words(data, len);
        return *(char ***)p ? 0 : -EBADMSG;
    case BYTES:
        dbx_buf_init(buf, MAX_RECORD);
        return len ? dbx_buf_append(buf, data, len) : 0;
    }
    return -EBADMSG;
}

struct cursor {
    const struct part *parts;
    size_t n;
    uint64_t seen[4][2]; /* of each part, a bit a field */
};

static int take_field(struct cursor *c, uint16_t tag, const uint8_t *data, size_t len)
{
    for (size_t k = 0; k < c->n; k++)
        for (size_t i = 0; i < c->parts[k].n; i++) {
            const struct field *f = &c->parts[k].fields[i];
            uint64_t bit = 1ull << i % 64;
            if (f->tag + c->parts[k].base != tag)
                continue;
            if (c->seen[k][i / 64] & bit)
                return -EBADMSG;
            c->seen[k][i / 64] |= bit;
            return get_field(f, c->parts[k].object, data, len);
        }
    return 0; /* of a later version */
}

static int check_needed(const struct cursor *c, struct dbx_err *err)
{
    for (size_t k = 0; k < c->n; k++)
        for (size_t i = 0; i < c->parts[k].n; i++)
            if (c->parts[k].fields[i].needed && !(c->seen[k][i / 64] & 1ull << i % 64))
                return bad(err, "a field is not there");
    return 0;
}

static int decode(const struct part *parts, size_t n, const uint8_t *data, size_t len,
                  struct dbx_err *err)
{
    struct cursor c = {.parts = parts, .n = n};
    struct dbx_reader rd = {.p = data, .left = len};
    dbx_assert(n <= DBX_ARRAY_LEN(c.seen));
    if (dbx_rd_u16(&rd) != RECORD_VERSION || rd.bad)
        return bad(err, "its version");
    while (rd.left > 0) {
        uint16_t tag = dbx_rd_u16(&rd);
        uint32_t size = dbx_rd_u32(&rd);
        const uint8_t *p = dbx_rd_bytes(&rd, size);
        if (rd.bad)
            return bad(err, "it is cut off");
        if (take_field(&c, tag, p ? p : data, size) < 0)
            return bad(err, "a field that cannot be");
    }
    return check_needed(&c, err);
}

int shim_sandbox_record_decode(const uint8_t *data, size_t len, struct shim_sandbox_record *ret,
                               struct dbx_err *err)
{
    struct shim_sandbox_record rec = {0};
    const struct part part = PART(sandbox_fields, &rec, 0);
    int r = decode(&part, 1, data, len, err);
    if (r == 0 && (!rec.template[0] || rec.sentry < 2))
        r = bad(err, "a sandbox that cannot be");
    if (r == 0)
        *ret = rec;
    return r;
}

int shim_box_record_decode(const uint8_t *data, size_t len, struct shim_box_record *ret,
                           struct dbx_err *err)
{
    struct shim_box_record rec = {0};
    const struct part part = PART(box_fields, &rec, 0);
    int r = decode(&part, 1, data, len, err);
    if (r == 0 && dbx_id_is_zero(&rec.instance))
        r = bad(err, "a workspace's sandbox that cannot be");
    if (r == 0)
        *ret = rec;
    return r;
}

static bool limits_ok(const struct dbx_limits *l)
{
    return l->cpu_ms >= 0 && l->wall_ms >= 0 && l->memory_mb >= 0 && l->output_bytes >= 0 &&
           l->processes >= 0 && l->open_files >= 0 && l->disk_mb >= 0;
}

static bool request_ok(const struct shim_request *rq)
{
    return !dbx_id_is_zero(&rq->process) && !dbx_id_is_zero(&rq->sandbox) && rq->template[0] &&
           rq->idle_ms >= 0 && rq->max_ms >= 0 && limits_ok(&rq->limits) &&
           limits_ok(&rq->compile_limits);
}

static bool exec_ok(const struct shim_exec_record *rec)
{
    bool live = rec->state >= SHIM_EX_COMPILING && rec->state <= SHIM_EX_DRAINING;
    bool over = rec->state == SHIM_EX_SHIPPING || rec->state == SHIM_EX_ENDED;
    const struct shim_phase_record *now = rec->in_compile ? &rec->compile : &rec->run;
    if (rec->verdict > DBX_V_INTERNAL || rec->compile.outcome.verdict > DBX_V_INTERNAL ||
        rec->run.outcome.verdict > DBX_V_INTERNAL)
        return false;
    if (live)
        return now->began && !now->ended &&
               (!rec->in_compile || (rec->run_argv && *rec->run_argv)) &&
               (rec->rq->workspace || !dbx_id_is_zero(&rec->instance));
    return over && rec->verdict != DBX_V_NONE && rec->end.len > 0;
}

int shim_exec_record_decode(const uint8_t *data, size_t len, struct shim_exec_record *ret,
                            struct dbx_err *err)
{
    struct shim_exec_record rec = {.rq = DBX_NEW(struct shim_request)};
    const struct part parts[] = {
        PART(request_fields, rec.rq, 0),
        PART(exec_fields, &rec, 0),
        PART(phase_fields, &rec.compile, COMPILE_BASE),
        PART(phase_fields, &rec.run, RUN_BASE),
    };
    int r = decode(parts, DBX_ARRAY_LEN(parts), data, len, err);
    if (r == 0 && (!request_ok(rec.rq) || !exec_ok(&rec)))
        r = bad(err, "an execution that cannot be");
    if (r < 0) {
        shim_exec_record_done(&rec);
        return r;
    }
    dbx_id_format(&rec.rq->process, rec.rq->process_text);
    dbx_id_format(&rec.rq->sandbox, rec.rq->sandbox_text);
    *ret = rec;
    return 0;
}

int shim_stdin_record_decode(const uint8_t *data, size_t len, struct shim_stdin_record *ret,
                             struct dbx_err *err)
{
    struct shim_stdin_record rec = {0};
    const struct part part = PART(stdin_fields, &rec, 0);
    int r = decode(&part, 1, data, len, err);
    if (r < 0) {
        shim_stdin_record_done(&rec);
        return r;
    }
    *ret = rec;
    return 0;
}

void shim_exec_record_done(struct shim_exec_record *rec)
{
    rec->rq = shim_request_free(rec->rq);
    for (size_t i = 0; rec->run_argv && rec->run_argv[i]; i++)
        free(rec->run_argv[i]);
    free(rec->run_argv);
    rec->run_argv = NULL;
    dbx_buf_done(&rec->end);
}

void shim_stdin_record_done(struct shim_stdin_record *rec)
{
    dbx_buf_done(&rec->data);
}
