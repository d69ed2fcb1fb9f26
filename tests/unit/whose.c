/* What the job did not make stays: it is not taken for what the job creates, nor dropped, nor
 * renamed over; and what the job's own writes made again is told from it by all that it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "copy/internal.h"
#include "double.h"
#include "engine/state/store_internal.h"

typedef struct {
    double_server_t *source, *destination;
    tow_store_t store;
    tow_stop_t *stop;
    tow_copy_t *copy;
    tow_conn_t *conn;
    uint32_t creates, drops;
    bool makes; /* creating makes d.a */
} bench_t;

static void put(double_server_t *server, const char *ns, int32_t id, int32_t n)
{
    bson_t *document = BCON_NEW("_id", BCON_INT32(id), "n", BCON_INT32(n));

    double_put(server, ns, document);
    tow_link_note_time(double_link(server), double_now(server));
    bson_destroy(document);
}

/* The job's own database takes everything; of the rest commands are counted, and not carried out.
 */
static bool serve(void *data, const char *database, const bson_t *command, bson_t *reply,
                  bson_error_t *error)
{
    bench_t *bench = data;

    if (bson_has_field(command, "find") || bson_has_field(command, "listCollections") ||
        bson_has_field(command, "listIndexes"))
        return false;
    bench->creates += bson_has_field(command, "create");
    if (bson_has_field(command, "create") && bench->makes)
        put(bench->destination, "d.a", 1,
            0); /* here a collection is there when it has a document */
    bench->drops += bson_has_field(command, "drop");
    BCON_APPEND(reply, "n", BCON_INT32(1), "ok", BCON_DOUBLE(1));
    return true;
}

static void begin(bench_t *bench)
{
    tow_copy_options_t options;
    tow_error_t error;

    *bench = (bench_t){.source = double_new("source", true),
                       .destination = double_new("destination", false)};
    double_worst(bench->source);
    double_hook(bench->destination, serve, bench);
    bench->store = (tow_store_t){.options.destination = double_link(bench->destination),
                                 .database = (char *)"towline_unit",
                                 .renewed_ms = INT64_MAX / 2};
    pthread_mutex_init(&bench->store.lock, NULL);
    bench->store.conn = tow_conn_open(double_link(bench->destination), &error);
    bench->stop = tow_stop_new();
    options = (tow_copy_options_t){.source = double_link(bench->source),
                                   .destination = double_link(bench->destination),
                                   .store = &bench->store,
                                   .claims = tow_claims_new(&bench->store),
                                   .stop = bench->stop};
    bench->copy = tow_copy_new(&options);
    bench->conn = tow_conn_open(double_link(bench->destination), &error);
}

static void end(bench_t *bench)
{
    tow_claims_t *claims = bench->copy->options.claims;

    tow_conn_close(bench->conn);
    tow_copy_destroy(bench->copy);
    tow_claims_destroy(claims);
    tow_conn_close(bench->store.conn);
    pthread_mutex_destroy(&bench->store.lock);
    tow_stop_destroy(bench->stop);
    double_free(bench->source);
    double_free(bench->destination);
}

/* What the destination gives a collection of that name: see double_list_collections. */
static const uint8_t *uuid_of(const char *ns, uint8_t out[16])
{
    memset(out, 0, 16);
    memcpy(out, ns, strlen(ns));
    return out;
}

static void claim(bench_t *bench, const char *ns, const char *identity)
{
    uint8_t uuid[16];
    tow_error_t error;

    assert_true(tow_claims_make(bench->copy->options.claims, ns, uuid_of(identity, uuid), &error));
}

static bool make(bench_t *bench, tow_error_t *error)
{
    tow_collection_info_t info = {
        .ns = (char *)"d.a", .database = (char *)"d", .name = (char *)"a"};
    bool ok;

    bson_init(&info.options);
    ok = tow_copy_make(bench->copy, bench->conn, &info, error);
    bson_destroy(&info.options);
    return ok;
}

static void somebody_elses_is_not_taken_for_what_is_created(void **state)
{
    bench_t bench;
    uint8_t uuid[16];
    tow_error_t error;

    begin(&bench);
    put(bench.destination, "d.a", 1, 0);
    assert_false(make(&bench, &error));
    assert_int_equal(error.code, TOW_ERROR_CONFLICT);
    assert_int_equal(bench.creates, 0);
    assert_int_equal(tow_claims_of(bench.copy->options.claims, "d.a", uuid_of("d.a", uuid)),
                     TOW_CLAIM_NONE);
    end(&bench);
}

static void what_was_made_is_known_by_its_identity(void **state)
{
    bench_t bench;
    uint8_t uuid[16];
    tow_error_t error;

    begin(&bench);
    bench.makes = true;
    assert_true(make(&bench, &error));
    assert_int_equal(bench.creates, 1);
    assert_int_equal(tow_claims_of(bench.copy->options.claims, "d.a", uuid_of("d.a", uuid)),
                     TOW_CLAIM_MADE);
    assert_int_equal(tow_claims_of(bench.copy->options.claims, "d.a", uuid_of("d.b", uuid)),
                     TOW_CLAIM_NONE);
    end(&bench);
}

/* Neither what it never claimed, nor what it was about to make when somebody else did. */
static void somebody_elses_is_not_dropped(void **state)
{
    const char *ns = "d.a";
    bench_t bench;
    tow_error_t error;

    begin(&bench);
    put(bench.destination, "d.a", 1, 0);
    assert_true(tow_copy_dropped(bench.copy, bench.conn, "d", "a", &error));
    assert_true(tow_claims_mean(bench.copy->options.claims, &ns, 1, &error));
    assert_true(tow_copy_dropped(bench.copy, bench.conn, "d", "a", &error));
    assert_int_equal(bench.drops, 0);
    claim(&bench, "d.a", "d.a");
    assert_true(tow_copy_dropped(bench.copy, bench.conn, "d", "a", &error));
    assert_int_equal(bench.drops, 1);
    assert_false(tow_claims_has(bench.copy->options.claims, "d.a"));
    end(&bench);
}

static void nothing_is_renamed_over_somebody_elses(void **state)
{
    bench_t bench;
    tow_error_t error;
    bool ours;

    begin(&bench);
    put(bench.destination, "d.a", 1, 0);
    put(bench.destination, "d.b", 1, 0);
    claim(&bench, "d.b", "d.b");
    assert_false(tow_copy_may_rename(bench.copy, bench.conn, "d", "b", "d", "a", &ours, &error));
    assert_int_equal(error.code, TOW_ERROR_CONFLICT);
    claim(&bench, "d.a", "d.a");
    assert_true(tow_copy_may_rename(bench.copy, bench.conn, "d", "b", "d", "a", &ours, &error));
    assert_true(ours);
    assert_true(tow_copy_may_rename(bench.copy, bench.conn, "d", "c", "d", "a", &ours, &error));
    assert_false(ours);
    end(&bench);
}

/* Made again ------------------------------------------------------------------------------------*/

typedef enum { AS_IT_IS, UNCLAIMED, EMPTY, INDEXED, OPTIONS, ANOTHER, CHANGED, CASES } case_t;

static bool is_remade(case_t which)
{
    tow_collection_info_t there = {
        .ns = (char *)"d.a", .database = (char *)"d", .name = (char *)"a"};
    tow_error_t error;
    bench_t bench;
    bool remade;

    begin(&bench);
    bson_init(&there.options);
    uuid_of("d.a", there.uuid);
    for (int32_t id = 0; id < 3; id++) {
        put(bench.source, "d.a", id, id);
        if (which != EMPTY)
            put(bench.destination, "d.a", id, id + (which == CHANGED && id == 2));
    }
    put(bench.source, "d.a", 3, 3); /* the writes of the job made a part of it */
    if (which == ANOTHER)
        put(bench.destination, "d.a", 4, 4);
    if (which == OPTIONS)
        bson_append_bool(&there.options, "capped", -1, true);
    if (which == INDEXED)
        double_unique(bench.destination, "n");
    if (which != UNCLAIMED)
        claim(&bench, "d.a", "before");
    assert_true(tow_copy_is_remade(bench.copy, &there, &remade, &error));
    bson_destroy(&there.options);
    end(&bench);
    return remade;
}

static void only_what_writes_of_the_job_can_have_made_is_remade(void **state)
{
    for (case_t which = AS_IT_IS; which < CASES; which++)
        if (is_remade(which) != (which == AS_IT_IS))
            fail_msg("case %d", which);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(somebody_elses_is_not_taken_for_what_is_created),
        cmocka_unit_test(what_was_made_is_known_by_its_identity),
        cmocka_unit_test(somebody_elses_is_not_dropped),
        cmocka_unit_test(nothing_is_renamed_over_somebody_elses),
        cmocka_unit_test(only_what_writes_of_the_job_can_have_made_is_remade),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
