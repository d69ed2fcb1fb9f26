/* SPDX-License-Identifier: Apache-2.0 */
/* network.c: see network.h. */
#include "network.h"

#include <mongoc/mongoc.h>
#include <stdlib.h>
#include <string.h>

#include "engine/link/internal.h"
#include "schedule.h"

enum {
    PROCESSES = 64,
    MESSAGES = 1024,
    LATE_US = 40000000,
    BARE_LATE_US = 2000000,
    POLL_US = 4000
};

sim_server_t sim_source, sim_destination;
bool sim_shows_messages;

typedef enum { SAFE, NOT_SENT, REFUSED, CUT, ANSWER_LOST, LATE, SLOW } fate_t;

typedef struct {
    sim_server_t *server;
    int process;
    fate_t fate;
    char database[SIM_NAME];
    bson_t *command, *lsid;
    bson_t reply;
    bson_error_t error;
    bool ok, arrived, answered, alone; /* alone: nobody waits for it */
    int64_t wait_until_us;
} message_t;

static sim_faults_t faults;
static uint32_t trip_most_us = 1;
static message_t *under_way[MESSAGES];
static uint32_t message_count;
static uint64_t sent[PROCESSES], total;
static void (*on_send)(int process, uint64_t number);

void sim_network_begin(const sim_faults_t *with)
{
    faults = *with;
    trip_most_us = with->trip_us;
}

void sim_network_calm(void)
{
    faults = (sim_faults_t){0};
}

void sim_network_on_send(void (*call)(int process, uint64_t number))
{
    on_send = call;
}

uint64_t sim_network_count(void)
{
    return total;
}

/* Messages --------------------------------------------------------------------------------------*/

static void forget(message_t *message)
{
    for (uint32_t i = 0; i < message_count; i++)
        if (under_way[i] == message)
            under_way[i] = under_way[--message_count];
    bson_destroy(message->command);
    if (message->lsid)
        bson_destroy(message->lsid);
    bson_destroy(&message->reply);
    free(message);
}

static int64_t trip_us(void)
{
    return sim_one_in(SIM_NETWORK, 50) ? 1 + sim_below(SIM_NETWORK, 300000)
                                       : 50 + sim_below(SIM_NETWORK, trip_most_us);
}

static void answer(void *data)
{
    message_t *message = data;

    message->answered = true;
    if (message->alone)
        forget(message);
    else
        sim_wake(message);
}

static void break_off(message_t *message)
{
    bson_reinit(&message->reply);
    bson_set_error(&message->error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET,
                   "socket closed");
    message->ok = false;
}

/* It comes to its server. */
static void arrive(void *data)
{
    message_t *message = data;
    uint32_t most = message->fate == CUT ? sim_below(SIM_NETWORK, 3) : UINT32_MAX;
    int64_t wait_us;

    if (!message->arrived) {
        message->arrived = true;
        if (sim_would_wait(message->server, message->command, &wait_us))
            message->wait_until_us = sim_now_us() + wait_us;
    }
    if (sim_now_us() < message->wait_until_us &&
        sim_would_wait(message->server, message->command, &wait_us)) {
        sim_commit(message->server, 0);
        sim_at(sim_now_us() + POLL_US, arrive, message);
        return;
    }
    message->ok = sim_execute(message->server, message->database, message->command, message->lsid,
                              most, &message->reply, &message->error);
    if (message->fate == ANSWER_LOST && !message->alone)
        break_off(message);
    sim_at(sim_now_us() + trip_us(), answer, message);
}

void sim_network_kill(int process)
{
    for (uint32_t i = message_count; i-- > 0;) {
        message_t *message = under_way[i];

        if (message->process == process)
            message->alone = true;
    }
}

/* How late it may be. What has no number, nothing can keep out: only the time that a server needs
 * is assumed. */
static int64_t late_us(const message_t *message)
{
    return 1 + sim_below(SIM_NETWORK,
                         sim_number(message->command, "txnNumber", 0) ? LATE_US : BARE_LATE_US);
}

/* A dead process's message: perhaps nobody takes it, perhaps a network holds it for long. */
static void arrive_perhaps(void *data)
{
    message_t *message = data;

    if (!message->alone || message->fate == LATE) {
        arrive(message);
    } else if (sim_one_in(SIM_NETWORK, 2)) {
        forget(message);
    } else {
        message->fate = LATE;
        sim_at(sim_now_us() + late_us(message), arrive_perhaps, message);
    }
}

static fate_t draw_fate(const bson_t *command)
{
    if (!sim_one_in(SIM_NETWORK, faults.one_in))
        return SAFE;
    if (sim_one_in(SIM_NETWORK, faults.late_one_in))
        return LATE;
    switch (sim_below(SIM_NETWORK, 8)) {
    case 0:
    case 1:
        return NOT_SENT;
    case 2:
        return REFUSED;
    case 3:
        return sim_is_write(command) ? CUT : SLOW;
    case 4:
        return SLOW;
    default:
        return ANSWER_LOST;
    }
}

static message_t *make(sim_server_t *server, const char *database, const bson_t *command,
                       const bson_t *lsid)
{
    message_t *message = tow_alloc(sizeof *message);

    if (message_count == MESSAGES)
        sim_fail("too many messages under way");
    message->server = server;
    message->process = sim_process();
    message->fate = draw_fate(command);
    snprintf(message->database, SIM_NAME, "%s", database);
    message->command = bson_copy(command);
    message->lsid = lsid ? bson_copy(lsid) : NULL;
    bson_init(&message->reply);
    under_way[message_count++] = message;
    return message;
}

/* An error of the moment, before anything was done. */
static void refuse(message_t *message)
{
    static const int codes[] = {10107, 189, 91, 11600, 50, 112};
    int code = bson_has_field(message->command, "getMore") ? 43 : codes[sim_below(SIM_NETWORK, 6)];

    sim_refuse(&message->reply, &message->error, code, "simulated");
}

/* Sends it and waits for what comes back. False: only the wait is over. */
static bool travel(message_t *message)
{
    switch (message->fate) {
    case NOT_SENT:
        sim_sleep(trip_us());
        break_off(message);
        return true;
    case REFUSED:
        sim_sleep(trip_us());
        refuse(message);
        return true;
    case LATE:
        sim_at(sim_now_us() + late_us(message), arrive_perhaps, message);
        message->alone = true;
        sim_sleep(1 + sim_below(SIM_NETWORK, 3000000));
        return false;
    default:
        sim_at(sim_now_us() + trip_us() +
                   (message->fate == SLOW ? sim_below(SIM_NETWORK, 20000000) : 0),
               arrive_perhaps, message);
        while (!message->answered)
            sim_wait(message, -1);
        return true;
    }
}

static bool call(sim_server_t *server, const char *database, const bson_t *command,
                 const bson_t *lsid, bson_t *reply, bson_error_t *error)
{
    static const char *const fates[] = {"",     "not sent", "refused", "cut", "answer lost",
                                        "late", "slow"};
    message_t *message;
    bool ok;

    bson_init(reply);
    *error = (bson_error_t){0};
    total++;
    sim_progress();
    if (on_send)
        on_send(sim_process(), ++sent[sim_process()]);
    message = make(server, database, command, lsid);
    if (sim_shows_messages)
        sim_trace("%d  to the %s, %s: %.3000s %s", sim_process(), server->side, database,
                  bson_as_relaxed_extended_json(command, NULL), fates[message->fate]);
    if (!travel(message)) {
        bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, "no answer in time");
        return false;
    }
    ok = message->ok;
    if (sim_shows_messages)
        sim_trace("%d  answer: %.3000s", sim_process(),
                  bson_as_relaxed_extended_json(&message->reply, NULL));
    bson_concat(reply, &message->reply);
    *error = message->error;
    forget(message);
    return ok;
}

/* Clients ---------------------------------------------------------------------------------------*/

/* One of a pool, or one apart, whose sessions nobody else gets. A pool is its server. */
typedef struct {
    sim_server_t *server;
    bool apart;
} client_t;

static mongoc_client_t *new_client(sim_server_t *server, bool apart)
{
    client_t *client = tow_alloc(sizeof *client);

    *client = (client_t){server, apart};
    return (mongoc_client_t *)client;
}

static sim_server_t *server_of(const mongoc_uri_t *uri)
{
    return *mongoc_uri_get_hosts(uri)->host == 's' ? &sim_source : &sim_destination;
}

mongoc_client_pool_t *__wrap_mongoc_client_pool_new_with_error(const mongoc_uri_t *uri,
                                                               bson_error_t *error);
bool __wrap_mongoc_client_pool_set_error_api(mongoc_client_pool_t *pool, int32_t version);
void __wrap_mongoc_client_pool_destroy(mongoc_client_pool_t *pool);
mongoc_client_t *__wrap_mongoc_client_pool_pop(mongoc_client_pool_t *pool);
void __wrap_mongoc_client_pool_push(mongoc_client_pool_t *pool, mongoc_client_t *client);
mongoc_client_t *__wrap_mongoc_client_new_from_uri_with_error(const mongoc_uri_t *uri,
                                                              bson_error_t *error);
bool __wrap_mongoc_client_set_error_api(mongoc_client_t *client, int32_t version);
void __wrap_mongoc_client_destroy(mongoc_client_t *client);
mongoc_server_description_t *__wrap_mongoc_client_select_server(mongoc_client_t *client,
                                                                bool for_writes,
                                                                const mongoc_read_prefs_t *prefs,
                                                                bson_error_t *error);

mongoc_client_pool_t *__wrap_mongoc_client_pool_new_with_error(const mongoc_uri_t *uri,
                                                               bson_error_t *error)
{
    return (mongoc_client_pool_t *)server_of(uri);
}

bool __wrap_mongoc_client_pool_set_error_api(mongoc_client_pool_t *pool, int32_t version)
{
    return true;
}

void __wrap_mongoc_client_pool_destroy(mongoc_client_pool_t *pool)
{
}

mongoc_client_t *__wrap_mongoc_client_pool_pop(mongoc_client_pool_t *pool)
{
    return new_client((sim_server_t *)pool, false);
}

void __wrap_mongoc_client_pool_push(mongoc_client_pool_t *pool, mongoc_client_t *client)
{
    free(client);
}

mongoc_client_t *__wrap_mongoc_client_new_from_uri_with_error(const mongoc_uri_t *uri,
                                                              bson_error_t *error)
{
    return new_client(server_of(uri), true);
}

bool __wrap_mongoc_client_set_error_api(mongoc_client_t *client, int32_t version)
{
    return true;
}

void __wrap_mongoc_client_destroy(mongoc_client_t *client)
{
    free(client);
}

mongoc_server_description_t *__wrap_mongoc_client_select_server(mongoc_client_t *client,
                                                                bool for_writes,
                                                                const mongoc_read_prefs_t *prefs,
                                                                bson_error_t *error)
{
    return NULL;
}

/* Sessions --------------------------------------------------------------------------------------*/

typedef struct session {
    struct session *next; /* of those that nobody uses */
    int process;
    bool apart;
    bson_t lsid;
} session_t;

mongoc_client_session_t *__wrap_mongoc_client_start_session(mongoc_client_t *client,
                                                            const mongoc_session_opt_t *options,
                                                            bson_error_t *error);
void __wrap_mongoc_client_session_destroy(mongoc_client_session_t *session);
bool __wrap_mongoc_client_session_append(const mongoc_client_session_t *session, bson_t *opts,
                                         bson_error_t *error);
const bson_t *__wrap_mongoc_client_session_get_lsid(mongoc_client_session_t *session);
void __wrap_mongoc_client_session_advance_cluster_time(mongoc_client_session_t *session,
                                                       const bson_t *time);

static session_t *unused;

/* As the driver does, one that is not used any more is given to somebody else. */
mongoc_client_session_t *__wrap_mongoc_client_start_session(mongoc_client_t *client,
                                                            const mongoc_session_opt_t *options,
                                                            bson_error_t *error)
{
    bool apart = ((client_t *)client)->apart;
    session_t *session;
    uint8_t uuid[16];

    for (session_t **at = &unused; *at && !apart; at = &(*at)->next)
        if ((*at)->process == sim_process() && !(*at)->apart) {
            session = *at;
            *at = session->next;
            return (mongoc_client_session_t *)session;
        }
    session = tow_alloc(sizeof *session);
    session->process = sim_process();
    session->apart = apart;
    for (int i = 0; i < 16; i++)
        uuid[i] = (uint8_t)sim_below(SIM_ENGINE, 256);
    bson_init(&session->lsid);
    bson_append_binary(&session->lsid, "id", -1, BSON_SUBTYPE_UUID, uuid, sizeof uuid);
    return (mongoc_client_session_t *)session;
}

void __wrap_mongoc_client_session_destroy(mongoc_client_session_t *handle)
{
    session_t *session = (session_t *)handle;

    session->next = unused;
    unused = session;
}

bool __wrap_mongoc_client_session_append(const mongoc_client_session_t *session, bson_t *opts,
                                         bson_error_t *error)
{
    return bson_append_int64(opts, "sessionId", -1, (int64_t)(uintptr_t)session);
}

const bson_t *__wrap_mongoc_client_session_get_lsid(mongoc_client_session_t *session)
{
    return &((session_t *)session)->lsid;
}

void __wrap_mongoc_client_session_advance_cluster_time(mongoc_client_session_t *session,
                                                       const bson_t *time)
{
}

/* Commands --------------------------------------------------------------------------------------*/

bool __wrap_mongoc_client_command_with_opts(mongoc_client_t *client, const char *database,
                                            const bson_t *command, const mongoc_read_prefs_t *prefs,
                                            const bson_t *opts, bson_t *reply, bson_error_t *error);
mongoc_collection_t *__wrap_mongoc_client_get_collection(mongoc_client_t *client,
                                                         const char *database, const char *name);
void __wrap_mongoc_collection_destroy(mongoc_collection_t *collection);
bool __wrap_mongoc_collection_insert_many(mongoc_collection_t *collection, const bson_t **documents,
                                          size_t count, const bson_t *opts, bson_t *reply,
                                          bson_error_t *error);
tow_patient_t *__wrap_tow_patient_new(const tow_link_t *link, tow_error_t *error);
void __wrap_tow_patient_free(tow_patient_t *patient);
bool __wrap_tow_patient_call(tow_link_t *link, tow_patient_t *patient, const tow_stop_t *stop,
                             const char *database, const bson_t *command, const bson_t *opts,
                             bson_t *reply, tow_error_t *error);

static const bson_t *lsid_of(const bson_t *opts)
{
    session_t *session = opts ? (session_t *)(uintptr_t)sim_number(opts, "sessionId", 0) : NULL;

    return session ? &session->lsid : NULL;
}

bool __wrap_mongoc_client_command_with_opts(mongoc_client_t *client, const char *database,
                                            const bson_t *command, const mongoc_read_prefs_t *prefs,
                                            const bson_t *opts, bson_t *reply, bson_error_t *error)
{
    return call(((client_t *)client)->server, database, command, lsid_of(opts), reply, error);
}

typedef struct {
    mongoc_client_t *client;
    char database[SIM_NAME], name[SIM_NAME];
} handle_t;

mongoc_collection_t *__wrap_mongoc_client_get_collection(mongoc_client_t *client,
                                                         const char *database, const char *name)
{
    handle_t *handle = tow_alloc(sizeof *handle);

    handle->client = client;
    snprintf(handle->database, SIM_NAME, "%s", database);
    snprintf(handle->name, SIM_NAME, "%s", name);
    return (mongoc_collection_t *)handle;
}

void __wrap_mongoc_collection_destroy(mongoc_collection_t *collection)
{
    free(collection);
}

static void build_insert(const handle_t *handle, const bson_t **documents, size_t count,
                         const bson_t *opts, bson_t *out)
{
    bson_t list;

    bson_init(out);
    bson_append_utf8(out, "insert", -1, handle->name, -1);
    bson_append_array_begin(out, "documents", -1, &list);
    for (size_t i = 0; i < count; i++)
        sim_append_index(&list, (uint32_t)i, documents[i]);
    bson_append_array_end(out, &list);
    bson_append_bool(out, "ordered", -1, sim_number(opts, "ordered", 1));
    if (sim_number(opts, "txnNumber", 0))
        bson_append_int64(out, "txnNumber", -1, sim_number(opts, "txnNumber", 0));
}

bool __wrap_mongoc_collection_insert_many(mongoc_collection_t *collection, const bson_t **documents,
                                          size_t count, const bson_t *opts, bson_t *reply,
                                          bson_error_t *error)
{
    handle_t *handle = (handle_t *)collection;
    bson_t command, raw;
    bson_iter_t iter;
    bool ok;

    build_insert(handle, documents, count, opts, &command);
    ok = call(((client_t *)handle->client)->server, handle->database, &command, lsid_of(opts), &raw,
              error);
    bson_init(reply);
    bson_copy_to_excluding_noinit(&raw, reply, "n", "ok", NULL);
    if (ok) {
        bson_append_int64(reply, "insertedCount", -1, sim_number(&raw, "n", 0));
        if (bson_iter_init_find(&iter, &raw, "writeErrors")) {
            bson_set_error(error, MONGOC_ERROR_SERVER, 11000, "duplicate key");
            ok = false;
        }
    }
    bson_destroy(&raw);
    bson_destroy(&command);
    return ok;
}

/* Calls without a time-out. */
tow_patient_t *__wrap_tow_patient_new(const tow_link_t *link, tow_error_t *error)
{
    return (tow_patient_t *)link->pool;
}

void __wrap_tow_patient_free(tow_patient_t *patient)
{
}

bool __wrap_tow_patient_call(tow_link_t *link, tow_patient_t *patient, const tow_stop_t *stop,
                             const char *database, const bson_t *command, const bson_t *opts,
                             bson_t *reply, tow_error_t *error)
{
    bson_error_t driver;

    if (call((sim_server_t *)patient, database, command, NULL, reply, &driver))
        return true;
    tow_classify(&driver, reply, link->side, error);
    return false;
}
