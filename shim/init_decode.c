/* SPDX-License-Identifier: Apache-2.0 */
/* What init says, from bytes that may be anybody's. */
#include "shim/init_client.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#define MAX_ERRNO 4095

static int bad(struct dbx_err *err, const char *what)
{
    return dbx_err_set(err, -EBADMSG, DBX_INVALID, "init broke its protocol: %s", what);
}

static int get_ready(const uint8_t *p, size_t len, struct shim_init_msg *m, struct dbx_err *err)
{
    if (len != sizeof(m->ready))
        return bad(err, "length of ready");
    memcpy(&m->ready, p, sizeof(m->ready));
    if (m->ready.magic != INIT_MAGIC)
        return bad(err, "magic");
    if (m->ready.version != INIT_VERSION)
        return dbx_err_set(err, -EPROTONOSUPPORT, DBX_INVALID, "init speaks version %u, we %u",
                           m->ready.version, INIT_VERSION);
    return 0;
}

static int get_started(const uint8_t *p, size_t len, bool again, struct shim_init_msg *m,
                       struct dbx_err *err)
{
    struct init_started s;
    if (len != sizeof(s))
        return bad(err, "length of started");
    memcpy(&s, p, sizeof(s));
    if (s.error < 0 || s.error > MAX_ERRNO || s.stage > INIT_STAGE_FILES)
        return bad(err, "error of started");
    if ((s.error == 0) != (s.stage == INIT_STAGE_NONE) || (s.error == 0) != (s.pid != 0))
        return bad(err, "started and not");
    m->started = (struct shim_init_started){.phase = s.key.phase,
                                            .again = again,
                                            .pid = s.pid,
                                            .error = s.error,
                                            .stage = (enum init_stage)s.stage};
    memcpy(m->started.process.b, s.key.id, sizeof(s.key.id));
    return 0;
}

static int get_exited(const uint8_t *p, size_t len, bool again, struct shim_init_msg *m,
                      struct dbx_err *err)
{
    struct init_exited e;
    if (len != sizeof(e))
        return bad(err, "length of exited");
    memcpy(&e, p, sizeof(e));
    if (e.wait_status & ~0xffff || (!WIFEXITED(e.wait_status) && !WIFSIGNALED(e.wait_status)))
        return bad(err, "wait status");
    bool by_itself = WIFEXITED(e.wait_status);
    m->exited = (struct shim_init_exited){.phase = e.key.phase,
                                          .again = again,
                                          .exit_code = by_itself ? WEXITSTATUS(e.wait_status) : -1,
                                          .signal = by_itself ? 0 : WTERMSIG(e.wait_status),
                                          .seen = e.seen,
                                          .tasks_max = e.tasks_max,
                                          .utime_us = e.utime_us,
                                          .stime_us = e.stime_us,
                                          .wall_us = e.wall_us,
                                          .disk_free_min = e.disk_free_min};
    memcpy(m->exited.process.b, e.key.id, sizeof(e.key.id));
    return 0;
}

static int get_saw(const uint8_t *p, size_t len, bool again, struct shim_init_msg *m,
                   struct dbx_err *err)
{
    struct init_saw s;
    if (len != sizeof(s))
        return bad(err, "length of saw");
    memcpy(&s, p, sizeof(s));
    if (s.seen == 0 || s.seen & ~(uint32_t)INIT_SAW_AT_ONCE)
        return bad(err, "what it saw");
    m->saw = (struct shim_init_saw){.phase = s.key.phase, .again = again, .seen = s.seen};
    memcpy(m->saw.process.b, s.key.id, sizeof(s.key.id));
    return 0;
}

static int get_wanted(const uint8_t *p, size_t len, struct shim_init_msg *m, struct dbx_err *err)
{
    if (len != sizeof(m->wanted))
        return bad(err, "length of wanted");
    memcpy(&m->wanted, p, sizeof(m->wanted));
    return 0;
}

static int get_done(const uint8_t *p, size_t len, struct shim_init_msg *m, struct dbx_err *err)
{
    struct init_done d;
    if (len < sizeof(d))
        return bad(err, "length of done");
    memcpy(&d, p, sizeof(d));
    if (d.text_len >= sizeof(m->done.text) || d.text_len != len - sizeof(d))
        return bad(err, "length of done's text");
    if (d.error < 0 || d.error > MAX_ERRNO)
        return bad(err, "error of done");
    m->done.of = (enum init_op)d.op;
    m->done.error = d.error;
    m->done.value = d.value;
    for (uint32_t i = 0; i < d.text_len; i++) {
        uint8_t c = p[sizeof(d) + i];
        m->done.text[i] = c >= 0x20 && c < 0x7f ? (char)c : '?'; /* it ends up in messages */
    }
    m->done.text[d.text_len] = 0;
    return 0;
}

static int get_status(const uint8_t *p, size_t len, struct shim_init_msg *m, struct dbx_err *err)
{
    if (len != sizeof(m->status))
        return bad(err, "length of status");
    memcpy(&m->status, p, sizeof(m->status));
    return 0;
}

int shim_init_decode(const void *data, size_t len, struct shim_init_msg *ret, struct dbx_err *err)
{
    struct init_header h;
    if (len < sizeof(h) || len > INIT_MAX_REPLY)
        return bad(err, "length");
    memcpy(&h, data, sizeof(h));
    const uint8_t *p = (const uint8_t *)data + sizeof(h);
    len -= sizeof(h);
    if (h.body_len != len || h.flags & ~INIT_AGAIN)
        return bad(err, "header");
    ret->op = (enum init_op)h.op;
    ret->tag = h.tag;
    bool again = h.flags & INIT_AGAIN;
    switch (h.op) {
    case INIT_READY:
        return get_ready(p, len, ret, err);
    case INIT_STARTED:
        return get_started(p, len, again, ret, err);
    case INIT_EXITED:
        return get_exited(p, len, again, ret, err);
    case INIT_SAW:
        return get_saw(p, len, again, ret, err);
    case INIT_WANTED:
        return get_wanted(p, len, ret, err);
    case INIT_DONE:
        return get_done(p, len, ret, err);
    case INIT_STATUS:
        return get_status(p, len, ret, err);
    default:
        return bad(err, "unknown message");
    }
}
