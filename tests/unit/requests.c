/* SPDX-License-Identifier: Apache-2.0 */
/* requests.c: who may ask the control server, and what a request may not replace or combine with
 * what the process was started with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/http/internal.h"
#include "engine/http/token.h"

/* Whether a body is taken by a process that was started with one option; NULL: with none. */
static bool takes(const char *given, const char *body)
{
    char token[] = "token", no_text[] = "";
    tow_server_t server = {.token = token, .options = tow_options_new()};
    tow_request_t request = {.server = &server};
    tow_options_t *options;
    tow_error_t error = {0};

    if (given)
        assert_true(tow_options_set(server.options, given, "mongodb://ours/", &error));
    tow_buffer_append(&request.text, body, strlen(body));
    tow_buffer_append(&request.text, no_text, 1);
    request.text.length--;
    assert_true(tow_request_parse(&request, &error));
    options = tow_settings_of(&request, &error);
    if (!options)
        assert_int_equal(error.code, TOW_ERROR_OPTION);
    if (!options && given && !strstr(error.message, given))
        fail_msg("%s", error.message);
    bson_destroy(request.body);
    tow_buffer_free(&request.text);
    tow_options_destroy(server.options);
    tow_options_destroy(options);
    return options != NULL;
}

static void the_operators_data_goes_to_no_address_of_a_request(void **state TOW_UNUSED)
{
    static const char source[] = "{\"sourceUri\":\"mongodb://a/\"}";
    static const char destination[] = "{\"options\":{\"destination\":\"mongodb://a/\"}}";
    static const char notice[] = "{\"options\":{\"notify-from\":\"a@b.example\"}}";

    assert_true(takes(NULL, source));
    assert_true(takes(NULL, destination));
    assert_false(takes("source", source));
    assert_false(takes("source", destination));
    assert_false(takes("destination", source));
    assert_false(takes("destination-file", destination));
    assert_true(takes("source", notice));
    assert_true(takes("source", "{\"options\":{\"workers\":2}}"));
}

static void a_token_fits_whole(void **state TOW_UNUSED)
{
    assert_true(tow_token_fits("abc", "Bearer abc"));
    assert_true(tow_token_fits("abc", "bearer abc"));
    assert_false(tow_token_fits("abc", "Bearer ab"));
    assert_false(tow_token_fits("abc", "Bearer abcd"));
    assert_false(tow_token_fits("abc", "Bearer abd"));
    assert_false(tow_token_fits("abc", "abc"));
    assert_false(tow_token_fits("abc", NULL));
}

static void a_page_token_is_of_one_process(void **state TOW_UNUSED)
{
    static const char nonce[] = "what do ya want for nothing?";
    char *one = tow_page_token(), *two = tow_page_token();
    char *proof = tow_page_proof("Jefe", nonce), *ours = tow_page_proof(one, nonce);
    char *other = tow_page_proof(one, "what do ya want for nothing!");

    assert_int_equal(strlen(one), 5 + 64);
    assert_string_not_equal(one, two);
    /* RFC 4231, test case 2 */
    assert_string_equal(proof, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    assert_string_not_equal(ours, proof);
    assert_string_not_equal(ours, other);
    free(one);
    free(two);
    free(proof);
    free(ours);
    free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_operators_data_goes_to_no_address_of_a_request),
        cmocka_unit_test(a_token_fits_whole), cmocka_unit_test(a_page_token_is_of_one_process)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
