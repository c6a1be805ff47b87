/* SPDX-License-Identifier: Apache-2.0 */
/* The file back end's own: see the head of output_log_file.c. Included by output_log_file*.c only.
 */
#pragma once

#include "common/base/list.h"
#include "common/proto/output_log_int.h"

#define OLF_ENTRY_MAGIC 0x31474c44u /* "DLG1" */
#define OLF_ENTRY_HEADER 32
#define OLF_INDEX_MAGIC 0x3158444943474f4cull
#define OLF_INDEX_SIZE 4096
#define OLF_NAME_MAX 32

/* The file DIR/<partition>/index, mapped by all. Only the writer stores. */
struct olf_index {
    uint64_t magic;
    char boot_id[40];
    _Atomic int64_t oldest, next;
};
#define OLF_BELL_OFFSET                                                                            \
    1024 /* the writer rewrites this byte after each append: readers watch the file by inotify */

struct olf_entry_header {
    uint32_t magic, len, crc, reserved; /* little-endian; crc32c over len, key and value */
    uint8_t key[16];
};
_Static_assert(sizeof(struct olf_entry_header) == OLF_ENTRY_HEADER, "entry header");

struct olf_segment {
    int64_t base, size;
    int64_t mtime_ms;
};

struct olf;

/* One partition as the writer sees it. */
struct olf_part {
    bool loaded;
    int fd;                   /* of the last segment, O_APPEND; -1 before the first append */
    int bell_fd;              /* the index file */
    struct olf_index *index;  /* mapped, writable */
    struct olf_segment *segs; /* owned; ascending; the last one is written to */
    size_t nsegs;
};

/* One partition as readers see it. */
struct olf_tail {
    struct olf *log;
    uint32_t partition;
    int watch;                     /* inotify, -1 when none */
    const struct olf_index *index; /* mapped read-only; NULL until the writer has made it */
    int fd;                        /* segment being read, -1 */
    int64_t base, pos;
    struct dbx_list live; /* readers that stand at pos */
    bool dirty;           /* there may be more to read */
    bool untold;          /* somebody of live may be waiting for on_live */
};

struct olf_pending {
    dbx_olog_acked *fn;
    void *user;
    int64_t offset;
};

struct olf {
    struct dbx_olog head;
    struct dbx_loop *loop;
    char *dir;
    bool writer;
    uint64_t segment_bytes, retain_bytes, retain_ms;
    int lock_fd;
    struct olf_part parts[DBX_LOG_PARTITIONS];
    struct olf_pending *pending; /* acknowledgements to be given in the next turn */
    size_t npending, pending_cap;
    bool ack_queued;
    struct dbx_timer *retain_timer, *room_timer;
    void (*room_fn)(void *user);
    void *room_user;

    int inotify_fd;
    struct dbx_watch *inotify_watch;
    struct dbx_timer *poll_timer; /* finds partitions that the writer had not made yet */
    struct olf_tail tails[DBX_LOG_PARTITIONS];
    struct dbx_list replaying; /* readers that are behind */
    struct dbx_list graveyard; /* readers freed while a callback runs */
    unsigned depth;            /* callbacks in progress */
    bool pump_queued;
    uint8_t *buf; /* for live reads; owned */
    size_t buf_cap;
};

enum olf_reader_state { OLF_REPLAY, OLF_LIVE, OLF_HELD, OLF_DEAD };

struct olf_reader {
    struct dbx_olog_reader head;
    struct dbx_list node; /* in replaying, in a tail's live list, or alone */
    struct olf_tail *tail;
    enum olf_reader_state state;
    struct dbx_id key;
    int64_t pos;
    int fd; /* segment being replayed */
    int64_t base;
    uint8_t *buf;
    size_t buf_cap;
    bool told_live;
    int64_t live_at; /* what on_live is about */
    struct dbx_olog_reader_handlers h;
    void *user;
};

void olf_path(const struct olf *log, uint32_t partition, const char *name, char *out, size_t size);
int olf_segments(const struct olf *log, uint32_t partition, struct olf_segment **ret, size_t *ret_n,
                 struct dbx_err *err);
uint32_t olf_entry_crc(const struct olf_entry_header *h, const void *a, size_t alen, const void *b,
                       size_t blen);

/* output_log_file_reader.c */
int olf_readers_start(struct olf *log, struct dbx_err *err);
void olf_readers_stop(struct olf *log);
struct dbx_olog_reader *olf_follow(struct dbx_olog *log, const struct dbx_id *key, int64_t from,
                                   const struct dbx_olog_reader_handlers *h, void *user);
void olf_resume(struct dbx_olog_reader *r);
void olf_catch_up(struct dbx_olog_reader *r);
struct dbx_olog_reader *olf_reader_free(struct dbx_olog_reader *r);
int olf_bounds(struct dbx_olog *log, uint32_t partition, int64_t *ret_oldest, int64_t *ret_next,
               struct dbx_err *err);
