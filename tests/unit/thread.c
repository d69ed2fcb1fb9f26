/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that could not be started is an error and no more; one that was is joined once. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/thread.h"

static bool no_more; /* threads */

int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int __wrap_pthread_create(pthread_t *id, const pthread_attr_t *how, void *(*run)(void *),
                          void *data)
{
    return no_more ? EAGAIN : __real_pthread_create(id, how, run, data);
}

/* What it is called; waits until the name was given. */
static void *read_name(void *data)
{
    char *name = data;

    do
        pthread_getname_np(pthread_self(), name, 16);
    while (strcmp(name, "lane") != 0);
    return NULL;
}

static void it_has_its_name_and_is_joined_once(void **state)
{
    tow_thread_t thread = {0};
    char name[16] = "";
    tow_error_t error;

    tow_thread_join(&thread);
    assert_true(tow_thread_start(&thread, "lane", read_name, name, &error));
    assert_true(thread.started);
    tow_thread_join(&thread);
    assert_string_equal(name, "lane");
    assert_false(thread.started);
    tow_thread_join(&thread);
}

static void *read_blocked(void *blocked)
{
    pthread_sigmask(SIG_SETMASK, NULL, blocked);
    return NULL;
}

/* A signal for the process reaches a thread of the host's; a fault is its thread's own. */
static void it_takes_none_of_the_hosts_signals(void **state)
{
    tow_thread_t thread = {0};
    sigset_t blocked, mine;
    tow_error_t error;

    sigemptyset(&blocked);
    assert_true(tow_thread_start(&thread, "lane", read_blocked, &blocked, &error));
    tow_thread_join(&thread);
    assert_true(sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGTERM) &&
                sigismember(&blocked, SIGUSR1) && sigismember(&blocked, SIGCHLD) &&
                sigismember(&blocked, SIGPIPE));
    assert_false(sigismember(&blocked, SIGSEGV) || sigismember(&blocked, SIGABRT));
    read_blocked(&mine);
    assert_false(sigismember(&mine, SIGINT) || sigismember(&mine, SIGPIPE));
}

static void what_the_machine_refuses_is_an_error(void **state)
{
    tow_thread_t thread = {0};
    tow_error_t error;

    no_more = true;
    assert_false(tow_thread_start(&thread, "lane", read_name, NULL, &error));
    no_more = false;
    assert_int_equal(error.code, TOW_ERROR_INTERNAL);
    assert_non_null(strstr(error.message, "ulimit"));
    assert_false(thread.started);
    tow_thread_join(&thread);
    tow_thread_detach(&thread);
}

static void *end_at_once(void *data)
{
    return data;
}

static void none_is_started_over_one_that_was_not_joined(void **state)
{
    tow_thread_t thread = {0};
    tow_error_t error;

    assert_true(tow_thread_start(&thread, "lane", end_at_once, NULL, &error));
    assert_false(tow_thread_start(&thread, "lane", end_at_once, NULL, &error));
    assert_int_equal(error.code, TOW_ERROR_INTERNAL);
    assert_true(thread.started);
    tow_thread_join(&thread);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_has_its_name_and_is_joined_once),
        cmocka_unit_test(it_takes_none_of_the_hosts_signals),
        cmocka_unit_test(none_is_started_over_one_that_was_not_joined),
        cmocka_unit_test(what_the_machine_refuses_is_an_error)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
