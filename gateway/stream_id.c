/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/stream_id.h"

#include <errno.h>
#include <string.h>

#include "common/base/str.h"

static const char hex_digits[] = "0123456789abcdef";

static char *put(char *out, uint64_t v)
{
    int digits = 1;
    while (digits < 16 && v >> (4 * digits))
        digits++;
    *out++ = hex_digits[digits - 1];
    while (digits-- > 0)
        *out++ = hex_digits[(v >> (4 * digits)) & 15];
    return out;
}

static int digit(char c)
{
    const char *at = c ? strchr(hex_digits, c) : NULL;
    return at ? (int)(at - hex_digits) : -1;
}

static bool get(const char **text, uint64_t *ret)
{
    const char *p = *text;
    int digits = digit(*p++) + 1;
    uint64_t v = 0;
    if (digits == 0)
        return false;
    for (int i = 0; i < digits; i++) {
        int d = digit(*p++);
        if (d < 0 || (d == 0 && i == 0 && digits > 1))
            return false;
        v = v << 4 | (uint64_t)d;
    }
    *text = p;
    *ret = v;
    return true;
}

void gw_stream_id_format(const struct gw_stream_id *id, char out[static GW_STREAM_ID_MAX])
{
    *out++ = id->at.phase == GW_PHASE_COMPILE ? 'c' : 'r';
    out = put(out, (uint64_t)id->log_offset);
    for (size_t i = 0; i < GW_STREAMS; i++)
        out = put(out, id->at.pos[i]);
    *out = '\0';
}

static bool is_beginning(const char *text)
{
    return !*text || (text[0] == '0' && !text[1]);
}

int gw_stream_id_parse(const char *text, struct gw_stream_id *ret)
{
    struct gw_stream_id id = {0};
    uint64_t offset;
    if (is_beginning(text)) {
        *ret = id;
        return 0;
    }
    if (*text != 'c' && *text != 'r')
        return -EINVAL;
    id.at.phase = *text++ == 'c' ? GW_PHASE_COMPILE : GW_PHASE_RUN;
    if (!get(&text, &offset) || offset > INT64_MAX)
        return -EINVAL;
    id.log_offset = (int64_t)offset;
    for (size_t i = 0; i < GW_STREAMS; i++)
        if (!get(&text, &id.at.pos[i]) || id.at.pos[i] > INT64_MAX)
            return -EINVAL;
    if (*text)
        return -EINVAL;
    *ret = id;
    return 0;
}

int gw_stream_seq_parse(const char *text, uint64_t *ret_next)
{
    uint64_t seq;
    if (is_beginning(text)) {
        *ret_next = 0;
        return 0;
    }
    if (*text++ != 's' || dbx_parse_u64(text, strlen(text), 0, INT64_MAX, &seq) < 0)
        return -EINVAL;
    *ret_next = seq + 1;
    return 0;
}

int gw_resume_parse(const char *text, bool binary, struct dbx_id *ret_process)
{
    struct gw_stream_id id;
    uint64_t next;
    char process[DBX_ID_TEXT];
    const char *colon = strchr(text, ':');
    if (!colon || colon - text != DBX_ID_TEXT - 1)
        return -EINVAL;
    memcpy(process, text, DBX_ID_TEXT - 1);
    process[DBX_ID_TEXT - 1] = '\0';
    if (dbx_id_parse(process, ret_process) < 0)
        return -EINVAL;
    return binary ? gw_stream_seq_parse(colon + 1, &next) : gw_stream_id_parse(colon + 1, &id);
}
