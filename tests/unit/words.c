/* SPDX-License-Identifier: Apache-2.0 */
/* What a list of processes shows of the program's words, and that the program itself loses none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/cmd/process.c"

/* `before`, the word before it or NULL, and `word`: it becomes `shown`. */
static void shows(const char *before, const char *word, const char *shown)
{
    char *argv[] = {tow_strdup("towline"), tow_strdup(before ? before : "run"), tow_strdup(word),
                    NULL};
    char **words = take_words(3, argv);

    assert_string_equal(argv[1], before ? before : "run");
    assert_string_equal(argv[2], shown);
    assert_string_equal(words[2], word);
    for (int i = 0; i < 3; i++) {
        free(argv[i]);
        free(words[i]);
    }
    free(words);
}

static void secrets_are_overwritten(void **state)
{
    static const char *const uri = "mongodb://somebody:hunter2@h:27017/?tls=true";
    static const char *const shown = "mongodb://***@h:27017/?tls=true";

    shows("--source", uri, shown);
    shows("--destination", uri, shown);
    shows("--cluster0", uri, shown);
    shows(NULL, "--source=mongodb://somebody:hunter2@h/", "--source=mongodb://***@h/");
    shows(NULL, "--cluster1=mongodb://somebody:hunter2@h/", "--cluster1=mongodb://***@h/");
    shows("--job", uri, shown); /* in the wrong place */
    shows(NULL, "--sauce=mongodb://somebody:hunter2@h/", "--sauce=mongodb://***@h/");
    shows(NULL, uri, shown);
}

static void so_is_what_looks_like_no_address(void **state)
{
    shows("--source", "somebody:hunter2@h", "(hidden)");
    shows("--cluster0", "somebody:hunter2@h", "(hidden)");
    shows("--cluster1", "somebody:hunter2@h", "(hidden)");
    shows(NULL, "--destination=somebody:hunter2", "--destination=(hidden)");
    shows("--source", "a:b@h", "(hidd"); /* as far as there is room */
    shows("--source", "a=mongodb://u:hunter2@h", "(hidden)");
}

static void of_a_web_page_only_the_site_is_shown(void **state)
{
    shows("--notify-webhook", "https://hooks.example.com/services/T0/B0/hunter2",
          "https://hooks.example.com/***");
    shows(NULL, "--notify-webhook=https://hooks.example.com/services/hunter2",
          "--notify-webhook=https://hooks.example.com/***");
    shows("--notify-smtp", "smtps://somebody:hunter2@mail:465", "smtps://***@mail:465");
}

static void other_words_stay(void **state)
{
    shows("--job", "nightly", "nightly");
    shows("--source-file", "/etc/towline/source.uri", "/etc/towline/source.uri");
    shows("--include", "a=b", "a=b");
    shows(NULL, "--source", "--source");
    shows("--source=mongodb://h/", "status", "status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(secrets_are_overwritten),
        cmocka_unit_test(so_is_what_looks_like_no_address),
        cmocka_unit_test(of_a_web_page_only_the_site_is_shown),
        cmocka_unit_test(other_words_stay),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
