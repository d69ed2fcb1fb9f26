/* SPDX-License-Identifier: Apache-2.0 */
/* What counts as made by the job; the store takes every record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "copy/internal.h"
#include "double.h"
#include "engine/base/thread.h"
#include "engine/link/reply.h"
#include "engine/state/claims.h"
#include "engine/state/others.h"
#include "engine/state/store_internal.h"

static const uint8_t none[16], first[16] = {1}, second[16] = {2};

typedef struct {
    double_server_t *server;
    tow_store_t store;
    tow_claims_t *claims;
} bench_t;

static bool accept_all(void *data, const char *database, const bson_t *command, bson_t *reply,
                       bson_error_t *error)
{
    if (bson_has_field(command, "find")) /* the server has none */
        return false;
    bson_init(reply);
    bson_append_int32(reply, "n", -1, 1);
    bson_append_int32(reply, "nModified", -1, 1);
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

static bench_t *begin(void)
{
    bench_t *bench = tow_alloc(sizeof *bench);

    bench->server = double_new("destination", false);
    double_hook(bench->server, accept_all, NULL);
    bench->store.conn = tow_conn_open(double_link(bench->server));
    assert_non_null(bench->store.conn);
    bench->store.options.destination = double_link(bench->server);
    bench->store.database = (char *)"towline_unit";
    bench->store.renewed_ms = INT64_MAX / 2;
    pthread_mutex_init(&bench->store.lock, NULL);
    bench->claims = tow_claims_new(&bench->store);
    return bench;
}

static void end(bench_t *bench)
{
    tow_claims_destroy(bench->claims);
    pthread_mutex_destroy(&bench->store.lock);
    tow_conn_close(bench->store.conn);
    double_free(bench->server);
    free(bench);
}

static void make(bench_t *bench, const char *ns, const uint8_t uuid[16])
{
    tow_error_t error;

    assert_true(tow_claims_make(bench->claims, ns, uuid, &error));
}

static void another_identity_is_somebody_elses(void **state)
{
    bench_t *bench = begin();

    make(bench, "d.a", first);
    assert_int_equal(tow_claims_of(bench->claims, "d.a", first), TOW_CLAIM_MADE);
    assert_int_equal(tow_claims_of(bench->claims, "d.a", second), TOW_CLAIM_NONE);
    assert_int_equal(tow_claims_of(bench->claims, "d.b", second), TOW_CLAIM_NONE);
    end(bench);
}

/* A process was killed after it renamed a collection, and before it recorded that. */
static void a_renamed_one_is_known_by_its_identity(void **state)
{
    bench_t *bench = begin();
    tow_error_t error;

    make(bench, "d.a", first);
    make(bench, "d.b", second);
    assert_int_equal(tow_claims_of(bench->claims, "d.c", first), TOW_CLAIM_MADE);
    assert_int_equal(tow_claims_of(bench->claims, "d.b", first), TOW_CLAIM_MADE);
    if (!tow_claims_end(bench->claims, "d.a", &error))
        fail_msg("%s", error.message);
    assert_int_equal(tow_claims_of(bench->claims, "d.c", first), TOW_CLAIM_NONE);
    end(bench);
}

/* Views have none: one of ours says nothing about whose another is. */
static void no_identity_is_no_proof(void **state)
{
    bench_t *bench = begin();

    make(bench, "d.view", none);
    assert_int_equal(tow_claims_of(bench->claims, "d.view", none), TOW_CLAIM_MADE);
    assert_int_equal(tow_claims_of(bench->claims, "d.other", none), TOW_CLAIM_NONE);
    end(bench);
}

static bool count_inserts(void *data, const char *database, const bson_t *command, bson_t *reply,
                          bson_error_t *error)
{
    *(uint32_t *)data += bson_has_field(command, "insert");
    return accept_all(NULL, database, command, reply, error);
}

/* A process that is killed next leaves it to the one after. */
static void what_is_meant_is_recorded_and_not_yet_ours(void **state)
{
    bench_t *bench = begin();
    const char *ns = "d.a";
    uint32_t inserts = 0;
    tow_error_t error;

    double_hook(bench->server, count_inserts, &inserts);
    assert_true(tow_claims_mean(bench->claims, &ns, 1, &error));
    assert_int_equal(inserts, 1);
    assert_int_equal(tow_claims_of(bench->claims, ns, first), TOW_CLAIM_MEANT);
    end(bench);
}

/* A build that reaches the server after its collection was dropped makes it again. */
static void what_a_build_may_have_made_may_be_ours(void **state)
{
    bench_t *bench = begin();
    tow_error_t error;

    tow_claims_build_begins(bench->claims, "d.a");
    assert_int_equal(tow_claims_of(bench->claims, "d.a", second), TOW_CLAIM_MAYBE);
    assert_true(tow_claims_build_ended(bench->claims, "d.a", false, &error));
    assert_int_equal(tow_claims_of(bench->claims, "d.a", second), TOW_CLAIM_NONE);
    tow_claims_build_begins(bench->claims, "d.a");
    assert_true(tow_claims_build_ended(bench->claims, "d.a", true, &error));
    assert_int_equal(tow_claims_of(bench->claims, "d.a", second), TOW_CLAIM_MAYBE);
    make(bench, "d.a", first); /* made otherwise since */
    assert_int_equal(tow_claims_of(bench->claims, "d.a", second), TOW_CLAIM_NONE);
    end(bench);
}

/* The job's document says what processes before sent, and may still arrive. */
static bool tell_late(void *data, const char *database, const bson_t *command, bson_t *reply,
                      bson_error_t *error)
{
    const char *name;

    if (!tow_field_text(command, "find", &name) || strcmp(name, "job") != 0)
        return accept_all(data, database, command, reply, error);
    BCON_APPEND(reply, "cursor", "{", "id", BCON_INT64(0), "firstBatch", "[", "{", "_id", "job",
                "late", "[", "{", "what", "create", "namespace", "d.a", "to", BCON_NULL, "}", "{",
                "what", "drop", "namespace", "d.b", "}", "]", "}", "]", "}", "ok", BCON_DOUBLE(1));
    return true;
}

static void what_a_process_before_may_still_create_may_be_ours(void **state)
{
    bench_t *bench = begin();
    tow_error_t error;

    double_hook(bench->server, tell_late, NULL);
    assert_true(tow_claims_load(bench->claims, &error));
    assert_int_equal(tow_claims_of(bench->claims, "d.a", first), TOW_CLAIM_MAYBE);
    assert_int_equal(tow_claims_of(bench->claims, "d.b", first), TOW_CLAIM_NONE);
    end(bench);
}

/* A view that one thread drops while another makes it. */
typedef struct {
    bench_t *bench;
    tow_copy_t *copy;
    tow_namespaces_t *table;
    tow_stop_t *stop;
    tow_conn_t *conn;
    tow_thread_t maker;
    atomic_bool there, made;
} contended_t;

static void begin_contended(contended_t *contended, double_hook_t hook)
{
    bench_t *bench = contended->bench = begin();
    tow_copy_options_t options = {.source = double_link(bench->server),
                                  .destination = double_link(bench->server),
                                  .namespaces = tow_namespaces_new(),
                                  .store = &bench->store,
                                  .claims = bench->claims,
                                  .stop = tow_stop_new()};

    contended->stop = options.stop;
    contended->table = options.namespaces;
    contended->copy = tow_copy_new(&options);
    contended->conn = tow_conn_open(options.destination);
    double_hook(bench->server, hook, contended);
}

static void end_contended(contended_t *contended)
{
    tow_conn_close(contended->conn);
    tow_copy_destroy(contended->copy);
    tow_namespaces_destroy(contended->table);
    tow_stop_destroy(contended->stop);
    end(contended->bench);
}

static void *make_view(void *data)
{
    contended_t *contended = data;
    tow_collection_info_t info = {
        .ns = (char *)"d.view", .database = (char *)"d", .name = (char *)"view", .type = TOW_VIEW};
    tow_conn_t *conn;
    tow_error_t error;

    bson_init(&info.options);
    conn = tow_conn_open(double_link(contended->bench->server));
    assert_true(tow_copy_make(contended->copy, conn, &info, &error));
    contended->made = true;
    tow_conn_close(conn);
    bson_destroy(&info.options);
    return NULL;
}

static void list_view(const contended_t *contended, bson_t *reply)
{
    bson_t *list = contended->there ? BCON_NEW("0", "{", "name", "view", "type", "view", "options",
                                               "{", "}", "}")
                                    : bson_new();
    bson_t cursor;

    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 0);
    bson_append_utf8(&cursor, "ns", -1, "d.$cmd.listCollections", -1);
    bson_append_array(&cursor, "firstBatch", -1, list);
    bson_append_document_end(reply, &cursor);
    bson_destroy(list);
}

/* Once the view is dropped, the other thread has a while to make it, before the
 * drop is answered. */
static bool keep_view(void *data, const char *database, const bson_t *command, bson_t *reply,
                      bson_error_t *error)
{
    contended_t *contended = data;
    tow_error_t failure;

    if (!accept_all(NULL, database, command, reply, error))
        return false;
    if (bson_has_field(command, "listCollections"))
        list_view(contended, reply);
    if (bson_has_field(command, "create"))
        contended->there = true;
    if (!bson_has_field(command, "drop"))
        return true;
    contended->there = false;
    assert_true(tow_thread_start(&contended->maker, "maker", make_view, contended, &failure));
    for (int i = 0; i < 50 && !contended->made; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return true;
}

static void what_is_made_during_a_drop_stays_claimed(void **state)
{
    contended_t contended = {.there = true};
    tow_error_t error;

    begin_contended(&contended, keep_view);
    make(contended.bench, "d.view", none);
    assert_true(tow_copy_dropped(contended.copy, contended.conn, "d", "view", &error));
    tow_thread_join(&contended.maker);
    assert_true(contended.there);
    assert_int_equal(tow_claims_of(contended.bench->claims, "d.view", none), TOW_CLAIM_MADE);
    end_contended(&contended);
}

/* The answer to its first create is lost. */
static bool lose_create(void *data, const char *database, const bson_t *command, bson_t *reply,
                        bson_error_t *error)
{
    contended_t *contended = data;

    if (bson_has_field(command, "create") && !contended->there) {
        contended->there = true;
        bson_init(reply);
        bson_set_error(error, MONGOC_ERROR_STREAM, MONGOC_ERROR_STREAM_SOCKET, "lost");
        return true;
    }
    if (!accept_all(NULL, database, command, reply, error))
        return false;
    if (bson_has_field(command, "drop"))
        contended->there = false;
    if (bson_has_field(command, "listCollections"))
        list_view(contended, reply);
    return true;
}

static void what_a_late_create_makes_is_the_jobs(void **state)
{
    contended_t contended = {.there = false};
    tow_error_t error;

    begin_contended(&contended, lose_create);
    make_view(&contended);
    assert_true(tow_copy_dropped(contended.copy, contended.conn, "d", "view", &error));
    assert_int_equal(tow_claims_of(contended.bench->claims, "d.view", none), TOW_CLAIM_MAYBE);
    assert_int_equal(tow_claims_of(contended.bench->claims, "d.other", none), TOW_CLAIM_NONE);
    end_contended(&contended);
}

/* A name that a process before only meant, and what has it now. */
typedef struct {
    bool moved, filled;
    bool dropped, recorded; /* what was seen */
} earlier_t;

static earlier_t earlier;

static void append_batch(bson_t *reply, bson_t *batch)
{
    bson_t cursor;

    bson_append_document_begin(reply, "cursor", -1, &cursor);
    bson_append_int64(&cursor, "id", -1, 0);
    bson_append_utf8(&cursor, "ns", -1, "d.a", -1);
    bson_append_array(&cursor, "firstBatch", -1, batch);
    bson_append_document_end(reply, &cursor);
    bson_destroy(batch);
}

static bson_t *find_in(const char *collection)
{
    if (!strcmp(collection, "job"))
        return BCON_NEW("0", "{", "_id", "job", "}");
    if (!strcmp(collection, "made"))
        return earlier.moved ? BCON_NEW("0", "{", "_id", "d.a", "moved", BCON_BOOL(true), "}")
                             : BCON_NEW("0", "{", "_id", "d.a", "}");
    return !strcmp(collection, "a") && earlier.filled ? BCON_NEW("0", "{", "_id", "mine", "}")
                                                      : bson_new();
}

static bool serve_earlier(void *data, const char *database, const bson_t *command, bson_t *reply,
                          bson_error_t *error)
{
    bson_iter_t iter, uuid;

    if (bson_iter_init_find(&iter, command, "find")) {
        append_batch(reply, find_in(bson_iter_utf8(&iter, NULL)));
    } else if (bson_has_field(command, "listDatabases")) {
        BCON_APPEND(reply, "databases", "[", "{", "name", "d", "}", "]");
    } else if (bson_has_field(command, "listCollections") && bson_iter_init(&iter, command) &&
               bson_iter_find_descendant(&iter, "filter.name", &uuid) &&
               BSON_ITER_HOLDS_UTF8(&uuid) && strcmp(bson_iter_utf8(&uuid, NULL), "a") != 0) {
        append_batch(reply, bson_new());
    } else if (bson_has_field(command, "listCollections")) {
        append_batch(reply, BCON_NEW("0", "{", "name", "a", "type", "collection", "options", "{",
                                     "}", "info", "{", "uuid",
                                     BCON_BIN(BSON_SUBTYPE_UUID, first, 16), "}", "}"));
    } else {
        earlier.dropped = earlier.dropped || bson_has_field(command, "drop");
        earlier.recorded =
            earlier.recorded || (bson_iter_init(&iter, command) &&
                                 bson_iter_find_descendant(&iter, "updates.0.u.$set.uuid", &uuid));
        bson_append_int32(reply, "n", -1, 1);
    }
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

static void begin_earlier(contended_t *contended, earlier_t what)
{
    tow_error_t error;

    earlier = what;
    begin_contended(contended, serve_earlier);
    if (!tow_claims_load(contended->bench->claims, &error))
        fail_msg("%s", error.message);
}

static bool make_a(contended_t *contended, tow_error_t *error)
{
    tow_collection_info_t info = {
        .ns = (char *)"d.a", .database = (char *)"d", .name = (char *)"a"};
    bool ok;

    bson_init(&info.options);
    ok = tow_copy_make(contended->copy, contended->conn, &info, error);
    bson_destroy(&info.options);
    return ok;
}

/* Killed before it was made, or somebody was faster: what has documents is somebody else's. */
static void a_meant_name_with_documents_is_somebody_elses(void **state)
{
    tow_catalog_t none_left = {0};
    contended_t contended;
    tow_error_t error;

    contended = (contended_t){0};
    begin_earlier(&contended, (earlier_t){.filled = true});
    assert_true(tow_copy_dropped(contended.copy, contended.conn, "d", "a", &error));
    assert_true(tow_copy_forget_gone(contended.copy, contended.conn, &none_left, &error));
    assert_false(earlier.dropped);
    assert_false(make_a(&contended, &error));
    assert_int_equal(error.code, TOW_ERROR_CONFLICT);
    assert_false(earlier.recorded);
    end_contended(&contended);
}

/* It is recorded at once: the documents that come next do not make it somebody else's. */
static void a_meant_name_without_documents_is_the_jobs(void **state)
{
    contended_t contended = {0};
    tow_error_t error;

    begin_earlier(&contended, (earlier_t){0});
    if (!make_a(&contended, &error))
        fail_msg("%s", error.message);
    assert_true(earlier.recorded);
    assert_int_equal(tow_claims_of(contended.bench->claims, "d.a", first), TOW_CLAIM_MADE);
    end_contended(&contended);

    contended = (contended_t){0};
    begin_earlier(&contended, (earlier_t){0});
    assert_true(tow_copy_make_placeholder(contended.copy, contended.conn, "d", "a", &error));
    assert_int_equal(tow_claims_of(contended.bench->claims, "d.a", first), TOW_CLAIM_MADE);
    assert_true(tow_copy_dropped(contended.copy, contended.conn, "d", "a", &error));
    assert_true(earlier.dropped);
    end_contended(&contended);
}

/* Killed after a rename to another database, which gives another identity: it brought its
 * documents. */
static void a_name_that_a_rename_meant_is_the_jobs_with_documents(void **state)
{
    contended_t contended = {0};
    tow_error_t error;

    begin_earlier(&contended, (earlier_t){.moved = true, .filled = true});
    assert_true(tow_copy_dropped(contended.copy, contended.conn, "d", "a", &error));
    assert_true(earlier.dropped);
    end_contended(&contended);
}

/* The destination goes on knowing the database "D", until it is dropped. */
typedef struct {
    contended_t contended;
    bool known, filled;
    int dropped;
} spelled_t;

static bool differ_in_case(void *data, const char *database, const bson_t *command, bson_t *reply,
                           bson_error_t *error)
{
    static const char text[] =
        "db already exists with different case already have: [D] trying to create [d]";
    spelled_t *spelled = data;

    if (bson_has_field(command, "create") && spelled->known) {
        BCON_APPEND(reply, "ok", BCON_DOUBLE(0), "code", BCON_INT32(13297), "errmsg",
                    BCON_UTF8(text));
        bson_set_error(error, MONGOC_ERROR_SERVER, 13297, "%s", text);
        return true;
    }
    if (!accept_all(NULL, database, command, reply, error))
        return false;
    if (bson_has_field(command, "dropDatabase")) {
        assert_string_equal(database, "D");
        spelled->known = false;
        spelled->dropped++;
    }
    if (bson_has_field(command, "create"))
        spelled->contended.there = true;
    if (bson_has_field(command, "listCollections"))
        list_view(&(contended_t){.there = strcmp(database, "D") ? spelled->contended.there
                                                                : spelled->filled},
                  reply);
    return true;
}

static bool make_other_spelling(spelled_t *spelled, bool ours, tow_error_t *error)
{
    tow_collection_info_t info = {
        .ns = (char *)"d.view", .database = (char *)"d", .name = (char *)"view", .type = TOW_VIEW};
    contended_t *contended = &spelled->contended;
    bool ok;

    begin_contended(contended, differ_in_case);
    double_hook(contended->bench->server, differ_in_case, spelled);
    if (ours) {
        make(contended->bench, "D.a", first);
        if (!tow_claims_end(contended->bench->claims, "D.a", error))
            fail_msg("%s", error->message);
    }
    bson_init(&info.options);
    ok = tow_copy_make(contended->copy, contended->conn, &info, error);
    bson_destroy(&info.options);
    end_contended(contended);
    return ok;
}

static void an_empty_database_of_another_case_makes_way(void **state)
{
    spelled_t ours = {.known = true}, theirs = {.known = true},
              filled = {.known = true, .filled = true};
    tow_error_t error;

    assert_true(make_other_spelling(&ours, true, &error));
    assert_int_equal(ours.dropped, 1);
    assert_false(make_other_spelling(&theirs, false, &error));
    assert_int_equal(error.code, TOW_ERROR_CONFLICT);
    assert_int_equal(theirs.dropped, 0);
    assert_false(make_other_spelling(&filled, true, &error));
    assert_non_null(strstr(error.message, "it is not empty"));
    assert_int_equal(filled.dropped, 0);
}

static const char *where(contended_t *contended, const char *name)
{
    bool ours = false, replaces = false;
    tow_error_t error;

    if (!tow_copy_may_rename(contended->copy, contended->conn, "d", "a", "d", name, &ours,
                             &replaces, &error))
        return "foreign";
    return !ours ? "not ours" : replaces ? "replaces" : "free";
}

/* `a` is the job's; `b` is not there. */
static void a_rename_drops_a_target_that_is_claimed(void **state)
{
    contended_t contended = {0};

    begin_earlier(&contended, (earlier_t){0});
    make(contended.bench, "d.a", first);
    assert_string_equal(where(&contended, "b"), "free");
    assert_string_equal(where(&contended, "a"), "replaces");
    make(contended.bench, "d.a", second); /* what is there has another identity */
    assert_string_equal(where(&contended, "a"), "foreign");
    end_contended(&contended);
}

/* system.js goes by another name, which nobody has had and whose place nobody loses. */
typedef struct {
    char to[2][80], dropped[80];
    uint32_t renames;
    bool replaces;
} aside_t;

static bool set_aside(void *data, const char *database, const bson_t *command, bson_t *reply,
                      bson_error_t *error)
{
    aside_t *aside = data;
    bson_iter_t iter;

    if (bson_has_field(command, "renameCollection") && bson_iter_init_find(&iter, command, "to"))
        snprintf(aside->to[aside->renames++ % 2], sizeof aside->to[0], "%s",
                 bson_iter_utf8(&iter, NULL));
    if (bson_iter_init_find(&iter, command, "dropTarget"))
        aside->replaces = aside->replaces || bson_iter_bool(&iter);
    if (bson_iter_init_find(&iter, command, "drop"))
        snprintf(aside->dropped, sizeof aside->dropped, "%s.%s", database,
                 bson_iter_utf8(&iter, NULL));
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

static void what_is_set_aside_takes_nobodys_place(void **state)
{
    bench_t *bench = begin();
    aside_t aside = {0};
    tow_error_t error;

    double_hook(bench->server, set_aside, &aside);
    for (int i = 0; i < 2; i++) {
        assert_true(tow_collection_drop(bench->store.conn, "d", "system.js", &error));
        assert_string_equal(aside.dropped, aside.to[i]);
    }
    assert_int_equal(aside.renames, 2);
    assert_string_not_equal(aside.to[0], aside.to[1]);
    assert_false(aside.replaces);
    end(bench);
}

/* Another job's records. */
static struct {
    bson_t *job;  /* its document; NULL: none */
    bool running; /* by the time that it is to be marked */
    uint32_t marked;
} other;

static bool serve_others(void *data, const char *database, const bson_t *command, bson_t *reply,
                         bson_error_t *error)
{
    bson_t *batch;
    const char *name;
    bson_iter_t iter, found;

    if (!tow_field_text(command, "find", &name)) {
        other.marked += bson_iter_init(&iter, command) &&
                        bson_iter_find_descendant(&iter, "updates.0.q.lease", &found) &&
                        BSON_ITER_HOLDS_NULL(&found);
        BCON_APPEND(reply, "n", BCON_INT32(!other.running), "ok", BCON_DOUBLE(1));
        return true;
    }
    assert_string_equal(database, "towline_other");
    batch = bson_new();
    if (!strcmp(name, "job") && other.job)
        BCON_APPEND(batch, "0", BCON_DOCUMENT(other.job));
    else if (strcmp(name, "job") != 0)
        BCON_APPEND(batch, "0", "{", "_id",
                    BCON_UTF8(!strcmp(name, "made")          ? "d.a"
                              : !strcmp(name, "collections") ? "d.b"
                                                             : "d.c"),
                    "}");
    append_batch(reply, batch);
    bson_append_double(reply, "ok", -1, 1);
    return true;
}

/* The names of a, b and c that are not to be dropped. */
static void expect_refused(bson_t *job, const char *own, const char *expected)
{
    tow_collection_info_t items[] = {{.ns = (char *)"towline_other.job",
                                      .database = (char *)"towline_other",
                                      .name = (char *)"job"}};
    tow_catalog_t there = {.items = items, .count = 1};
    bench_t *bench = begin();
    char seen[4] = "", *next = seen;
    tow_others_t *others;
    tow_error_t error;

    other.job = job;
    other.marked = 0;
    double_hook(bench->server, serve_others, NULL);
    others = tow_others_read(bench->store.conn, &there, own, &error);
    assert_non_null(others);
    for (const char *name = "abc"; *name; name++) {
        char ns[] = {'d', '.', *name, '\0'};

        if (!other.running)
            assert_int_equal(tow_others_hold(others, ns) != NULL, strchr(expected, *name) != NULL);
        if (tow_others_take(others, bench->store.conn, ns, own, &error))
            continue;
        assert_int_equal(error.code, TOW_ERROR_CONFLICT);
        assert_non_null(strstr(error.message, "towline_other"));
        *next++ = *name;
    }
    assert_string_equal(seen, expected);
    tow_others_destroy(others);
    if (job)
        bson_destroy(job);
    end(bench);
}

/* Whether its lease has run out or not: a process that stands still renews it when it wakes. */
static void what_a_job_claims_that_may_run_is_nobodys_to_clear(void **state)
{
#define HELD "lease", "{", "holder", "somebody", "}"
    other.running = false;
    expect_refused(BCON_NEW("_id", "job", "prepared", BCON_BOOL(true), HELD), "towline_own", "ab");
    /* it may be about to drop what it cleared, and to make it */
    expect_refused(BCON_NEW("_id", "job", "begun", BCON_BOOL(true), HELD), "towline_own", "abc");
    expect_refused(BCON_NEW("_id", "job", HELD), "towline_own", "abc");
    expect_refused(BCON_NEW("_id", "job", "prepared", BCON_BOOL(true), "removing", BCON_BOOL(true),
                            "ended", "{", "}", HELD),
                   "towline_own", "ab");
    assert_int_equal(other.marked, 0);
    expect_refused(
        BCON_NEW("_id", "job", "begun", BCON_BOOL(true), "removing", BCON_BOOL(true), HELD),
        "towline_own", "");
    expect_refused(BCON_NEW("_id", "job", HELD), "towline_other", "");
    expect_refused(NULL, "towline_own", "");
}

/* The mark is made while nobody holds it, or it is not cleared. */
static void what_a_stopped_job_claims_is_cleared_with_a_mark(void **state)
{
    other.running = false;
    expect_refused(BCON_NEW("_id", "job", "prepared", BCON_BOOL(true)), "towline_own", "");
    assert_int_equal(other.marked, 1);
    other.running = true;
    expect_refused(BCON_NEW("_id", "job", "prepared", BCON_BOOL(true)), "towline_own", "ab");
    assert_int_equal(other.marked, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_identity_is_somebody_elses),
        cmocka_unit_test(a_renamed_one_is_known_by_its_identity),
        cmocka_unit_test(no_identity_is_no_proof),
        cmocka_unit_test(what_is_meant_is_recorded_and_not_yet_ours),
        cmocka_unit_test(what_a_build_may_have_made_may_be_ours),
        cmocka_unit_test(what_a_process_before_may_still_create_may_be_ours),
        cmocka_unit_test(what_is_made_during_a_drop_stays_claimed),
        cmocka_unit_test(what_a_late_create_makes_is_the_jobs),
        cmocka_unit_test(a_meant_name_with_documents_is_somebody_elses),
        cmocka_unit_test(a_meant_name_without_documents_is_the_jobs),
        cmocka_unit_test(a_name_that_a_rename_meant_is_the_jobs_with_documents),
        cmocka_unit_test(an_empty_database_of_another_case_makes_way),
        cmocka_unit_test(a_rename_drops_a_target_that_is_claimed),
        cmocka_unit_test(what_is_set_aside_takes_nobodys_place),
        cmocka_unit_test(what_a_job_claims_that_may_run_is_nobodys_to_clear),
        cmocka_unit_test(what_a_stopped_job_claims_is_cleared_with_a_mark),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
