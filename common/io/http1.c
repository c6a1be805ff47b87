/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/str.h"
#include "common/io/http1_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* RFC 9110 5.6.2 */
static bool is_token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

size_t dbx_http1_head_end(const uint8_t *data, size_t len)
{
    size_t start = 0;

    while (start + 2 <= len && data[start] == '\r' && data[start + 1] == '\n')
        start += 2;
    const uint8_t *p = memmem(data + start, len - start, "\r\n\r\n", 4);
    return p ? (size_t)(p - data) + 4 : 0;
}

static int refuse(const char **ret_why, int status, const char *why)
{
    *ret_why = why;
    return status;
}

static int check_method(const char *method, const char **ret_why)
{
    static const char *const served[] = {"GET",   "HEAD",   "POST",   "PUT",
                                         "PATCH", "DELETE", "OPTIONS"};

    if (!*method)
        return refuse(ret_why, 400, "the method is missing");
    for (const char *p = method; *p; p++)
        if (!is_token_char((unsigned char)*p))
            return refuse(ret_why, 400, "the method is malformed");
    for (size_t i = 0; i < DBX_ARRAY_LEN(served); i++)
        if (strcmp(method, served[i]) == 0)
            return 0;
    if (strcmp(method, "TRACE") == 0 || strcmp(method, "CONNECT") == 0)
        return refuse(ret_why, 405, "this method is not served");
    return refuse(ret_why, 501, "this method is not known");
}

static int parse_target(struct dbx_http1_head *head, char *target, const char **ret_why)
{
    for (const unsigned char *p = (unsigned char *)target; *p; p++)
        if (*p <= ' ' || *p >= 0x7f || *p == '#')
            return refuse(ret_why, 400,
                          "the request target holds a character that must be escaped");
    if (strncasecmp(target, "http://", 7) == 0 || strncasecmp(target, "https://", 8) == 0) {
        /* absolute-form: what a proxy is sent. The authority is that of Host; only the rest counts.
         */
        target = strchr(target, ':') + 3;
        target += strcspn(target, "/?");
    }
    if (strcmp(target, "*") == 0 && strcmp(head->method, "OPTIONS") != 0)
        return refuse(ret_why, 400, "the request target must be a path");
    if (*target != '/' && strcmp(target, "*") != 0)
        return refuse(ret_why, 400, "the request target must be a path");
    head->path = target;
    char *mark = strchr(target, '?');
    if (mark) {
        *mark = '\0';
        head->query = mark + 1;
    }
    return 0;
}

static int parse_request_line(struct dbx_http1_head *head, char *line, const char **ret_why)
{
    char *target = strchr(line, ' ');
    char *version = target ? strchr(target + 1, ' ') : NULL;

    if (!target || !version)
        return refuse(ret_why, 400, "the request line is malformed");
    *target++ = '\0';
    *version++ = '\0';
    head->method = line;
    if (strcmp(version, "HTTP/1.0") == 0)
        head->http10 = true;
    else if (strncmp(version, "HTTP/", 5) == 0 && strcmp(version, "HTTP/1.1") != 0)
        return refuse(ret_why, 505, "only HTTP/1.1 is spoken here");
    else if (strcmp(version, "HTTP/1.1") != 0)
        return refuse(ret_why, 400, "the request line is malformed");
    int status = check_method(head->method, ret_why);
    return status ? status : parse_target(head, target, ret_why);
}

static int parse_field(struct dbx_http1_head *head, char *line, const char **ret_why)
{
    char *colon = strchr(line, ':');

    if (!colon || colon == line)
        return refuse(ret_why, 400, "a header field is malformed"); /* folded lines too */
    if (head->nfields == DBX_HTTP1_MAX_HEADERS)
        return refuse(ret_why, 431, "too many header fields");
    for (char *p = line; p < colon; p++) {
        if (!is_token_char((unsigned char)*p))
            return refuse(ret_why, 400, "the name of a header field is malformed");
        if (*p >= 'A' && *p <= 'Z')
            *p += 'a' - 'A';
    }
    *colon = '\0';
    char *value = colon + 1 + strspn(colon + 1, " \t");
    char *end = value + strlen(value);
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = '\0';
    for (const unsigned char *p = (unsigned char *)value; *p; p++)
        if ((*p < ' ' && *p != '\t') || *p == 0x7f)
            return refuse(ret_why, 400, "a header field holds a control character");
    head->fields[head->nfields++] = (struct dbx_http1_field){.name = line, .value = value};
    return 0;
}

const char *dbx_http1_field(const struct dbx_http1_head *head, const char *name, size_t nth)
{
    for (size_t i = 0; i < head->nfields; i++)
        if (strcmp(head->fields[i].name, name) == 0 && nth-- == 0)
            return head->fields[i].value;
    return NULL;
}

bool dbx_http1_has_token(const char *list, const char *token)
{
    size_t want = strlen(token);

    while (list && *list) {
        list += strspn(list, " \t,");
        size_t n = strcspn(list, " \t,");
        if (n == want && strncasecmp(list, token, n) == 0)
            return true;
        list += n;
    }
    return false;
}

/* Of these a second one would let two readers of the same request disagree. */
static int check_singles(const struct dbx_http1_head *head, const char **ret_why)
{
    static const char *const single[] = {
        "host",   "content-length", "transfer-encoding", "authorization",         "content-type",
        "origin", "expect",         "sec-websocket-key", "sec-websocket-version", "upgrade"};

    for (size_t i = 0; i < DBX_ARRAY_LEN(single); i++)
        if (dbx_http1_field(head, single[i], 1))
            return refuse(ret_why, 400, "a header field that may come once came twice");
    if (!head->http10 && !dbx_http1_field(head, "host", 0))
        return refuse(ret_why, 400, "the Host header field is missing");
    return 0;
}

static int parse_framing(struct dbx_http1_head *head, const char **ret_why)
{
    const char *length = dbx_http1_field(head, "content-length", 0);
    const char *encoding = dbx_http1_field(head, "transfer-encoding", 0);
    const char *expect = dbx_http1_field(head, "expect", 0);

    if (length && encoding)
        return refuse(ret_why, 400, "Content-Length and Transfer-Encoding exclude each other");
    if (encoding && (head->http10 || strcasecmp(encoding, "chunked") != 0))
        return refuse(ret_why, head->http10 ? 400 : 501,
                      "only the transfer encoding chunked is understood");
    if (length && dbx_parse_u64(length, strlen(length), 0, INT64_MAX, &head->length) < 0)
        return refuse(ret_why, 400, "Content-Length is malformed");
    if (expect && strcasecmp(expect, "100-continue") != 0)
        return refuse(ret_why, 417, "this expectation cannot be met");
    head->has_length = length != NULL;
    head->chunked = encoding != NULL;
    head->expect_continue = expect && !head->http10;

    const char *connection;
    head->keep_alive = !head->http10;
    for (size_t i = 0; (connection = dbx_http1_field(head, "connection", i)); i++) {
        if (dbx_http1_has_token(connection, "close"))
            head->keep_alive = false;
        else if (head->http10 && dbx_http1_has_token(connection, "keep-alive"))
            head->keep_alive = true;
    }
    return 0;
}

/* RFC 6455 4.2.1. Any other Upgrade (h2c, foo) is ignored, as RFC 9110 7.8 allows. */
static void parse_websocket(struct dbx_http1_head *head)
{
    const char *upgrade = dbx_http1_field(head, "upgrade", 0);
    const char *key = dbx_http1_field(head, "sec-websocket-key", 0);
    const char *version = dbx_http1_field(head, "sec-websocket-version", 0);
    const char *connection;
    bool asked = false;
    uint8_t nonce[24];
    size_t n;

    for (size_t i = 0; (connection = dbx_http1_field(head, "connection", i)); i++)
        asked |= dbx_http1_has_token(connection, "upgrade");
    if (!asked || !upgrade || !dbx_http1_has_token(upgrade, "websocket"))
        return;
    if (head->http10 || strcmp(head->method, "GET") != 0 || head->chunked || head->length || !key ||
        strlen(key) != 24 || dbx_base64_decode(key, 24, nonce, &n, false) < 0 || n != 16)
        head->websocket_bad = true;
    else if (!version || strcmp(version, "13") != 0)
        head->websocket_version_bad = true;
    else
        head->websocket = true;
}

int dbx_http1_parse(const uint8_t *data, size_t len, struct dbx_http1_head *ret,
                    const char **ret_why)
{
    memset(ret, 0, sizeof(*ret));
    ret->method = ret->path = "";
    *ret_why = "";
    if (memchr(data, 0, len))
        return refuse(ret_why, 400, "the head holds a NUL byte");
    while (len >= 2 && data[0] == '\r' && data[1] == '\n') {
        data += 2;
        len -= 2;
    }
    ret->text = dbx_strndup((const char *)data, len);
    int status = 0;
    bool first = true;
    for (char *line = ret->text, *next; *line && !status; line = next) {
        char *eol = strchr(line, '\n');
        if (!eol || eol == line || eol[-1] != '\r')
            return refuse(ret_why, 400, "a line does not end with CRLF");
        eol[-1] = '\0';
        next = eol + 1;
        if (strchr(line, '\r'))
            return refuse(ret_why, 400, "a line holds a bare CR");
        if (!*line)
            break;
        status = first ? parse_request_line(ret, line, ret_why) : parse_field(ret, line, ret_why);
        first = false;
    }
    if (!status && first)
        status = refuse(ret_why, 400, "the request line is missing");
    if (!status)
        status = check_singles(ret, ret_why);
    if (!status)
        status = parse_framing(ret, ret_why);
    if (!status)
        parse_websocket(ret);
    return status;
}

void dbx_http1_done(struct dbx_http1_head *head)
{
    free(head->text);
    head->text = NULL;
}

/* --- chunked --- */

enum { CH_SIZE, CH_EXT, CH_SIZE_LF, CH_DATA, CH_DATA_CR, CH_DATA_LF, CH_TRAILER, CH_TRAILER_LF };

#define MAX_CHUNK_LINE 256
#define MAX_TRAILERS 4096

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int chunk_size_char(struct dbx_http1_chunked *c, uint8_t byte)
{
    int v = hex_value(byte);

    if (++c->line > MAX_CHUNK_LINE)
        return -EBADMSG;
    if (v >= 0) {
        if (c->left >> 56)
            return -EBADMSG;
        c->left = c->left << 4 | (uint64_t)v;
        c->digits = true;
        return 0;
    }
    if (!c->digits)
        return -EBADMSG;
    if (byte == '\r')
        c->state = CH_SIZE_LF;
    else if (byte == ';' || byte == ' ' || byte == '\t')
        c->state = CH_EXT;
    else
        return -EBADMSG;
    return 0;
}

static int chunk_control(struct dbx_http1_chunked *c, uint8_t byte)
{
    switch (c->state) {
    case CH_SIZE:
        return chunk_size_char(c, byte);
    case CH_EXT:
        if (++c->line > MAX_CHUNK_LINE || byte == '\n')
            return -EBADMSG;
        if (byte == '\r')
            c->state = CH_SIZE_LF;
        return 0;
    case CH_SIZE_LF:
        if (byte != '\n')
            return -EBADMSG;
        c->state = c->left ? CH_DATA : CH_TRAILER;
        c->line = 0;
        c->digits = false;
        return 0;
    case CH_DATA_CR:
        c->state = CH_DATA_LF;
        return byte == '\r' ? 0 : -EBADMSG;
    case CH_DATA_LF:
        c->state = CH_SIZE;
        return byte == '\n' ? 0 : -EBADMSG;
    case CH_TRAILER: /* read and forgotten */
        if (++c->trailer_len > MAX_TRAILERS || byte == '\n')
            return -EBADMSG;
        if (byte == '\r')
            c->state = CH_TRAILER_LF;
        else
            c->line++;
        return 0;
    default: /* CH_TRAILER_LF */
        if (byte != '\n')
            return -EBADMSG;
        c->done = c->line == 0;
        c->line = 0;
        c->state = CH_TRAILER;
        return 0;
    }
}

int dbx_http1_chunked_feed(struct dbx_http1_chunked *c, const uint8_t *data, size_t len,
                           size_t *ret_used, struct dbx_buf *out)
{
    size_t i = 0;
    int r = 0;

    while (i < len && !c->done && r == 0) {
        if (c->state != CH_DATA) {
            r = chunk_control(c, data[i++]);
            continue;
        }
        size_t n = len - i < c->left ? len - i : (size_t)c->left;
        r = dbx_buf_append(out, data + i, n);
        i += n;
        c->left -= n;
        if (!c->left)
            c->state = CH_DATA_CR;
    }
    *ret_used = i;
    return r;
}

/* --- query --- */

bool dbx_http1_unescape(char *s)
{
    char *out = s;

    for (const char *p = s; *p; p++) {
        if (*p == '%') {
            int hi = hex_value((uint8_t)p[1]);
            int lo = hi < 0 ? -1 : hex_value((uint8_t)p[2]);
            if (lo < 0 || (hi == 0 && lo == 0))
                return false;
            *out++ = (char)(hi << 4 | lo);
            p += 2;
        } else {
            *out++ = *p == '+' ? ' ' : *p;
        }
    }
    *out = '\0';
    return dbx_utf8_valid(s, (size_t)(out - s));
}

const char *dbx_http1_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {425, "Too Early"},
        {426, "Upgrade Required"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };

    for (size_t i = 0; i < DBX_ARRAY_LEN(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Status";
}
