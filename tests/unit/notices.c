/* SPDX-License-Identifier: Apache-2.0 */
/* The signature of a webhook, by the test vectors of RFC 4231, and what options make notices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/notice/deliver.h"
#include "engine/notice/notices.h"

static void signatures(void **state)
{
    char hex[65];

    tow_hmac_sha256("Jefe", "what do ya want for nothing?", hex);
    assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    tow_hmac_sha256(
        "\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b",
        "Hi There", hex);
    assert_string_equal(hex, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
}

/* Whether the options are taken; *out as tow_notices_new leaves it. */
static bool make(const char *const pairs[][2], size_t count, tow_notices_t **out,
                 tow_error_t *error)
{
    tow_options_t *options = tow_options_new();
    tow_sink_t sink = {0};
    bool ok = true;

    *out = NULL;
    *error = (tow_error_t){0};
    for (size_t i = 0; ok && i < count; i++)
        ok = tow_options_set(options, pairs[i][0], pairs[i][1], error);
    ok = ok && tow_notices_new(options, &sink, out, error);
    tow_options_destroy(options);
    return ok;
}

static void incomplete_or_unsafe_options_are_refused(void **state)
{
    static const char *const half[][2] = {{"notify-smtp", "smtp://h"}, {"notify-from", "a@b"}};
    static const char *const scheme[][2] = {{"notify-webhook", "file:///etc/passwd"}};
    static const char *const mail_scheme[][2] = {{"notify-smtp", "http://h"}};
    static const char *const injected[][2] = {{"notify-to", "a@b\r\nBcc: c@d"}};
    static const char *const no_file[][2] = {{"notify-webhook", "http://h"},
                                             {"notify-key-file", "/no/such/file"}};
    static const char *const lone_key[][2] = {{"notify-key-file", "/dev/null"}};
    static const char *const no_authority[][2] = {{"notify-webhook", "http://h"},
                                                  {"notify-ca-file", "/no/such/file"}};
    tow_notices_t *notices;
    tow_error_t error;

    assert_true(make(NULL, 0, &notices, &error));
    assert_null(notices);
    assert_false(make(half, 2, &notices, &error));
    assert_non_null(strstr(error.message, "--notify-to"));
    assert_false(make(scheme, 1, &notices, &error));
    assert_false(make(mail_scheme, 1, &notices, &error));
    assert_false(make(injected, 1, &notices, &error));
    assert_false(make(no_file, 2, &notices, &error));
    assert_non_null(strstr(error.message, "/no/such/file"));
    assert_false(make(lone_key, 1, &notices, &error));
    assert_non_null(strstr(error.message, "--notify-webhook"));
    assert_false(make(no_authority, 2, &notices, &error));
    assert_non_null(strstr(error.message, "--notify-ca-file"));
}

/* Nobody listens on port 1: every attempt fails at once, and the close gives up in time. */
static void an_unreachable_server_delays_the_end_by_the_grace_at_most(void **state)
{
    static const char *const dead[][2] = {{"notify-webhook", "http://127.0.0.1:1/hook"}};
    tow_notice_t notice = {"done", "done", "message", "job", "a", "b"};
    tow_notices_t *notices;
    tow_error_t error;
    int64_t began_ms;

    assert_true(make(dead, 1, &notices, &error));
    for (int i = 0; i < 100; i++) /* more than the queue holds */
        tow_notices_send(notices, &notice);
    began_ms = tow_now_ms();
    tow_notices_close(notices, 300);
    assert_in_range(tow_now_ms() - began_ms, 290, 2000);
    tow_notices_send(notices, &notice); /* too late: dropped */
    tow_notices_destroy(notices);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures), cmocka_unit_test(incomplete_or_unsafe_options_are_refused),
        cmocka_unit_test(an_unreachable_server_delays_the_end_by_the_grace_at_most)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
