/* SPDX-License-Identifier: Apache-2.0 */
/* The image's user has a name: programs ask for that of their uid (getpwuid, os.userInfo). Where
 * each has a uid of its own, the name goes with it: the two files are written anew, while nobody
 * runs who could read half of them. */
#include "shim/init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_FILE (32 << 10) /* what is larger stays as it is */
#define MAX_NAME 64
#define NUMBERS 24 /* of two numbers, at most */

enum { PASSWD_NAME = 0, PASSWD_HOME = 5, GROUP_NAME = 0, NUMBER = 2 };

struct file {
    char text[MAX_FILE + 1];
    size_t len;
};

/* Where field i of a line begins; its length, without the colon. NULL: it has fewer. */
static char *field(char *line, unsigned i, size_t *ret_len)
{
    for (; i > 0; i--) {
        line += strcspn(line, ":\n");
        if (*line++ != ':')
            return NULL;
    }
    *ret_len = strcspn(line, ":\n");
    return line;
}

static char *find_line(struct file *f, unsigned key, const char *value)
{
    size_t len;
    for (char *line = f->text; *line; line += *line == '\n') {
        char *at = field(line, key, &len);
        if (at && len == strlen(value) && !memcmp(at, value, len))
            return line;
        line += strcspn(line, "\n");
    }
    return NULL;
}

/* False: there is none that could be written anew. */
static bool read_file(const char *path, struct file *ret)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd < 0 ? -1 : read(fd, ret->text, MAX_FILE);
    if (fd >= 0)
        close(fd);
    ret->len = n > 0 ? (size_t)n : 0;
    ret->text[ret->len] = 0;
    return n > 0 && n < MAX_FILE - NUMBERS;
}

static int write_file(const char *path, const struct file *f)
{
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno;
    ssize_t n = write(fd, f->text, f->len);
    close(fd);
    return n == (ssize_t)f->len ? 0 : EIO;
}

/* `count` fields of a line, from NUMBER on, become `with`. */
static void put_numbers(struct file *f, char *line, unsigned count, const char *with)
{
    size_t first, last, len = strlen(with);
    char *from = field(line, NUMBER, &first), *to = field(line, NUMBER + count - 1, &last);
    if (!from || !to)
        return;
    to += last;
    memmove(from + len, to, (size_t)(f->text + f->len + 1 - to));
    memcpy(from, with, len);
    f->len += len - (size_t)(to - from);
}

int init_name_user(const char *home, uint32_t uid, uint32_t gid)
{
    static struct file passwd, group;
    char numbers[NUMBERS], name[MAX_NAME] = "";
    size_t len = 0;
    char *line = read_file("/etc/passwd", &passwd) ? find_line(&passwd, PASSWD_HOME, home) : NULL;
    char *at = line ? field(line, PASSWD_NAME, &len) : NULL;
    if (!at || len >= sizeof(name))
        return 0;
    memcpy(name, at, len);
    snprintf(numbers, sizeof(numbers), "%u:%u", uid, gid);
    put_numbers(&passwd, line, 2, numbers);
    int error = write_file("/etc/passwd", &passwd);
    line = !error && read_file("/etc/group", &group) ? find_line(&group, GROUP_NAME, name) : NULL;
    if (!line)
        return error;
    snprintf(numbers, sizeof(numbers), "%u", gid);
    put_numbers(&group, line, 1, numbers);
    return write_file("/etc/group", &group);
}
