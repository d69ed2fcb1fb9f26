/* SPDX-License-Identifier: Apache-2.0 */
/* patient.c: see internal.h. A call runs in a thread of the client's own. Whoever asked waits for
 * it, but no longer than until a stop, or until another member has become the primary: a member
 * that hangs keeps its connections open for ever. An abandoned call ends by itself some time, and
 * then the thread frees everything. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/clock.h"
#include "engine/base/memory.h"
#include "engine/base/thread.h"
#include "engine/link/driver.h"
#include "engine/link/internal.h"

enum {
    LOOK_MS = 100, /* how often a stop is looked for */
    SILENT_MS =
        30000, /* how long an answer may take before another primary says that none will come */
    CLOSE_SECONDS = 1 /* closing an idle client takes the driver half of that */
};

struct tow_patient {
    mongoc_client_pool_t *pool;
    mongoc_client_t *client;
    tow_thread_t thread;
    pthread_mutex_t lock; /* guards what follows, but the call's own while it runs */
    pthread_cond_t changed;
    bool asked, freed;
    char host[300]; /* that the call went to */
    /* The call. */
    mongoc_client_session_t *session;
    char *database;
    bson_t command, opts, reply;
    bson_error_t driver;
    bool ok;
};

static void note_host(tow_patient_t *patient)
{
    bson_error_t ignored;
    mongoc_server_description_t *server =
        mongoc_client_select_server(patient->client, true, NULL, &ignored);

    if (!server)
        return;
    pthread_mutex_lock(&patient->lock);
    snprintf(patient->host, sizeof patient->host, "%s",
             mongoc_server_description_host(server)->host_and_port);
    pthread_mutex_unlock(&patient->lock);
    mongoc_server_description_destroy(server);
}

/* A session of its own: the driver's implicit ones may change between two calls, and a cursor
 * belongs to one. */
static bool append_session(tow_patient_t *patient)
{
    mongoc_session_opt_t *options;

    if (!patient->session) {
        options = mongoc_session_opts_new();
        mongoc_session_opts_set_causal_consistency(options, false);
        patient->session = mongoc_client_start_session(patient->client, options, &patient->driver);
        mongoc_session_opts_destroy(options);
    }
    return patient->session &&
           mongoc_client_session_append(patient->session, &patient->opts, &patient->driver);
}

static void send_call(tow_patient_t *patient)
{
    patient->ok = append_session(patient);
    if (!patient->ok) {
        bson_init(&patient->reply);
        return;
    }
    note_host(patient);
    patient->ok =
        mongoc_client_command_with_opts(patient->client, patient->database, &patient->command, NULL,
                                        &patient->opts, &patient->reply, &patient->driver);
}

static void clear_call(tow_patient_t *patient)
{
    free(patient->database);
    bson_destroy(&patient->command);
    bson_destroy(&patient->opts);
}

static void *run(void *data)
{
    tow_patient_t *patient = data;

    pthread_mutex_lock(&patient->lock);
    while (!patient->freed) {
        if (!patient->asked) {
            pthread_cond_wait(&patient->changed, &patient->lock);
            continue;
        }
        pthread_mutex_unlock(&patient->lock);
        send_call(patient);
        pthread_mutex_lock(&patient->lock);
        clear_call(patient);
        patient->asked = false;
        if (patient->freed)
            bson_destroy(&patient->reply);
        pthread_cond_broadcast(&patient->changed);
    }
    pthread_mutex_unlock(&patient->lock);
    if (patient->session)
        mongoc_client_session_destroy(patient->session);
    mongoc_client_pool_push(patient->pool, patient->client);
    mongoc_client_pool_destroy(patient->pool);
    tow_driver_leave();
    pthread_cond_destroy(&patient->changed);
    pthread_mutex_destroy(&patient->lock);
    free(patient);
    return NULL;
}

tow_patient_t *tow_patient_new(const tow_link_t *link, tow_error_t *error)
{
    tow_patient_t *patient = tow_alloc(sizeof *patient);
    mongoc_uri_t *uri = mongoc_uri_copy(link->uri);
    bson_error_t driver;

    /* 0 would mean "at once" to the driver's streams, so it is the longest that they can count. */
    mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SOCKETTIMEOUTMS, INT32_MAX);
    patient->pool = mongoc_client_pool_new_with_error(uri, &driver);
    mongoc_uri_destroy(uri);
    if (!patient->pool) {
        tow_classify(&driver, NULL, link->side, error);
        free(patient);
        return NULL;
    }
    tow_driver_enter(); /* it may outlive its link */
    mongoc_client_pool_set_error_api(patient->pool, MONGOC_ERROR_API_VERSION_2);
    patient->client = mongoc_client_pool_pop(patient->pool);
    pthread_mutex_init(&patient->lock, NULL);
    tow_condition_init(&patient->changed);
    if (!tow_thread_start(&patient->thread, "patient", run, patient, error)) {
        patient->freed = true;
        run(patient);
        return NULL;
    }
    return patient;
}

/* Threads that a server keeps waiting, until somebody has the time to join them. */
typedef struct left {
    pthread_t thread;
    struct left *next;
} left_t;
static pthread_mutex_t left_lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static left_t *left;

/* Joins those that end until then, and keeps the others. True: there are none. */
static bool join_left(const struct timespec *until)
{
    left_t *taken, *next;
    bool none;

    pthread_mutex_lock(&left_lock);
    taken = left;
    left = NULL;
    pthread_mutex_unlock(&left_lock);
    for (; taken; taken = next) {
        next = taken->next;
        if (!pthread_timedjoin_np(taken->thread, NULL, until)) {
            free(taken);
            continue;
        }
        pthread_mutex_lock(&left_lock);
        taken->next = left;
        left = taken;
        pthread_mutex_unlock(&left_lock);
    }
    pthread_mutex_lock(&left_lock);
    none = !left;
    pthread_mutex_unlock(&left_lock);
    return none;
}

static void leave(pthread_t thread)
{
    left_t *kept = tow_alloc(sizeof *kept);

    join_left(&(struct timespec){0});
    kept->thread = thread;
    pthread_mutex_lock(&left_lock);
    kept->next = left;
    left = kept;
    pthread_mutex_unlock(&left_lock);
}

bool tow_threads_ended(int wait_ms)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    return join_left(&until);
}

void tow_patient_free(tow_patient_t *patient)
{
    struct timespec until;
    pthread_t thread;
    bool busy;

    if (!patient)
        return;
    thread = patient->thread.id;
    pthread_mutex_lock(&patient->lock);
    busy = patient->asked;
    patient->freed = true;
    pthread_cond_broadcast(&patient->changed);
    pthread_mutex_unlock(&patient->lock);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CLOSE_SECONDS;
    if (busy || pthread_timedjoin_np(thread, NULL, &until))
        leave(thread);
}

static bool has_moved(tow_link_t *link, const tow_patient_t *patient, int64_t since_ms)
{
    bool moved;

    tow_link_lock(link);
    moved = link->primary[0] && link->primary_ms > since_ms && patient->host[0] &&
            strcmp(link->primary, patient->host) != 0;
    tow_link_unlock(link);
    return moved;
}

/* Whether the answer is there; the lock is held. */
static bool await(tow_link_t *link, tow_patient_t *patient, const tow_stop_t *stop,
                  tow_error_t *error)
{
    int64_t began_ms = tow_now_ms();

    while (patient->asked) {
        tow_condition_wait(&patient->changed, &patient->lock, tow_now_ms() + LOOK_MS);
        if (!patient->asked)
            break;
        if ((link->options.stop && tow_stop_requested(link->options.stop)) ||
            (stop && tow_stop_requested(stop)))
            return tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped while waiting for the %s",
                            link->side);
        if (tow_now_ms() - began_ms > SILENT_MS && has_moved(link, patient, began_ms)) {
            tow_fail(error, TOW_ERROR_UNREACHABLE,
                     "the %s: %s does not answer, and another member is the primary by now",
                     link->side, patient->host);
            error->retry = TOW_RETRY_RECONNECT;
            return false;
        }
    }
    return true;
}

bool tow_patient_call(tow_link_t *link, tow_patient_t *patient, const tow_stop_t *stop,
                      const char *database, const bson_t *command, const bson_t *opts,
                      bson_t *reply, tow_error_t *error)
{
    bool answered, ok = false;

    pthread_mutex_lock(&patient->lock);
    patient->database = tow_strdup(database);
    bson_copy_to(command, &patient->command);
    bson_copy_to(opts, &patient->opts);
    patient->driver = (bson_error_t){0};
    patient->host[0] = '\0';
    patient->asked = true;
    pthread_cond_broadcast(&patient->changed);
    answered = await(link, patient, stop, error);
    if (answered) {
        ok = patient->ok;
        bson_steal(reply, &patient->reply);
        if (!ok)
            tow_classify(&patient->driver, reply, link->side, error);
    } else {
        bson_init(reply);
    }
    pthread_mutex_unlock(&patient->lock);
    return ok;
}
