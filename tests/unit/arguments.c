/* SPDX-License-Identifier: Apache-2.0 */
/* Bad input on the command line and in the environment, for every row of the option table: one line
 * names the option, the value and what is expected; the exit status is 2; nothing is started. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define main towline_main
int main(int argc, char **argv);
#include "engine/cmd/main.c"
#undef main

static char said[4096]; /* every line */
static bool started;

void cmd_say(const char *format, ...)
{
    size_t length = strlen(said);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(said + length, sizeof said - length, format, arguments);
    va_end(arguments);
    strncat(said, "\n", sizeof said - strlen(said) - 1);
}

int cmd_fail(const tow_error_t *error)
{
    cmd_say("%s", error->message);
    return (int)error->code;
}

/* What a verb would do. */
#define VERB(name)                                                                                 \
    int name(tow_options_t *options)                                                               \
    {                                                                                              \
        started = true;                                                                            \
        return 0;                                                                                  \
    }
VERB(cmd_run)
VERB(cmd_serve)
VERB(cmd_check)
VERB(cmd_plan)
VERB(cmd_verify)
VERB(cmd_status)
VERB(cmd_pause)
VERB(cmd_resume)
VERB(cmd_extend)
VERB(cmd_cutover)
VERB(cmd_cancel)
VERB(cmd_notify)
VERB(cmd_config)
VERB(cmd_page)
VERB(cmd_completion)
VERB(cmd_man)
VERB(cmd_version)

unsigned long long cmd_address_space(void)
{
    return 0;
}

bool cmd_fits_group(const tow_options_t *options, tow_error_t *error)
{
    return true;
}

char **cmd_begin(int argc, char **argv)
{
    abort();
}

int cmd_end(int status)
{
    abort();
}

void cmd_help(FILE *out, const cmd_verb_t *verb)
{
}

void cmd_help_markdown(FILE *out)
{
}

bool cmd_takes(const tow_option_t *option, const cmd_verb_t *verb)
{
    char *verbs = tow_strdup(option->verbs), *rest = verbs, *word;
    bool found = false;

    while ((word = strsep(&rest, " ")))
        found |= !strcmp(word, verb->name) || (verb->like && !strcmp(word, verb->like));
    free(verbs);
    return found;
}

/* Words, up to NULL. */
static int call(const char *verb, const char *first, const char *second)
{
    char *argv[] = {(char *)"towline", (char *)(uintptr_t)verb, (char *)(uintptr_t)first,
                    (char *)(uintptr_t)second, NULL};

    said[0] = '\0';
    started = false;
    return run(2 + (first != NULL) + (second != NULL), argv);
}

/* One line that names all these. */
static void expect_refused(int status, const char *name, const char *value)
{
    const char *end = strchr(said, '\n');

    if (status != TOW_ERROR_OPTION || started || !end || end[1] || !strstr(said, name) ||
        !strstr(said, value) || strlen(said) < 20)
        fail_msg("status %d%s, %s %s: %s", status, started ? ", started" : "", name, value, said);
}

static char *first_verb(const tow_option_t *option)
{
    return tow_format("%.*s", (int)strcspn(option->verbs, " "), option->verbs);
}

typedef void (*each_fn)(const tow_option_t *option, const char *verb, const char *name);

static void for_each_option(each_fn each)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    for (size_t i = 0; i < count; i++) {
        char *verb = first_verb(&table[i]), *name = tow_format("--%s", table[i].name);

        each(&table[i], verb, name);
        free(verb);
        free(name);
    }
}

static void give_none(const tow_option_t *option, const char *verb, const char *name)
{
    char *with_equal = tow_format("%s=", name);

    if (option->type != TOW_OPTION_FLAG)
        expect_refused(call(verb, name, NULL), name, "needs a value");
    expect_refused(call(verb, with_equal, NULL), name, "");
    if (option->type != TOW_OPTION_FLAG)
        expect_refused(call(verb, name, ""), name, "");
    free(with_equal);
}

static void a_value_that_is_missing_or_empty(void **state)
{
    for_each_option(give_none);
}

/* Of a wrong type, or out of range. */
static const char *const *bad_values(const tow_option_t *option)
{
    static const char *const numbers[] = {
        "4x", "1.5", "-1", "0x10", "1 2", "", "four", "99999999999999999999", NULL};
    static const char *const flags[] = {"yes", "TRUE", "1", NULL};
    static const char *const choices[] = {"fancy", "|", "a|b", NULL};
    static const char *const durations[] = {"24", "0s", "9999d", "1h-1m", "soon", "-1h", NULL};
    static const char *const lists[] = {"a.", ".b", "admin", "a.$b", "/(/", NULL};
    static const char *const addresses[] = {"here", ":1", "h:99999", "h:", "h:1x", NULL};
    static const char *const names[] = {"Job", "a b", "a/b", "\303\244", NULL};
    static const char *const urls[] = {"h", "ftp://h/", "\n", NULL};
    static const char *const none[] = {NULL};

    switch (option->type) {
    case TOW_OPTION_INTEGER:
        return numbers;
    case TOW_OPTION_FLAG:
        return flags;
    case TOW_OPTION_CHOICE:
        return choices;
    case TOW_OPTION_DURATION:
        return durations;
    case TOW_OPTION_LIST:
        return lists;
    default:
        return !strcmp(option->name, "listen") ? addresses
               : !strcmp(option->name, "job")  ? names
               : !strcmp(option->unit, "URL")  ? urls
                                               : none;
    }
}

/* What the message names of it: a secret's value is not shown. */
static const char *named(const tow_option_t *option, const char *value)
{
    return option->type == TOW_OPTION_SECRET || !strcmp(value, "|") ? "" : value;
}

static void give_bad(const tow_option_t *option, const char *verb, const char *name)
{
    for (const char *const *value = bad_values(option); *value; value++) {
        char *word = tow_format("%s=%s", name, *value);

        expect_refused(call(verb, word, NULL), name, named(option, *value));
        free(word);
        if (option->type != TOW_OPTION_FLAG)
            expect_refused(call(verb, name, *value), name, named(option, *value));
        if (!**value) /* an empty variable is none */
            continue;
        setenv(option->environment, *value, 1);
        expect_refused(call(verb, NULL, NULL), name, named(option, *value));
        expect_refused(TOW_ERROR_OPTION, option->environment, "");
        unsetenv(option->environment);
    }
}

static void a_value_of_a_wrong_type_or_out_of_range(void **state)
{
    for_each_option(give_bad);
}

static void give_beyond(const tow_option_t *option, const char *verb, const char *name)
{
    long long least, most;

    if (option->type != TOW_OPTION_INTEGER)
        return;
    assert_int_equal(sscanf(option->range, "%lld..%lld", &least, &most), 2);
    for (int i = 0; i < 4; i++) {
        char *number = tow_format("%lld", i == 0   ? least - 1
                                          : i == 1 ? most + 1
                                          : i == 2 ? least
                                                   : most);

        if (i < 2) {
            expect_refused(call(verb, name, number), name, number);
            assert_non_null(strstr(said, option->range));
        } else {
            assert_int_equal(call(verb, name, number), 0);
            assert_true(started);
        }
        free(number);
    }
}

static void a_number_just_beyond_its_range(void **state)
{
    for_each_option(give_beyond);
}

static void give_elsewhere(const tow_option_t *option, const char *verb, const char *name)
{
    for (const cmd_verb_t *each = cmd_verbs; each->name; each++)
        if (!cmd_takes(option, each)) {
            char *text = tow_format("%s has no option %s", each->name, name);

            expect_refused(call(each->name, name, NULL), text, "");
            free(text);
        }
}

static void an_option_of_another_verb(void **state)
{
    for_each_option(give_elsewhere);
}

static void unknown_words(void **state)
{
    expect_refused(call("run", "--wrokers", "4"), "--wrokers", "did you mean --workers?");
    expect_refused(call("status", "--wathc", NULL), "--wathc", "did you mean --watch?");
    expect_refused(call("run", "--nothing-like-it", NULL), "--nothing-like-it", "--help");
    expect_refused(call("run", "shop", NULL), "shop", "--help");
    expect_refused(call("status", "-x", NULL), "-x", "--help");
    expect_refused(call("status", "-v", NULL), "--verbose", "--help");
    expect_refused(call("extend", "24h", "3h"), "3h", "one word too many");
    expect_refused(call("chek", NULL, NULL), "chek", "did you mean towline check?");
    expect_refused(call("help", "rnu", NULL), "rnu", "did you mean towline run?");
    expect_refused(call("serve", "--port", NULL), "--port", "needs a value");
    expect_refused(call("serve", "--port=x", NULL), "--listen", "x");
    expect_refused(call("serve", "--verbosity=x", NULL), "verbosity", "'x'");
    expect_refused(call("serve", "--id=x", NULL), "'id'", "not supported");
}

static void options_that_exclude_each_other(void **state)
{
    expect_refused(call("run", "-q", "-v"), "--quiet", "--verbose");
    expect_refused(call("status", "--no-token", "--token-file=x"), "--no-token", "--token-file");
    setenv("TOWLINE_QUIET", "true", 1); /* the command line decides */
    assert_int_equal(call("run", "-v", NULL), 0);
    setenv("TOWLINE_TOKEN_FILE", "x", 1);
    assert_int_equal(call("run", "--no-token", NULL), 0);
    unsetenv("TOWLINE_TOKEN_FILE");
    unsetenv("TOWLINE_QUIET");
    assert_int_equal(call("run", "-q", "--verbose=false"), 0);
}

/* help says so instead of naming each. */
static void a_variable_is_named_as_its_option(void **state)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    for (size_t i = 0; i < count; i++) {
        char *expected = tow_format("TOWLINE_%s", table[i].name);

        for (char *at = expected; *at; at++)
            *at = *at == '-' ? '_' : (char)toupper((unsigned char)*at);
        assert_string_equal(table[i].environment, expected);
        free(expected);
    }
}

static void groups_stand_together(void **state)
{
    size_t count;
    const tow_option_t *table = tow_options_table(&count);

    for (size_t i = 0; i < count; i++) {
        assert_true(table[i].group && *table[i].group);
        for (size_t j = 0; j + 1 < i; j++)
            if (!strcmp(table[j].group, table[i].group))
                assert_string_equal(table[i - 1].group, table[i].group);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_that_is_missing_or_empty),
        cmocka_unit_test(a_value_of_a_wrong_type_or_out_of_range),
        cmocka_unit_test(a_number_just_beyond_its_range),
        cmocka_unit_test(an_option_of_another_verb),
        cmocka_unit_test(unknown_words),
        cmocka_unit_test(options_that_exclude_each_other),
        cmocka_unit_test(a_variable_is_named_as_its_option),
        cmocka_unit_test(groups_stand_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
