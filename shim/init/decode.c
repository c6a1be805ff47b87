/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/init/decode.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define FILES_MAX_COUNT 10000
#define FILES_HEADER 8
#define FILE_HEADER 16
#define PATH_MAX_LEN 1024
#define COMPONENT_MAX 255
#define ROOT_MAX 255

static int take(const uint8_t **p, size_t *left, void *ret, size_t n)
{
    if (*left < n)
        return EBADMSG;
    memcpy(ret, *p, n);
    *p += n;
    *left -= n;
    return 0;
}

int init_decode_header(const void *msg, size_t len, struct init_header *ret,
                       const uint8_t **ret_body, size_t *ret_len)
{
    const uint8_t *p = msg;
    int r = take(&p, &len, ret, sizeof(*ret));
    if (r)
        return r;
    if (ret->flags & INIT_BODY_FD ? len != 0 : ret->body_len != len)
        return EBADMSG;
    *ret_body = p;
    *ret_len = len;
    return 0;
}

int init_decode_key(const uint8_t *body, size_t len, struct init_key *ret)
{
    return take(&body, &len, ret, sizeof(*ret)) || len ? EBADMSG : 0;
}

int init_decode_signal(const uint8_t *body, size_t len, struct init_signal *ret)
{
    if (take(&body, &len, ret, sizeof(*ret)) || len)
        return EBADMSG;
    if (ret->signo < 1 || ret->signo > 64 || ret->scope > INIT_TO_ALL)
        return EBADMSG;
    return 0;
}

/* n strings, each with its NUL inside the input. */
static int take_strings(const uint8_t **p, size_t *left, char **ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *end = *left ? memchr(*p, 0, *left) : NULL;
        if (!end)
            return EBADMSG;
        ret[i] = (char *)*p;
        *left -= (size_t)(end + 1 - *p);
        *p = end + 1;
    }
    return 0;
}

int init_decode_start(const uint8_t *body, size_t len, struct init_start_request *ret)
{
    struct init_start *f = &ret->fixed;
    char *cwd;
    int r = take(&body, &len, f, sizeof(*f));
    if (r)
        return r;
    if (f->argc < 1 || f->fds & ~127u || f->umask & ~0777 || f->uid == 0 || f->uid == UINT32_MAX ||
        f->gid == UINT32_MAX)
        return EBADMSG;
    if (f->argc > INIT_MAX_ARGS || f->envc > INIT_MAX_ARGS || f->n_rlimits > INIT_MAX_RLIMITS)
        return E2BIG;
    if ((r = take(&body, &len, ret->rlimits, f->n_rlimits * sizeof(ret->rlimits[0]))))
        return r;
    if ((r = take_strings(&body, &len, &cwd, 1)) ||
        (r = take_strings(&body, &len, ret->argv, f->argc)) ||
        (r = take_strings(&body, &len, ret->env, f->envc)))
        return r;
    if (len || cwd[0] != '/' || !ret->argv[0][0])
        return EBADMSG;
    ret->argv[f->argc] = NULL;
    ret->env[f->envc] = NULL;
    ret->cwd = cwd;
    return 0;
}

static bool size_ok(const struct init_winsize *size)
{
    return size->cols >= 1 && size->rows >= 1 && size->cols <= INIT_MAX_WINSIZE &&
           size->rows <= INIT_MAX_WINSIZE;
}

int init_decode_start_tty(const uint8_t *body, size_t len, struct init_start_request *ret)
{
    int r = take(&body, &len, &ret->size, sizeof(ret->size));
    if (!r)
        r = init_decode_start(body, len, ret);
    if (!r && (!size_ok(&ret->size) || (ret->fixed.fds & 7) != (INIT_FD_STDIN | INIT_FD_STDOUT)))
        r = EBADMSG;
    return r;
}

int init_decode_resize(const uint8_t *body, size_t len, struct init_resize *ret)
{
    return take(&body, &len, ret, sizeof(*ret)) || len || !size_ok(&ret->size) ? EBADMSG : 0;
}

int init_decode_listen(const uint8_t *body, size_t len, struct init_listen *ret)
{
    return take(&body, &len, ret, sizeof(*ret)) || len || ret->port == 0 || ret->reserved ? EBADMSG
                                                                                          : 0;
}

int init_decode_stream(const uint8_t *body, size_t len, struct init_stream *ret)
{
    return take(&body, &len, ret, sizeof(*ret)) || len ? EBADMSG : 0;
}

int init_decode_files(const uint8_t *body, size_t len, struct init_files *ret,
                      const char **ret_root, const uint8_t **ret_block, size_t *ret_block_len)
{
    int r = take(&body, &len, ret, sizeof(*ret));
    if (r)
        return r;
    if (ret->root_len < 2 || ret->root_len > ROOT_MAX || ret->root_len > len || body[0] != '/' ||
        memchr(body, 0, ret->root_len))
        return EBADMSG;
    *ret_root = (const char *)body;
    *ret_block = body + ret->root_len;
    *ret_block_len = len - ret->root_len;
    return 0;
}

int init_decode_watch(const uint8_t *body, size_t len, struct init_watch *ret,
                      const char **ret_root, const char **ret_ignored)
{
    int r = take(&body, &len, ret, sizeof(*ret));
    if (r)
        return r;
    if (ret->root_len < 2 || ret->root_len > ROOT_MAX || ret->root_len > len || body[0] != '/' ||
        memchr(body, 0, ret->root_len) || ret->ignored_len != len - ret->root_len)
        return EBADMSG;
    if (ret->ignored_len > INIT_MAX_IGNORED || (ret->ignored_len && body[len - 1]))
        return EBADMSG;
    *ret_root = (const char *)body;
    *ret_ignored = (const char *)body + ret->root_len;
    return 0;
}

static int check_path(const char *path, size_t len)
{
    size_t start = 0;
    if (len == 0 || len > PATH_MAX_LEN)
        return EBADMSG;
    for (size_t i = 0; i <= len; i++) {
        if (i < len && path[i] != '/') {
            if ((unsigned char)path[i] < 0x20 || path[i] == 0x7f)
                return EBADMSG;
            continue;
        }
        size_t n = i - start;
        const char *c = path + start;
        if (n == 0 || n > COMPONENT_MAX || (n == 1 && c[0] == '.') ||
            (n == 2 && c[0] == '.' && c[1] == '.'))
            return EBADMSG;
        start = i + 1;
    }
    return 0;
}

int init_decode_layer(const uint8_t *body, size_t len, struct init_layer *ret,
                      const char **ret_target, const char **ret_name)
{
    int r = take(&body, &len, ret, sizeof(*ret));
    if (r)
        return r;
    if (ret->target_len < 2 || ret->target_len > ROOT_MAX || ret->target_len > len ||
        ret->name_len != len - ret->target_len || ret->name_len > INIT_MAX_LAYER_NAME ||
        body[0] != '/' || check_path((const char *)body + 1, ret->target_len - 1) || !ret->uid ||
        ret->uid == UINT32_MAX || ret->gid == UINT32_MAX)
        return EBADMSG;
    *ret_target = (const char *)body;
    *ret_name = (const char *)body + ret->target_len;
    for (size_t i = 0; i < ret->name_len; i++)
        if (!strchr("0123456789abcdefghijklmnopqrstuvwxyz", (*ret_name)[i]) || !(*ret_name)[i])
            return EBADMSG;
    return 0;
}

int init_files_next(const uint8_t *block, size_t len, struct init_files_iter *it,
                    struct init_file *ret)
{
    uint16_t path_len;
    if (it->offset == 0) {
        if (len < FILES_HEADER || memcmp(block, "DBXF", 4))
            return EBADMSG;
        memcpy(&it->left, block + 4, 4);
        if (it->left > FILES_MAX_COUNT)
            return E2BIG;
        it->offset = FILES_HEADER;
    }
    if (it->left == 0)
        return it->offset == len ? -1 : EBADMSG;
    const uint8_t *p = block + it->offset;
    size_t left = len - it->offset;
    if (left < FILE_HEADER || p[0] > 2)
        return EBADMSG;
    ret->folder = p[0] == 1;
    ret->gone = p[0] == 2;
    memcpy(&path_len, p + 2, 2);
    memcpy(&ret->mode, p + 4, 4);
    memcpy(&ret->size, p + 8, 8);
    left -= FILE_HEADER;
    if (path_len > left || ret->size > left - path_len || ret->mode > 0777 || (p[0] && ret->size) ||
        check_path((const char *)p + FILE_HEADER, path_len))
        return EBADMSG;
    memcpy(ret->path, p + FILE_HEADER, path_len);
    ret->path[path_len] = 0;
    ret->data = p + FILE_HEADER + path_len;
    it->left--;
    it->offset += FILE_HEADER + path_len + (size_t)ret->size;
    return 0;
}
