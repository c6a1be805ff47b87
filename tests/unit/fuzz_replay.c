/* SPDX-License-Identifier: Apache-2.0 */
/* Replays a fuzz target's corpus as an ordinary test: every file in the folders named on the
 * command line, and every prefix length of it that is a power of two, so that truncation is always
 * among what is tried. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return -1;
    size_t cap = 1 << 20, len;
    uint8_t *buf = malloc(cap);
    len = buf ? fread(buf, 1, cap, f) : 0;
    fclose(f);
    for (size_t n = 0; n < len; n = n ? n * 2 : 1) {
        uint8_t *exact =
            malloc(n ? n : 1); /* its own block, so that ASan sees reads past the end */
        if (exact) {
            memcpy(exact, buf, n);
            LLVMFuzzerTestOneInput(exact, n);
        }
        free(exact);
    }
    uint8_t *whole = malloc(len ? len : 1);
    if (whole) {
        memcpy(whole, buf, len);
        LLVMFuzzerTestOneInput(whole, len);
    }
    free(whole);
    free(buf);
    return 0;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            fprintf(stderr, "no corpus folder %s\n", argv[i]);
            return 1;
        }
        for (struct dirent *e; (e = readdir(dir));) {
            char path[4096];
            if (e->d_name[0] == '.')
                continue;
            snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
            if (replay_file(path) < 0) {
                fprintf(stderr, "cannot read %s\n", path);
                return 1;
            }
            count++;
        }
        closedir(dir);
    }
    printf("%d inputs replayed\n", count);
    return count > 0 ? 0 : 1;
}
