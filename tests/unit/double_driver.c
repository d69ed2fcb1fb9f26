/* SPDX-License-Identifier: Apache-2.0 */
/* double_driver.c: see double_internal.h. */
#include "double_internal.h"

#include <stdlib.h>
#include <string.h>

enum { TOO_OLD = 225 };

typedef struct {
    bson_t lsid, reply; /* reply: of the last numbered write */
    int64_t number;
} session_t;

bool __wrap_mongoc_client_command_with_opts(mongoc_client_t *client, const char *database,
                                            const bson_t *command, const mongoc_read_prefs_t *prefs,
                                            const bson_t *opts, bson_t *reply, bson_error_t *error);
mongoc_client_t *__wrap_mongoc_client_pool_pop(mongoc_client_pool_t *pool);
void __wrap_mongoc_client_pool_push(mongoc_client_pool_t *pool, mongoc_client_t *client);
mongoc_client_session_t *__wrap_mongoc_client_start_session(mongoc_client_t *client,
                                                            const mongoc_session_opt_t *options,
                                                            bson_error_t *error);
void __wrap_mongoc_client_session_destroy(mongoc_client_session_t *session);
bool __wrap_mongoc_client_session_append(const mongoc_client_session_t *session, bson_t *opts,
                                         bson_error_t *error);
const bson_t *__wrap_mongoc_client_session_get_lsid(mongoc_client_session_t *session);

mongoc_client_t *__wrap_mongoc_client_pool_pop(mongoc_client_pool_t *pool)
{
    return (mongoc_client_t *)pool; /* both are the server */
}

void __wrap_mongoc_client_pool_push(mongoc_client_pool_t *pool, mongoc_client_t *client)
{
}

/* A client of its own, for calls that may take long, is the server as well. */
mongoc_uri_t *__wrap_mongoc_uri_copy(const mongoc_uri_t *uri);
bool __wrap_mongoc_uri_set_option_as_int32(mongoc_uri_t *uri, const char *option, int32_t value);
void __wrap_mongoc_uri_destroy(mongoc_uri_t *uri);
mongoc_client_pool_t *__wrap_mongoc_client_pool_new_with_error(const mongoc_uri_t *uri,
                                                               bson_error_t *error);
bool __wrap_mongoc_client_pool_set_error_api(mongoc_client_pool_t *pool, int32_t version);
void __wrap_mongoc_client_pool_destroy(mongoc_client_pool_t *pool);
mongoc_server_description_t *__wrap_mongoc_client_select_server(mongoc_client_t *client,
                                                                bool for_writes,
                                                                const mongoc_read_prefs_t *prefs,
                                                                bson_error_t *error);

mongoc_client_t *__wrap_mongoc_client_new_from_uri_with_error(const mongoc_uri_t *uri,
                                                              bson_error_t *error);
bool __wrap_mongoc_client_set_error_api(mongoc_client_t *client, int32_t version);
void __wrap_mongoc_client_destroy(mongoc_client_t *client);

mongoc_client_t *__wrap_mongoc_client_new_from_uri_with_error(const mongoc_uri_t *uri,
                                                              bson_error_t *error)
{
    return (mongoc_client_t *)uri;
}

bool __wrap_mongoc_client_set_error_api(mongoc_client_t *client, int32_t version)
{
    return true;
}

void __wrap_mongoc_client_destroy(mongoc_client_t *client)
{
}

mongoc_uri_t *__wrap_mongoc_uri_copy(const mongoc_uri_t *uri)
{
    return (mongoc_uri_t *)uri;
}

bool __wrap_mongoc_uri_set_option_as_int32(mongoc_uri_t *uri, const char *option, int32_t value)
{
    return true;
}

void __wrap_mongoc_uri_destroy(mongoc_uri_t *uri)
{
}

mongoc_client_pool_t *__wrap_mongoc_client_pool_new_with_error(const mongoc_uri_t *uri,
                                                               bson_error_t *error)
{
    return (mongoc_client_pool_t *)uri;
}

bool __wrap_mongoc_client_pool_set_error_api(mongoc_client_pool_t *pool, int32_t version)
{
    return true;
}

void __wrap_mongoc_client_pool_destroy(mongoc_client_pool_t *pool)
{
}

mongoc_server_description_t *__wrap_mongoc_client_select_server(mongoc_client_t *client,
                                                                bool for_writes,
                                                                const mongoc_read_prefs_t *prefs,
                                                                bson_error_t *error)
{
    return NULL;
}

mongoc_client_session_t *__wrap_mongoc_client_start_session(mongoc_client_t *client,
                                                            const mongoc_session_opt_t *options,
                                                            bson_error_t *error)
{
    session_t *session = tow_alloc(sizeof *session);

    bson_init(&session->lsid);
    bson_append_int64(&session->lsid, "id", -1, (int64_t)(uintptr_t)session);
    bson_init(&session->reply);
    return (mongoc_client_session_t *)session;
}

void __wrap_mongoc_client_session_advance_cluster_time(mongoc_client_session_t *session,
                                                       const bson_t *cluster_time);
void __wrap_mongoc_client_session_advance_cluster_time(mongoc_client_session_t *session,
                                                       const bson_t *cluster_time)
{
}

void __wrap_mongoc_client_session_destroy(mongoc_client_session_t *session)
{
    bson_destroy(&((session_t *)session)->lsid);
    bson_destroy(&((session_t *)session)->reply);
    free(session);
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

static bool fail_command(bson_t *reply, bson_error_t *error, int code, const char *message)
{
    bson_append_double(reply, "ok", -1, 0.0);
    bson_append_int32(reply, "code", -1, code);
    bson_append_utf8(reply, "errmsg", -1, message, -1);
    bson_set_error(error, MONGOC_ERROR_SERVER, (uint32_t)code, "%s", message);
    return false;
}

static bool execute(double_server_t *server, const char *database, const bson_t *command,
                    bson_t *reply, bson_error_t *error)
{
    bson_iter_t iter;
    const char *name;

    bson_iter_init(&iter, command);
    bson_iter_next(&iter);
    name = bson_iter_key(&iter);
    if (!strcmp(name, "find"))
        double_find(server, database, command, reply);
    else if (!strcmp(name, "getMore"))
        double_get_more(server, command, reply);
    else if (!strcmp(name, "listCollections"))
        double_list_collections(server, database, command, reply);
    else if (!strcmp(name, "listIndexes"))
        double_list_indexes(server, reply);
    else if (!strcmp(name, "killCursors"))
        double_append_time(reply, server->now);
    else if (!strcmp(name, "insert") || !strcmp(name, "update") || !strcmp(name, "delete"))
        double_write(server, database, command, reply);
    else if (!strcmp(name, "drop"))
        double_drop(server, database, bson_iter_utf8(&iter, NULL), reply);
    else if (!strcmp(name, "renameCollection"))
        double_rename(server, command, reply);
    else
        return fail_command(reply, error, 59, "no such command");
    return true;
}

/* A numbered write is done once, and none after a newer one. */
static bool execute_once(double_server_t *server, session_t *session, int64_t number,
                         const char *database, const bson_t *command, bson_t *reply,
                         bson_error_t *error)
{
    bool ok;

    if (number && number < session->number)
        return fail_command(reply, error, TOO_OLD, "transaction too old");
    if (number && number == session->number) {
        bson_concat(reply, &session->reply);
        return true;
    }
    ok = execute(server, database, command, reply, error);
    if (number) {
        session->number = number;
        bson_destroy(&session->reply);
        bson_copy_to(reply, &session->reply);
    }
    return ok;
}

static int64_t int64_of(const bson_t *document, const char *field)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, document, field) ? bson_iter_as_int64(&iter) : 0;
}

static void break_off(bson_t *reply, bson_error_t *error)
{
    bson_reinit(reply);
    bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, "socket closed");
}

/* Whether the write stays on its way. */
static bool is_held(double_server_t *server, session_t *session, const char *database,
                    const bson_t *command)
{
    if (!server->hold[0] || !bson_has_field(command, server->hold) || server->pass-- > 0)
        return false;
    server->hold[0] = '\0';
    bson_copy_to(command, &server->held.command);
    snprintf(server->held.database, sizeof server->held.database, "%s", database);
    server->held.session = session;
    atomic_store(&server->held.is, 1);
    return true;
}

void double_arrive(double_server_t *server)
{
    bson_t reply = BSON_INITIALIZER;
    bson_error_t ignored;

    pthread_mutex_lock(&double_lock);
    if (!atomic_exchange(&server->held.is, 0))
        abort(); /* the test waited for it */
    execute_once(server, server->held.session, int64_of(&server->held.command, "txnNumber"),
                 server->held.database, &server->held.command, &reply, &ignored);
    pthread_mutex_unlock(&double_lock);
    bson_destroy(&server->held.command);
    bson_destroy(&reply);
}

bool __wrap_mongoc_client_command_with_opts(mongoc_client_t *client, const char *database,
                                            const bson_t *command, const mongoc_read_prefs_t *prefs,
                                            const bson_t *opts, bson_t *reply, bson_error_t *error)
{
    double_server_t *server = (double_server_t *)client;
    session_t *session = (session_t *)(uintptr_t)int64_of(opts, "sessionId");
    double_hook_t hook;
    void *hook_data;
    bson_iter_t iter;
    bool ok;

    bson_init(reply);
    *error = (bson_error_t){0};
    pthread_mutex_lock(&double_lock);
    hook = server->hook;
    hook_data = server->hook_data;
    pthread_mutex_unlock(&double_lock);
    if (hook && hook(hook_data, database, command, reply, error))
        return !error->code;
    pthread_mutex_lock(&double_lock);
    if (is_held(server, session, database, command)) {
        break_off(reply, error);
        pthread_mutex_unlock(&double_lock);
        return false;
    }
    ok = execute_once(server, session, int64_of(command, "txnNumber"), database, command, reply,
                      error);
    bson_iter_init(&iter, command);
    if (bson_iter_next(&iter) && !strcmp(server->lose, bson_iter_key(&iter))) {
        server->lose[0] = '\0';
        break_off(reply, error);
        ok = false;
    }
    pthread_mutex_unlock(&double_lock);
    return ok;
}

/* Inserts of many documents ---------------------------------------------------------------------*/

mongoc_collection_t *__wrap_mongoc_client_get_collection(mongoc_client_t *client,
                                                         const char *database, const char *name);
void __wrap_mongoc_collection_destroy(mongoc_collection_t *collection);
bool __wrap_mongoc_collection_insert_many(mongoc_collection_t *collection, const bson_t **documents,
                                          size_t count, const bson_t *opts, bson_t *reply,
                                          bson_error_t *error);

typedef struct {
    mongoc_client_t *client;
    char database[64], name[64];
} collection_t;

mongoc_collection_t *__wrap_mongoc_client_get_collection(mongoc_client_t *client,
                                                         const char *database, const char *name)
{
    collection_t *collection = tow_alloc(sizeof *collection);

    collection->client = client;
    snprintf(collection->database, sizeof collection->database, "%s", database);
    snprintf(collection->name, sizeof collection->name, "%s", name);
    return (mongoc_collection_t *)collection;
}

void __wrap_mongoc_collection_destroy(mongoc_collection_t *collection)
{
    free(collection);
}

bool __wrap_mongoc_collection_insert_many(mongoc_collection_t *handle, const bson_t **documents,
                                          size_t count, const bson_t *opts, bson_t *reply,
                                          bson_error_t *error)
{
    collection_t *collection = (collection_t *)handle;
    bson_t command = BSON_INITIALIZER, list, answer;
    bson_iter_t iter;
    bool ok;

    bson_append_utf8(&command, "insert", -1, collection->name, -1);
    bson_append_array_begin(&command, "documents", -1, &list);
    for (size_t i = 0; i < count; i++)
        double_append_index(&list, (uint32_t)i, documents[i]);
    bson_append_array_end(&command, &list);
    if (int64_of(opts, "txnNumber"))
        bson_append_int64(&command, "txnNumber", -1, int64_of(opts, "txnNumber"));
    ok = __wrap_mongoc_client_command_with_opts(collection->client, collection->database, &command,
                                                NULL, opts, &answer, error);
    bson_init(reply);
    if (ok) {
        bson_append_int64(reply, "insertedCount", -1, int64_of(&answer, "n"));
        double_append_time(reply, (tow_optime_t)double_now((double_server_t *)collection->client));
    }
    if (ok && bson_iter_init_find(&iter, &answer, "writeErrors")) {
        bson_append_iter(reply, NULL, 0, &iter);
        bson_set_error(error, MONGOC_ERROR_SERVER, DUPLICATE, "duplicate key");
        ok = false;
    }
    bson_destroy(&answer);
    bson_destroy(&command);
    return ok;
}

/* Calls without a time-out ----------------------------------------------------------------------*/

tow_patient_t *__wrap_tow_patient_new(const tow_link_t *link, tow_error_t *error);
void __wrap_tow_patient_free(tow_patient_t *patient);
bool __wrap_tow_patient_call(tow_link_t *link, tow_patient_t *patient, const tow_stop_t *stop,
                             const char *database, const bson_t *command, const bson_t *opts,
                             bson_t *reply, tow_error_t *error);

tow_patient_t *__wrap_tow_patient_new(const tow_link_t *link, tow_error_t *error)
{
    return (tow_patient_t *)link->pool; /* the server */
}

void __wrap_tow_patient_free(tow_patient_t *patient)
{
}

bool __wrap_tow_patient_call(tow_link_t *link, tow_patient_t *patient, const tow_stop_t *stop,
                             const char *database, const bson_t *command, const bson_t *opts,
                             bson_t *reply, tow_error_t *error)
{
    bson_error_t driver;

    if (__wrap_mongoc_client_command_with_opts((mongoc_client_t *)patient, database, command, NULL,
                                               opts, reply, &driver))
        return true;
    tow_classify(&driver, reply, link->side, error);
    return false;
}
