/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/config_int.h"
#include "common/base/fd.h"
#include "common/base/fs.h"
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct config {
    char *listen, *tls_cert;
    uint64_t max_body, workers;
    bool verbose;
};

static const struct dbx_config_field fields[] = {
    {"listen", DBX_CONFIG_STRING, offsetof(struct config, listen), "127.0.0.1:7000", 0, 0, "",
     "Address to listen at."},
    {"tls_cert", DBX_CONFIG_PATH, offsetof(struct config, tls_cert), NULL, 0, 0, "",
     "Certificate, PEM."},
    {"max_body", DBX_CONFIG_U64, offsetof(struct config, max_body), "1024", 1, 4096, "bytes",
     "Largest body."},
    {"workers", DBX_CONFIG_U64, offsetof(struct config, workers), "2", 0, 0, "",
     "Number of workers."},
    {"verbose", DBX_CONFIG_BOOL, offsetof(struct config, verbose), "false", 0, 0, "", "Say more."},
};

static char path[4096];

/* Calls dbx_config_load with stdout into *ret_out (4096 bytes, or NULL). */
static int load(struct config *cfg, bool *ret_run, struct dbx_err *err, char *ret_out,
                const char *const *args)
{
    char *argv[16] = {(char *)"devbox-registry-cache"};
    int argc = 1, p[2];
    for (; args[argc - 1]; argc++)
        argv[argc] = (char *)args[argc - 1];
    memset(cfg, 0, sizeof(*cfg));
    *err = (struct dbx_err){0};
    CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
    fflush(stdout);
    int saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    CHECK(dup2(p[1], STDOUT_FILENO) >= 0);
    dbx_close(p[1]);
    int r = dbx_config_load(cfg, fields, DBX_ARRAY_LEN(fields), "registry-cache",
                            "Caches packages.", argc, argv, ret_run, err);
    CHECK(dup2(saved, STDOUT_FILENO) >= 0);
    dbx_close(saved);
    static char text[4096];
    ssize_t n = read(p[0], text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    if (ret_out)
        memcpy(ret_out, text, sizeof(text));
    dbx_close(p[0]);
    return r;
}
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define NO_ARGS ((const char *const[]){NULL})

static void write_file(const char *text)
{
    CHECK_EQ(dbx_fs_write_atomic(path, text, strlen(text), 0600, NULL), 0);
}

static void test_precedence(void)
{
    struct config cfg;
    struct dbx_err err;
    bool run = false;
    CHECK_EQ(load(&cfg, &run, &err, NULL, NO_ARGS), 0);
    CHECK(run);
    CHECK_STR(cfg.listen, "127.0.0.1:7000");
    CHECK(cfg.tls_cert == NULL);
    CHECK_EQ(cfg.max_body, 1024);
    CHECK(!cfg.verbose);
    dbx_config_done(&cfg, fields, DBX_ARRAY_LEN(fields));

    write_file("# a comment\n\n  max_body =  100 \r\nlisten=a b # c\nworkers = 3\nverbose = "
               "true\ntls_cert =");
    setenv("DEVBOX_REGISTRY_CACHE_WORKERS", "4", 1);
    setenv("DEVBOX_REGISTRY_CACHE_MAX_BODY", "200", 1);
    setenv("DEVBOX_REGISTRY_CACHE_SERVICE_HOST", "10.0.0.1", 1); /* not ours, and ignored */
    CHECK_EQ(
        load(&cfg, &run, &err, NULL, ARGS("--config", path, "--max-body=300", "--verbose=false")),
        0);
    CHECK_STR(err.msg, "");
    CHECK_EQ(cfg.max_body, 300);
    CHECK_EQ(cfg.workers, 4);
    CHECK_STR(cfg.listen, "a b # c");
    CHECK_STR(cfg.tls_cert, "");
    CHECK(!cfg.verbose);
    dbx_config_done(&cfg, fields, DBX_ARRAY_LEN(fields));
    unsetenv("DEVBOX_REGISTRY_CACHE_WORKERS");
    unsetenv("DEVBOX_REGISTRY_CACHE_MAX_BODY");

    CHECK_EQ(load(&cfg, &run, &err, NULL, ARGS("--verbose", "--listen", "x", "--listen", "y")), 0);
    CHECK(cfg.verbose);
    CHECK_STR(cfg.listen, "y");
    dbx_config_done(&cfg, fields, DBX_ARRAY_LEN(fields));
    CHECK(cfg.listen == NULL);
}

static void test_bad_flags(void)
{
    static const struct {
        const char *args[3], *field, *msg;
    } rows[] = {
        {{"--foo", NULL}, "--foo", "unknown flag '--foo'"},
        {{"--foo=1", NULL}, "--foo=1", "unknown flag '--foo'"},
        {{"--max_body", "5", NULL}, "--max_body", "unknown flag '--max_body'"},
        {{"word", NULL}, "word", "unknown argument 'word'"},
        {{"--max-body", NULL}, "--max-body", "--max-body wants a value"},
        {{"--config", NULL}, "--config", "--config wants a value"},
        {{"--max-body", "0", NULL},
         "max_body",
         "command line: max_body must be a number from 1 to 4096"},
        {{"--max-body=4097", NULL},
         "max_body",
         "command line: max_body must be a number from 1 to 4096"},
        {{"--max-body=1k", NULL},
         "max_body",
         "command line: max_body must be a number from 1 to 4096"},
        {{"--verbose=yes", NULL}, "verbose", "command line: verbose must be true or false"},
        {{"--help=1", NULL}, "--help=1", "unknown flag '--help'"},
        {{"--listen", "a\nb", NULL},
         "listen",
         "command line: listen must not hold control characters, nor begin or end with a blank"},
    };
    for (size_t i = 0; i < DBX_ARRAY_LEN(rows); i++) {
        struct config cfg;
        struct dbx_err err;
        bool run;
        CHECK_EQ(load(&cfg, &run, &err, NULL, rows[i].args), -EINVAL);
        CHECK_STR(err.field, rows[i].field);
        CHECK_STR(err.msg, rows[i].msg);
        CHECK(cfg.listen == NULL);
    }
    struct config cfg;
    struct dbx_err err;
    bool run;
    CHECK_EQ(load(&cfg, &run, &err, NULL, ARGS("--config", "no/such/file")), -ENOENT);
    setenv("DEVBOX_REGISTRY_CACHE_VERBOSE", "1", 1);
    CHECK_EQ(load(&cfg, &run, &err, NULL, NO_ARGS), -EINVAL);
    CHECK_STR(err.msg, "DEVBOX_REGISTRY_CACHE_VERBOSE: verbose must be true or false");
    unsetenv("DEVBOX_REGISTRY_CACHE_VERBOSE");
}

static void test_bad_files(void)
{
    static const struct {
        const char *text, *msg;
    } rows[] = {
        {"foo = 1", "f:1: unknown name 'foo'"},
        {"= 1", "f:1: unknown name ''"},
        {"\nlisten", "f:2: expected name = value"},
        {"max-body = 5", "f:1: unknown name 'max-body'"},
        {"verbose = true\nverbose = true", "f:2: verbose stands there twice"},
        {"#x\n\n\nmax_body = -1\n", "f:4: max_body must be a number from 1 to 4096"},
        {"verbose = TRUE", "f:1: verbose must be true or false"},
        {"listen = \x01",
         "f:1: listen must not hold control characters, nor begin or end with a blank"},
        {"listen = \xff", "f is not UTF-8"},
    };
    const struct dbx_config__table table = {fields, DBX_ARRAY_LEN(fields), "x", ""};
    for (size_t i = 0; i < DBX_ARRAY_LEN(rows); i++) {
        struct config cfg = {0};
        struct dbx_err err = {0};
        CHECK_EQ(
            dbx_config__parse_file(&cfg, &table, "f", rows[i].text, strlen(rows[i].text), &err),
            -EINVAL);
        CHECK_STR(err.msg, rows[i].msg);
        dbx_config_done(&cfg, fields, DBX_ARRAY_LEN(fields));
    }
}

static void test_answers(void)
{
    struct config cfg;
    struct dbx_err err;
    bool run = true;
    char out[4096], again[4096];
    CHECK_EQ(load(&cfg, &run, &err, out, ARGS("--help")), 0);
    CHECK(!run);
    CHECK(strstr(out, "Usage: devbox-registry-cache") && strstr(out, "Caches packages."));
    CHECK(strstr(out,
                 "  --max-body NUMBER\n      Largest body. (in bytes, 1 to 4096, default 1024; "
                 "DEVBOX_REGISTRY_CACHE_MAX_BODY)\n"));
    dbx_config_done(&cfg, fields, DBX_ARRAY_LEN(fields));

    CHECK_EQ(load(&cfg, &run, &err, out, ARGS("--version")), 0);
    CHECK_STR(out, "devbox-registry-cache " DBX_VERSION "\n");
    dbx_config_done(&cfg, fields, DBX_ARRAY_LEN(fields));

    run = true;
    CHECK_EQ(load(&cfg, &run, &err, out, ARGS("--check-config", "--max-body=7")), 0);
    CHECK(!run);
    dbx_config_done(&cfg, fields, DBX_ARRAY_LEN(fields));
    CHECK_EQ(load(&cfg, &run, &err, out, ARGS("--check-config", "--max-body=x")), -EINVAL);

    CHECK_EQ(load(&cfg, &run, &err, out,
                  ARGS("--print-config", "--max-body=7", "--listen=a = #b", "--verbose")),
             0);
    CHECK(strstr(out, "\nmax_body = 7\n") && strstr(out, "\nlisten = a = #b\n") &&
          strstr(out, "\nverbose = true\n") && strstr(out, "\n# tls_cert =\n"));
    dbx_config_done(&cfg, fields, DBX_ARRAY_LEN(fields));
    write_file(out); /* it reads back as the same */
    CHECK_EQ(load(&cfg, &run, &err, again, ARGS("--config", path, "--print-config")), 0);
    CHECK_STR(again, out);
    dbx_config_done(&cfg, fields, DBX_ARRAY_LEN(fields));
}

int main(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(path, sizeof(path), "%s/dbx-test-config.XXXXXX", base ? base : P_tmpdir);
    int fd = mkostemp(path, O_CLOEXEC);
    CHECK(fd >= 0);
    dbx_close(fd);
    test_precedence();
    test_bad_flags();
    test_bad_files();
    test_answers();
    (void)unlink(path);
    return check_result();
}
