/* SPDX-License-Identifier: Apache-2.0 */
/* text.c: foreign text is shown without effect on a terminal, a log or a mail, and without
 * passwords. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/error.h"
#include "engine/base/sink.h"
#include "engine/base/text.h"

static void foreign_text_has_no_effect(void **state)
{
    static const char *const texts[][2] = {
        {"", ""},
        {"shop.orders", "shop.orders"},
        {"Grüße, 東京 😀 \\n", "Grüße, 東京 😀 \\n"},
        {"a\nb\rc\td", "a\\x0ab\\x0dc\\x09d"},
        {"\033]0;pwned\a\033[31m", "\\x1b]0;pwned\\x07\\x1b[31m"},
        {"a\177b", "a\\x7fb"},
        {"\302\233"
         "31m",
         "\\xc2\\x9b"
         "31m"}, /* CSI as U+009b */
        {"\233"
         "31m",
         "\\x9b"
         "31m"},                  /* and as a byte */
        {"\302\240", "\302\240"}, /* U+00a0 is none of them */
        {"\xff\xfe", "\\xff\\xfe"},
        {"\xc0\x8a", "\\xc0\\x8a"}, /* a newline, overlong */
        {"\xe0\x80\x8a", "\\xe0\\x80\\x8a"},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* half a pair */
        {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* beyond the last */
        {"\xe2\x82", "\\xe2\\x82"},                   /* cut off */
        {"\xe2\x80\xae"
         "x",
         "\\xe2\\x80\\xae"
         "x"}, /* right to left */
        {"\xe2\x80\xa8"
         "x",
         "\\xe2\\x80\\xa8"
         "x"}}; /* a line separator */

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char *shown = tow_printable(texts[i][0]);

        assert_string_equal(shown, texts[i][1]);
        free(shown);
    }
}

static void credentials_are_hidden(void **state)
{
    static const char *const texts[][2] = {
        {"no address", "no address"},
        {"'mongodb://u:p@h:1/' is no name", "'mongodb://***@h:1/' is no name"},
        {"mongodb://u:p@ss/w@h, mongodb+srv://u@g", "mongodb://***@h, mongodb+srv://***"},
        {"mongodb://user:hunter2", "mongodb://***"},
        {"smtp://user:hunter2", "smtp://***"},
        {"MongoDB://user:hunter2", "MongoDB://***"},
        {"--job: 'mongodb://user:hunter2' is no name", "--job: 'mongodb://***' is no name"},
        {"'mongodb://u:1 hunter2@h/x' is it", "'mongodb://***' is it"},
        {"'mongodb://u:1 hunter2' is it", "'mongodb://***' is it"},
        {"'mongodb://u:1'hunter2@h/x' is it", "'mongodb://***' is it"},
        {"\"mongodb://u:1\"hunter2@h/x\" is it", "\"mongodb://***\" is it"},
        {"mongodb://u:1 hunter2@h/x is it", "mongodb://***"},
        {"mongodb://u ser:hunter2@h/x is it", "mongodb://***"},
        {"mongodb://u:p@x hunter2@h/x is it", "mongodb://***"},
        {"mongodb://u:a://hunter2@h/", "mongodb://***@h/"},
        {"mongodb://h/?tls=true&tlsCertificateKeyFilePassword=hunter2&w=1",
         "mongodb://h/?tls=true&tlsCertificateKeyFilePassword=***&w=1"},
        {"neither mongodb:// nor smtp://; mongodb://HOST[:PORT][,…]/[?OPTIONS]",
         "neither mongodb:// nor smtp://; mongodb://HOST[:PORT][,…]/[?OPTIONS]"},
        {"mongodb://a:1,b:2/: no reply; mongodb://… or FILE",
         "mongodb://a:1,b:2/: no reply; mongodb://… or FILE"},
        {"_id \"https://x.example/@me\" at https://u:p@h/",
         "_id \"https://x.example/@me\" at https://***@h/"},
        {"mongodb://h/ and me@example.com", "mongodb://h/ and me@example.com"},
        {"://@", "://@"},
        {"://a@", "://*@"}};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char *text = strdup(texts[i][0]);

        tow_hide_credentials(text);
        assert_string_equal(text, texts[i][1]);
        tow_hide_credentials(text); /* a message goes through more than once */
        assert_string_equal(text, texts[i][1]);
        free(text);
    }
}

static void take(void *data, tow_level_t level, const char *name, const char *message)
{
    strcpy(data, message);
}

static void no_error_and_no_event_holds_a_password(void **state)
{
    tow_error_t error;
    char message[100];
    tow_sink_t sink = {take, message};

    tow_fail(&error, TOW_ERROR_OPTION, "--job: '%s' is no name", "mongodb://u:hunter2@h/");
    assert_string_equal(error.message, "--job: 'mongodb://***@h/' is no name");
    tow_fail_context(&error, "%s", "mongodb://u:hunter2@h/");
    assert_null(strstr(error.message, "hunter2"));
    tow_fail_errno(&error, TOW_ERROR_OPTION, "%s", "mongodb://u:hunter2@h/");
    assert_null(strstr(error.message, "hunter2"));
    tow_emit(&sink, TOW_LEVEL_INFO, "x", "%s", "mongodb://u:hunter2@h/");
    assert_string_equal(message, "mongodb://***@h/");
}

static void names_that_are_near(void **state)
{
    char endless[100] = "";

    memset(endless, 'x', sizeof endless - 1);
    assert_int_equal(tow_text_distance("check", "check"), 0);
    assert_int_equal(tow_text_distance("chek", "check"), 1);
    assert_int_equal(tow_text_distance("recheck", "check"), 2);
    assert_int_equal(tow_text_distance("checkk", "check"), 1);
    assert_int_equal(tow_text_distance("chack", "CHECK"), 1);
    assert_int_equal(tow_text_distance("chcek", "check"), 1);
    assert_int_equal(tow_text_distance("run", "verify"), 5);
    assert_int_equal(tow_text_distance("", "run"), 3);
    assert_int_equal(tow_text_distance(endless, "run"), 99);
    assert_true(tow_text_distance("run", endless) >= 48);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(foreign_text_has_no_effect),
                                       cmocka_unit_test(credentials_are_hidden),
                                       cmocka_unit_test(names_that_are_near),
                                       cmocka_unit_test(no_error_and_no_event_holds_a_password)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
