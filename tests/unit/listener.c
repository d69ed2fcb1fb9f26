/* SPDX-License-Identifier: Apache-2.0 */
/* listener.c: which listener a verb asks and believes: one of our own user, or of root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <curl/curl.h>
#include <stdbool.h>

static bool asks_owner; /* whose listener it is */

#undef curl_easy_setopt
#define curl_easy_setopt(curl, option, value)                                                      \
    ((void)(curl), (void)(value), asks_owner = asks_owner || (option) == CURLOPT_PREREQFUNCTION)

#include "engine/cmd/request.c"

static char said[2048];

void cmd_say(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(said, sizeof said, format, arguments);
    va_end(arguments);
}

int cmd_fail(const tow_error_t *error TOW_UNUSED)
{
    abort();
}

bson_t *cmd_document(const char *json TOW_UNUSED)
{
    abort();
}

const char *cmd_text_of(const bson_t *document TOW_UNUSED, const char *path TOW_UNUSED)
{
    abort();
}

static void only_our_own_and_roots_are_asked(void **state TOW_UNUSED)
{
    assert_true(may_be_asked(geteuid()));
    assert_true(may_be_asked(0));
    assert_false(may_be_asked(TOW_NO_USER));
    assert_false(may_be_asked(geteuid() + 65534)); /* neither ours nor of a DynamicUser */
    assert_true(geteuid() != 0 || may_be_asked(61184));
}

static void whose_it_is_is_asked_without_a_token_too(void **state TOW_UNUSED)
{
    static const char *const names[] = {"no-token", "tls-ca"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        tow_options_t *options = tow_options_new();
        struct curl_slist *headers;
        int status = 0;
        tow_error_t error;
        CURL *curl;

        assert_true(tow_options_set(options, "no-token", "true", &error));
        assert_true(tow_options_set(options, "listen", "127.0.0.1:1", &error));
        assert_true(!i || tow_options_set(options, "tls-ca", "/no/such/file", &error));
        asks_owner = false;
        curl = cmd_request(options, "progress", NULL, &headers, &status);
        assert_non_null(curl);
        assert_int_equal(asks_owner, !i);
        curl_slist_free_all(headers);
        curl_easy_cleanup(curl);
        tow_options_destroy(options);
    }
}

static void an_answer_without_end_is_given_up(void **state TOW_UNUSED)
{
    static char piece[1 << 16];
    cmd_reply_t reply = {0};
    size_t taken = 0;

    while (taken <= REPLY_MOST && take(piece, 1, sizeof piece, &reply))
        taken += sizeof piece;
    assert_int_equal(taken, REPLY_MOST);
    free(reply.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(only_our_own_and_roots_are_asked),
                                       cmocka_unit_test(whose_it_is_is_asked_without_a_token_too),
                                       cmocka_unit_test(an_answer_without_end_is_given_up)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
