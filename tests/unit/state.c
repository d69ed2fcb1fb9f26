/* The job's records: each list is read as of all that the destination is known to have done. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "double.h"
#include "engine/state/claims.h"
#include "engine/state/store_internal.h"

enum { KNOWN = 77 };

typedef struct {
    double_server_t *destination;
    tow_store_t store;
    uint32_t finds, late; /* late: those that see what is known */
} bench_t;

static bool look(void *data, const char *database, const bson_t *command, bson_t *reply,
                 bson_error_t *error)
{
    bench_t *bench = data;
    uint32_t seconds, increment;
    bson_iter_t iter, after;

    if (!bson_has_field(command, "find"))
        return false;
    bench->finds++;
    if (bson_iter_init(&iter, command) &&
        bson_iter_find_descendant(&iter, "readConcern.afterClusterTime", &after)) {
        bson_iter_timestamp(&after, &seconds, &increment);
        bench->late += TOW_OPTIME(seconds, increment) >= KNOWN;
    }
    return false;
}

static void begin(bench_t *bench)
{
    tow_error_t error;

    *bench = (bench_t){.destination = double_new("destination", false)};
    bench->store = (tow_store_t){.options.destination = double_link(bench->destination),
                                 .database = (char *)"towline_x"};
    pthread_mutex_init(&bench->store.lock, NULL);
    bench->store.conn = tow_conn_open(double_link(bench->destination), &error);
    tow_link_note_time(double_link(bench->destination), KNOWN);
    double_hook(bench->destination, look, bench);
}

static void end(bench_t *bench)
{
    tow_conn_close(bench->store.conn);
    pthread_mutex_destroy(&bench->store.lock);
    double_free(bench->destination);
}

/* After an election a majority read alone may see less than the process before wrote, and what the job made
 * would pass for somebody else's. */
static void claims_are_read_as_of_what_is_known(void **state)
{
    tow_claims_t *claims;
    tow_error_t error;
    bench_t bench;

    begin(&bench);
    claims = tow_claims_new(&bench.store);
    assert_true(tow_claims_load(claims, &error));
    assert_true(bench.finds >= 2);
    assert_int_equal(bench.late, bench.finds);
    tow_claims_destroy(claims);
    end(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claims_are_read_as_of_what_is_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
