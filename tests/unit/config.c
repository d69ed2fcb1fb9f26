/* SPDX-License-Identifier: Apache-2.0 */
/* Files of options: what they set, and that each mistake is told with its line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/options/options.h"

static bool load_bytes(tow_options_t *options, const char *text, size_t length, mode_t mode,
                       tow_error_t *error)
{
    char path[] = "/tmp/towline-config-XXXXXX";
    int file = mkstemp(path);
    bool ok;

    assert_true(file >= 0);
    assert_int_equal(write(file, text, length), length);
    assert_int_equal(fchmod(file, mode), 0);
    close(file);
    *error = (tow_error_t){0};
    ok = tow_options_load(options, path, error);
    unlink(path);
    return ok;
}

/* Loads a text as a file. */
static bool load(tow_options_t *options, const char *text, tow_error_t *error)
{
    return load_bytes(options, text, strlen(text), 0600, error);
}

static void values_of_every_type(void **state)
{
    tow_options_t *options = tow_options_new();
    tow_error_t error;

    assert_true(load(options,
                     "# a comment\n"
                     "source: mongodb://u:p%40ss@h/?a=b#c\n"
                     "workers: 8\n"
                     "no-verify: true\n"
                     "cutover: 'manual'\n"
                     "window: 2d\n"
                     "include:\n  - shop\n  - other.c\n"
                     "exclude: shop.x\n",
                     &error));
    assert_string_equal(tow_options_get(options, "source", 0), "mongodb://u:p%40ss@h/?a=b#c");
    assert_string_equal(tow_options_get(options, "workers", 0), "8");
    assert_string_equal(tow_options_get(options, "no-verify", 0), "true");
    assert_string_equal(tow_options_get(options, "cutover", 0), "manual");
    assert_string_equal(tow_options_get(options, "window", 0), "2d");
    assert_string_equal(tow_options_get(options, "include", 1), "other.c");
    assert_string_equal(tow_options_get(options, "exclude", 0), "shop.x");
    assert_true(load(options, "", &error));
    assert_true(load(options, "# nothing\n", &error));
    tow_options_destroy(options);
}

static void mongosyncs_keys(void **state)
{
    tow_options_t *options = tow_options_new();
    tow_error_t error;

    assert_true(load(options,
                     "cluster0: \"mongodb://a:1\"\ncluster1: \"mongodb://b:2\"\nlogPath: /var/log\n"
                     "verbosity: WARN\nport: 27500\nloadLevel: 4\ndisableVerification: true\n",
                     &error));
    assert_string_equal(tow_options_get(options, "source", 0), "mongodb://a:1");
    assert_string_equal(tow_options_get(options, "destination", 0), "mongodb://b:2");
    assert_string_equal(tow_options_get(options, "log-path", 0), "/var/log");
    assert_string_equal(tow_options_get(options, "log-level", 0), "warning");
    assert_string_equal(tow_options_get(options, "listen", 0), "127.0.0.1:27500");
    assert_string_equal(tow_options_get(options, "workers", 0), "8");
    assert_string_equal(tow_options_get(options, "no-verify", 0), "true");
    tow_options_destroy(options);
}

static void mistakes_are_told_with_their_line(void **state)
{
    static const struct {
        const char *text, *place, *word;
    } bad[] = {{"workers: 4\nworker: 5\n", ":2: ", "'worker' is unknown"},
               {"workers: 4\n\nworkers: 5\n", ":3: ", "in line 1 already"},
               {"cluster0: a\nsource: b\n", ":2: ", "in line 1 already"},
               {"workers: many\n", ":1: ", "1..64"},
               {"workers: 400\n", ":1: ", "1..64"},
               {"workers: [4]\n", ":1: ", "is a list; expected a number"},
               {"no-verify: yes\n", ":1: ", "neither true nor false"},
               {"source: {uri: x}\n", ":1: ", "is a mapping; expected a text"},
               {"job: a\ninclude:\n  - {a: b}\n", ":2: ", "no text"},
               {"include: [admin]\n", ":1: ", "admin"},
               {"window: soon\n", ":1: ", "120h"},
               {"source:\n", ":1: ", "empty"},
               {"id: shard0\n", ":1: ", "not supported"},
               {"job: a\nhotDocIDs: []\n", ":2: ", "not supported"},
               {"verbosity: LOUD\n", ":1: ", "TRACE"},
               {"loadLevel: 9\n", ":1: ", "1, 2, 3, 4"},
               {"port: high\n", ":1: ", "HOST:PORT"},
               {"config: other.yaml\n", ":1: ", "unknown"},
               {"- a\n- b\n", ":1: ", "key: value"},
               {"just text\n", ":1: ", "key: value"},
               {"job: a\n? [x]\n: 1\n", ":2: ", "no text"},
               {"job: a\n---\njob: b\n", ":3: ", "second document"},
               {"job: a\n  b: 'c\n", ":", "no YAML"}};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tow_options_t *options = tow_options_new();
        tow_error_t error;

        if (load(options, bad[i].text, &error))
            fail_msg("taken: %s", bad[i].text);
        assert_int_equal(error.code, TOW_ERROR_OPTION);
        if (!strstr(error.message, bad[i].place) || !strstr(error.message, bad[i].word))
            fail_msg("no '%s' or no '%s' in: %s", bad[i].place, bad[i].word, error.message);
        tow_options_destroy(options);
    }
}

static void later_levels_replace(void **state)
{
    tow_options_t *options = tow_options_new();
    tow_error_t error;

    assert_true(load(options, "include: [a, b]\nsource-file: old.uri\nworkers: 2\n", &error));
    tow_options_override(options);
    assert_true(tow_options_set(options, "include", "c", &error));
    assert_true(tow_options_set(options, "include", "d", &error));
    assert_true(tow_options_set(options, "source", "mongodb://h", &error));
    assert_string_equal(tow_options_get(options, "include", 0), "c");
    assert_string_equal(tow_options_get(options, "include", 1), "d");
    assert_null(tow_options_get(options, "include", 2));
    assert_null(tow_options_get(options, "source-file", 0));
    assert_string_equal(tow_options_get(options, "workers", 0), "2");
    tow_options_override(options);
    assert_true(tow_options_set(options, "source-file", "new.uri", &error));
    assert_null(tow_options_get(options, "source", 0));
    /* Within one level both are a contradiction, which tow_options_uri tells. */
    assert_true(tow_options_set(options, "source", "mongodb://h", &error));
    assert_non_null(tow_options_get(options, "source-file", 0));
    tow_options_destroy(options);
}

/* It would end the value here, and not for whoever reads the file. */
static void a_zero_byte_is_refused(void **state)
{
    tow_options_t *options = tow_options_new();
    tow_error_t error;

    assert_false(load(options, "workers: 2\nsource: \"mongodb://a\\0b\"\n", &error));
    assert_non_null(strstr(error.message, ":2: a value holds a zero byte"));
    assert_false(load(options, "include: [\"a\\0b\"]\n", &error));
    assert_false(load(options, "\"work\\0ers\": 2\n", &error));
    assert_false(load_bytes(options, "job: a\0b\n", 9, 0600, &error));
    assert_null(tow_options_get(options, "source", 0));
    tow_options_destroy(options);
}

/* libyaml takes 20 s of CPU for it. */
static void deep_nesting_is_refused_at_once(void **state)
{
    enum { DEEP = 100000 };
    tow_options_t *options = tow_options_new();
    char *text = malloc(DEEP + 32), *at;
    const char *const openings[] = {"[", "{a: ", "- ", "? "};
    clock_t began = clock();
    tow_error_t error;

    assert_non_null(text);
    for (size_t i = 0; i < sizeof openings / sizeof *openings; i++) {
        at = stpcpy(text, "include:\n  ");
        while (at - text < DEEP)
            at = stpcpy(at, openings[i]);
        assert_false(load(options, text, &error));
        assert_non_null(strstr(error.message, "nested"));
    }
    assert_true((clock() - began) / CLOCKS_PER_SEC < 2);
    free(text);
    tow_options_destroy(options);
}

static void a_file_with_passwords_is_ours_alone(void **state)
{
    static const char *const secrets[] = {
        "source: mongodb://u:p@h/\n", "cluster1: mongodb://u:p@h/\n",
        "notify-webhook: https://h/path\n",
        "destination: mongodb://h/?tlsCertificateKeyFilePassword=x\n"};
    static const char open_text[] = "source: mongodb://h/\nworkers: 3\n";
    tow_options_t *options = tow_options_new();
    tow_error_t error;

    for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++) {
        assert_false(load_bytes(options, secrets[i], strlen(secrets[i]), 0640, &error));
        assert_non_null(strstr(error.message, "chmod 600"));
        assert_true(load(options, secrets[i], &error));
    }
    assert_true(load_bytes(options, open_text, strlen(open_text), 0644, &error));
    tow_options_destroy(options);
}

static void a_file_that_others_may_write_is_refused(void **state)
{
    static const mode_t modes[] = {0666, 0620, 0602};
    static const char text[] = "on-phase: id\n";
    tow_options_t *options = tow_options_new();
    tow_error_t error;

    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        assert_false(load_bytes(options, text, strlen(text), modes[i], &error));
        assert_int_equal(error.code, TOW_ERROR_OPTION);
        assert_non_null(strstr(error.message, "chmod go-w"));
        assert_null(tow_options_get(options, "on-phase", 0));
    }
    assert_true(tow_options_load(options, "/dev/null", &error));
    tow_options_destroy(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(values_of_every_type),
                                       cmocka_unit_test(mongosyncs_keys),
                                       cmocka_unit_test(mistakes_are_told_with_their_line),
                                       cmocka_unit_test(later_levels_replace),
                                       cmocka_unit_test(a_zero_byte_is_refused),
                                       cmocka_unit_test(deep_nesting_is_refused_at_once),
                                       cmocka_unit_test(a_file_with_passwords_is_ours_alone),
                                       cmocka_unit_test(a_file_that_others_may_write_is_refused)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
