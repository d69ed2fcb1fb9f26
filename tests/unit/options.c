/* SPDX-License-Identifier: Apache-2.0 */
/* Values are checked when they are set, and every row of the table is usable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/options/options.h"

static void bad_values_are_refused(void **state)
{
    static const char *const bad[][2] = {
        {"workers", "0"},     {"workers", "65"},  {"workers", "4x"},      {"workers", ""},
        {"cutover", "maybe"}, {"cutover", ""},    {"no-verify", "yes"},   {"job", "Job"},
        {"job", ""},          {"listen", "here"}, {"listen", "a:99999"},  {"include", ""},
        {"include", "admin"}, {"include", "a."},  {"exclude", "local.x"}, {"nonsense", "1"},
        {"memory", "1"},      {"lease", "2s"},    {"lease", "11m"}};
    tow_options_t *options = tow_options_new();

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tow_error_t error = {0};

        assert_false(tow_options_set(options, bad[i][0], bad[i][1], &error));
        assert_int_equal(error.code, TOW_ERROR_OPTION);
        assert_true(strlen(error.message) > 10);
    }
    tow_options_destroy(options);
}

static void values_and_defaults(void **state)
{
    tow_options_t *options = tow_options_new();
    tow_error_t error;

    assert_string_equal(tow_options_get(options, "workers", 0), "4");
    assert_true(tow_options_set(options, "workers", "9", &error));
    assert_true(tow_options_set(options, "workers", "8", &error));
    assert_string_equal(tow_options_get(options, "workers", 0), "8");
    assert_true(tow_options_set(options, "include", "a", &error));
    assert_true(tow_options_set(options, "include", "b.c.d", &error));
    assert_string_equal(tow_options_get(options, "include", 1), "b.c.d");
    assert_null(tow_options_get(options, "include", 2));
    assert_null(tow_options_get(options, "source", 0));
    tow_options_destroy(options);
}

static void the_table_is_whole(void **state)
{
    tow_options_t *options = tow_options_new();
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    assert_true(count > 15);
    for (size_t i = 0; i < count; i++) {
        tow_error_t error;

        assert_memory_equal(table[i].environment, "TOWLINE_", 8);
        assert_true(*table[i].help && *table[i].verbs);
        if (*table[i].initial && strcmp(table[i].name, "spool") != 0)
            assert_true(tow_options_set(options, table[i].name, table[i].initial, &error));
    }
    tow_options_destroy(options);
}

static void a_missing_uri_says_what_to_give(void **state)
{
    tow_options_t *options = tow_options_new();
    tow_error_t error;
    char *uri;

    assert_false(tow_options_uri(options, "source", &uri, &error));
    assert_non_null(strstr(error.message, "--source-file"));
    assert_true(tow_options_set(options, "source-file", "/nonexistent", &error));
    assert_false(tow_options_uri(options, "source", &uri, &error));
    assert_non_null(strstr(error.message, "/nonexistent"));
    tow_options_destroy(options);
}

/* A password must not come out, however the URI is written. */
static void shown_without_secrets(void **state)
{
    static const char *const uris[][2] = {
        {"mongodb://u:hunter2@h:1,g:2/d?tls=true", "mongodb://***@h:1,g:2/d?tls=true"},
        {"mongodb://u:hun@ter2/@h/", "mongodb://***@h/"},
        {"mongodb://u:hun?t=er2/@h/", "mongodb://***@h/"},
        {"mongodb://u:hun/t?e=r2@h/", "mongodb://***@h/"},
        {"mongodb://u:h@n/t?er2@h/", "mongodb://***@h/"},
        {"mongodb://h/?tls=true", "mongodb://h/?tls=true"},
        {"mongodb://h/?tlsCertificateKeyFilePassword=hunter2&w=1",
         "mongodb://h/?tlsCertificateKeyFilePassword=***&w=1"},
        {"mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:hunter2",
         "mongodb://h/?authMechanismProperties=***"},
        {"hunter2", "(hidden)"},
        {"mongodb://[::1]:1,h.example/?replicaSet=a&tls=true",
         "mongodb://[::1]:1,h.example/?replicaSet=a&tls=true"},
        {"mongodb://%2Ftmp%2Fm.sock", "mongodb://%2Ftmp%2Fm.sock"},
        /* What cannot be read may be a password. */
        {"mongodb://user:hunter2", "mongodb://***"},
        {"mongodb://user:123456", "mongodb://***"},
        {"mongodb://user:hunter2/", "mongodb://***"},
        {"mongodb://user:hunter2?x=1", "mongodb://***"},
        {"mongodb://user hunter2", "mongodb://***"},
        {"mongodb://h,user:hunter2,g", "mongodb://***"},
        {"mongodb://u:p@h:hunter2/", "mongodb://***"},
        {"mongodb://", "mongodb://***"},
        {"hunter2://h/", "(hidden)"},
        {"mongodb://u:hunter2@h:1/d#x", "mongodb://***"},
        /* Options that are not known, have no name, or values that hold more. */
        {"mongodb://h/?x=hunter2&w=1", "mongodb://h/?x=***&w=1"},
        {"mongodb://h/?hunter2", "mongodb://h/?***"},
        {"mongodb://h/?tls=true;password=hunter2", "mongodb://h/?tls=***"},
        {"mongodb://h/?appName=a=hunter2", "mongodb://h/?appName=***"},
        {"mongodb://h/?=hunter2", "mongodb://h/?=***"},
        {"mongodb://h?tlss=true", "mongodb://h?tlss=***"}};
    static const char *const hooks[][2] = {
        {"https://h.example:443/hook/1@2/hunter2", "https://h.example:443/***"},
        {"https://u:hunter2@h/x@y", "https://h/***"},
        {"https://u:hun/ter2@h/x", "https://h/***"},
        {"https://u:hunter2", "https://***/***"},
        {"https://h", "https://h/***"}};
    tow_options_t *options = tow_options_new();
    tow_error_t error;

    for (size_t i = 0; i < sizeof uris / sizeof *uris; i++) {
        char *shown;

        assert_true(tow_options_set(options, "source", uris[i][0], &error));
        shown = tow_options_shown(options, "source", 0);
        assert_string_equal(shown, uris[i][1]);
        tow_free(shown);
    }
    for (size_t i = 0; i < sizeof hooks / sizeof *hooks; i++) {
        char *shown;

        assert_true(tow_options_set(options, "notify-webhook", hooks[i][0], &error));
        shown = tow_options_shown(options, "notify-webhook", 0);
        assert_string_equal(shown, hooks[i][1]);
        tow_free(shown);
    }
    assert_true(tow_options_is_set(options, "source"));
    assert_false(tow_options_is_set(options, "workers"));
    assert_null(tow_options_shown(options, "destination", 0));
    tow_options_destroy(options);
}

/* To copy and connect to: no mark in the place of what was left out. */
static void addresses(void **state)
{
    static const char *const uris[][2] = {
        {"mongodb://u:hunter2@h:1,g:2/d?tls=true", "mongodb://h:1,g:2/d?tls=true"},
        {"mongodb+srv://u:hun@ter2/@h/", "mongodb+srv://h/"},
        {"mongodb://h/?tlsCertificateKeyFilePassword=hunter2&w=1&tls=true",
         "mongodb://h/?w=1&tls=true"},
        {"mongodb://h/?w=1&tlsCertificateKeyFilePassword=hunter2", "mongodb://h/?w=1"},
        {"mongodb://h/?authMechanismProperties=A:hunter2", "mongodb://h/"},
        {"mongodb://u:p@h,g/?tlsCAFile=/home/me@x.com/ca&w=1&appName=a@b",
         "mongodb://h,g/?tlsCAFile=/home/me@x.com/ca&w=1&appName=a@b"},
        {"mongodb://h:1/?tlsCAFile=/home/me@x.com/ca",
         "mongodb://h:1/?tlsCAFile=/home/me@x.com/ca"},
        {"mongodb://h/?x=hunter2", "mongodb://h/"},
        {"hunter2", "(hidden)"}};

    for (size_t i = 0; i < sizeof uris / sizeof *uris; i++) {
        char *address = tow_uri_address(uris[i][0]);

        assert_string_equal(address, uris[i][1]);
        tow_free(address);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_values_are_refused), cmocka_unit_test(values_and_defaults),
        cmocka_unit_test(the_table_is_whole),     cmocka_unit_test(a_missing_uri_says_what_to_give),
        cmocka_unit_test(shown_without_secrets),  cmocka_unit_test(addresses)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
