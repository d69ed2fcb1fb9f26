/* SPDX-License-Identifier: Apache-2.0 */
/* Where a log goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oplog/continuation.h"

/* "cba": newest first, a letter for each document; "cba|": and there are no older ones. */
static tow_log_end_t end_of(const char *letters, uint64_t hashes[32])
{
    size_t count = strcspn(letters, "|");

    for (size_t i = 0; i < count; i++)
        hashes[i] = (uint64_t)letters[i];
    return (tow_log_end_t){hashes, count, letters[count] == '|'};
}

static void expect(const char *source_letters, const char *destination_letters,
                   tow_continuation_t wanted, size_t wanted_new)
{
    uint64_t hashes[2][32];
    tow_log_end_t source = end_of(source_letters, hashes[0]);
    tow_log_end_t destination = end_of(destination_letters, hashes[1]);
    size_t found_new = 0;
    tow_continuation_t found = tow_log_continuation(&source, &destination, &found_new);

    if (found != wanted || found_new != wanted_new)
        fail_msg("%s, %s: answer %d with %zu new", source_letters, destination_letters, (int)found,
                 found_new);
}

static void goes_on_after_the_newest_shared(void **state)
{
    expect("edcba|", "cba|", TOW_LOG_GOES_ON, 2);
    expect("edc", "c", TOW_LOG_GOES_ON, 2);
    expect("cba|", "cba|", TOW_LOG_GOES_ON, 0);
    expect("cb", "cba", TOW_LOG_UNKNOWN,
           0); /* as far as the destination is known, the order is compared */
    expect("|", "|", TOW_LOG_GOES_ON, 0);
    expect("ba|", "|", TOW_LOG_GOES_ON, 2);
    expect("ba", "|", TOW_LOG_UNKNOWN, 0);
}

static void the_cap_is_no_business_of_ours(void **state)
{
    expect("edcb|", "cba|", TOW_LOG_GOES_ON, 2); /* the source has dropped a */
    expect("edcba|", "cb|", TOW_LOG_GOES_ON, 2); /* the destination has */
    expect("hgfe|", "cba|", TOW_LOG_GOES_ON, 4); /* it has wrapped */
    expect("hgfe", "cba|", TOW_LOG_UNKNOWN, 0);  /* or has not: not read far enough */
}

/* Invariant: natural order is content. What is not one log is copied again, never patched. */
static void another_order_is_apart(void **state)
{
    expect("edcba|", "abc|", TOW_LOG_APART, 0);
    expect("edcba|", "cab|", TOW_LOG_APART, 0);
    expect("cedba|", "cba|", TOW_LOG_APART, 0); /* c was deleted and inserted again */
    expect("edba|", "cba|", TOW_LOG_APART, 0);  /* the newest was deleted */
    expect("edcab|", "cba|", TOW_LOG_APART, 0);
    expect("adc|", "cba|", TOW_LOG_APART, 0); /* a came again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(goes_on_after_the_newest_shared),
                                       cmocka_unit_test(the_cap_is_no_business_of_ours),
                                       cmocka_unit_test(another_order_is_apart)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
