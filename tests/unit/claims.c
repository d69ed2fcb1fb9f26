/* What counts as made by the job; the store takes every record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "double.h"
#include "engine/state/claims.h"
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
    tow_error_t error;

    bench->server = double_new("destination", false);
    double_hook(bench->server, accept_all, NULL);
    bench->store.conn = tow_conn_open(double_link(bench->server), &error);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_identity_is_somebody_elses),
        cmocka_unit_test(a_renamed_one_is_known_by_its_identity),
        cmocka_unit_test(no_identity_is_no_proof),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
