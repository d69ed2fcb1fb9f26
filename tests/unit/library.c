/* SPDX-License-Identifier: Apache-2.0 */
/* What programs that embed the library rely on: structures of an older header, listeners and
 * queues of events. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/job/internal.h"
#include "engine/link/internal.h"

static tow_options_t *make_options(const char *source, const char *destination)
{
    tow_options_t *options = tow_options_new();
    tow_error_t error;

    assert_true(tow_options_set(options, "source", source, &error));
    assert_true(tow_options_set(options, "destination", destination, &error));
    return options;
}

static tow_job_t *make_job(void)
{
    tow_options_t *options = make_options("mongodb://127.0.0.1:1/", "mongodb://127.0.0.1:2/");
    tow_error_t error;
    tow_job_t *job = tow_job_new(options, &error);

    assert_non_null(job);
    tow_options_destroy(options);
    return job;
}

/* Structures ------------------------------------------------------------------------------------*/

static void nothing_is_written_beyond_an_older_structure(void **state)
{
    enum { OLDER = offsetof(tow_progress_t, window_length_ms) };
    unsigned char room[sizeof(tow_progress_t)];
    tow_job_t *job = make_job();
    tow_progress_t whole;

    tow_job_progress(job, &whole);
    memset(room, 0xa5, sizeof room);
    tow_job_progress_sized(job, (tow_progress_t *)(void *)room, OLDER);
    assert_memory_equal(room, &whole, offsetof(tow_progress_t, elapsed_seconds));
    for (size_t i = OLDER; i < sizeof room; i++)
        assert_int_equal(room[i], 0xa5);
    tow_job_destroy(job);
}

static void what_a_newer_structure_has_besides_is_zero(void **state)
{
    struct {
        tow_progress_t known;
        unsigned char added[64];
    } newer;
    tow_job_t *job = make_job();

    memset(&newer, 0xa5, sizeof newer);
    tow_job_progress_sized(job, &newer.known, sizeof newer);
    assert_int_equal(newer.known.phase, TOW_PHASE_NEW);
    assert_int_equal(newer.known.window_left_ms, -1);
    for (size_t i = 0; i < sizeof newer.added; i++)
        assert_int_equal(newer.added[i], 0);
    tow_job_destroy(job);
}

static void count_event(void *data, tow_level_t level, const char *name, const char *message)
{
    ++*(int *)data;
}

/* The first URI is worth an event, and the second ends it all before anything is dialled. */
static void what_an_older_watch_has_not_is_not_read(void **state)
{
    tow_options_t *options = make_options("mongodb://h/?hunter=x", "mongodb://h:99999/");
    int events = 0;
    tow_verify_watch_t watch = {.data = &events, .event = count_event};
    tow_error_t error;
    char *report;

    assert_false(tow_verify_watched(options, &watch, &report, &error));
    assert_int_equal(error.code, TOW_ERROR_OPTION);
    assert_int_equal(events, 1);
    assert_false(tow_verify_watched_sized(options, &watch, offsetof(tow_verify_watch_t, event),
                                          &report, &error));
    assert_int_equal(error.code, TOW_ERROR_OPTION);
    assert_int_equal(events, 1);
    tow_options_destroy(options);
}

/* Events ----------------------------------------------------------------------------------------*/

static void a_fifth_listener_is_refused(void **state)
{
    tow_job_t *job = make_job();
    int events = 0;

    for (int i = 0; i < 4; i++)
        assert_true(tow_job_on_event(job, count_event, &events));
    assert_false(tow_job_on_event(job, count_event, &events));
    assert_null(tow_event_queue_new(job));
    tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "test", "to all");
    assert_int_equal(events, 4);
    tow_job_destroy(job);
}

static void a_queue_gives_events_in_order_until_the_end(void **state)
{
    tow_job_t *job = make_job();
    tow_event_queue_t *queue = tow_event_queue_new(job);
    const tow_queued_event_t *event;

    assert_null(tow_event_queue_next(queue, 0));
    tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "first", "one");
    tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "second", "two");
    job->control.stopped = true;
    event = tow_event_queue_next(queue, -1);
    assert_string_equal(event->name, "first");
    assert_string_equal(event->message, "one");
    assert_int_equal(event->level, TOW_LEVEL_WARNING);
    assert_in_range(tow_wall_ms() - event->time_ms, 0, 60000);
    assert_string_equal(tow_event_queue_next(queue, -1)->name, "second");
    assert_null(tow_event_queue_next(queue, -1));
    tow_job_destroy(job);
    tow_event_queue_destroy(queue);
    tow_event_queue_destroy(NULL);
}

static void what_is_not_taken_in_time_is_counted(void **state)
{
    tow_job_t *job = make_job();
    tow_event_queue_t *queue = tow_event_queue_new(job);
    const tow_queued_event_t *event;

    for (int i = 0; i < 1024 + 5; i++)
        tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "test", "%d", i);
    event = tow_event_queue_next(queue, 0);
    assert_string_equal(event->message, "5");
    assert_int_equal(event->lost, 5);
    event = tow_event_queue_next(queue, 0);
    assert_string_equal(event->message, "6");
    assert_int_equal(event->lost, 0);
    tow_job_destroy(job);
    tow_event_queue_destroy(queue); /* with what it holds */
}

static void *close_queue(void *queue)
{
    tow_event_queue_close(queue);
    return NULL;
}

static void closing_ends_the_waiting(void **state)
{
    tow_job_t *job = make_job();
    tow_event_queue_t *queue = tow_event_queue_new(job);
    tow_thread_t thread = {0};
    tow_error_t error;

    assert_true(tow_thread_start(&thread, "closer", close_queue, queue, &error));
    assert_null(tow_event_queue_next(queue, -1));
    tow_thread_join(&thread);
    tow_emit(&job->sides.sink, TOW_LEVEL_INFO, "test", "too late");
    assert_null(tow_event_queue_next(queue, 0));
    tow_job_destroy(job);
    tow_event_queue_destroy(queue);
}

/* One that is abandoned in a call goes on until the driver gives up. */
static void a_thread_that_a_server_keeps_is_waited_for(void **state)
{
    bson_t empty = BSON_INITIALIZER, reply;
    tow_stop_t *stop = tow_stop_new();
    tow_link_t link = {0};
    tow_patient_t *patient;
    tow_error_t error;

    assert_true(tow_threads_ended(0));
    pthread_mutex_init(&link.lock, NULL);
    link.uri = mongoc_uri_new("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=500");
    tow_stop_request(stop, NULL);
    patient = tow_patient_new(&link, &error);
    assert_false(tow_patient_call(&link, patient, stop, "admin", &empty, &empty, &reply, &error));
    tow_patient_free(patient);
    assert_false(tow_threads_ended(0));
    assert_true(tow_threads_ended(20000));
    bson_destroy(&reply);
    mongoc_uri_destroy(link.uri);
    pthread_mutex_destroy(&link.lock);
    tow_stop_destroy(stop);
}

static void the_version_is_the_headers(void **state)
{
    char expected[40];

    assert_string_equal(tow_version(), TOW_VERSION_STRING);
    snprintf(expected, sizeof expected, "%d.%d.%d", TOW_VERSION_MAJOR, TOW_VERSION_MINOR,
             TOW_VERSION_PATCH);
    assert_memory_equal(tow_version(), expected, strlen(expected));
    assert_true(TOW_VERSION_AT_LEAST(TOW_VERSION_MAJOR, TOW_VERSION_MINOR, 0));
    assert_true(TOW_VERSION_AT_LEAST(0, 99, 99));
    assert_false(TOW_VERSION_AT_LEAST(TOW_VERSION_MAJOR, TOW_VERSION_MINOR + 1, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_written_beyond_an_older_structure),
        cmocka_unit_test(what_a_newer_structure_has_besides_is_zero),
        cmocka_unit_test(what_an_older_watch_has_not_is_not_read),
        cmocka_unit_test(a_fifth_listener_is_refused),
        cmocka_unit_test(a_queue_gives_events_in_order_until_the_end),
        cmocka_unit_test(what_is_not_taken_in_time_is_counted),
        cmocka_unit_test(closing_ends_the_waiting),
        cmocka_unit_test(a_thread_that_a_server_keeps_is_waited_for),
        cmocka_unit_test(the_version_is_the_headers)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
