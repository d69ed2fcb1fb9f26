/* SPDX-License-Identifier: Apache-2.0 */
/* The block on a terminal: state in, text of a given size out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/cmd/cells.c"
#include "engine/cmd/figures.c"
#include "engine/cmd/json.c"
#include "engine/cmd/view.c"

static const char copying[] =
    "{\"progress\":{\"phase\":\"copying\",\"job\":\"shop\",\"elapsedSeconds\":75.2,\"lagMs\":null,"
    "\"directionMapping\":{\"Source\":\"old.example:27017\",\"Destination\":\"new.example:27017\"},"
    "\"collectionCopy\":{\"estimatedTotalBytes\":9000000000,\"estimatedCopiedBytes\":3780000000,"
    "\"copiedDocuments\":12345678,\"rangesTotal\":40,\"collectionsTotal\":23,"
    "\"collectionsCopied\":4},"
    "\"indexBuilding\":{\"indexesBuilt\":2,\"totalIndexesToBuild\":31},\"eventsSeen\":4321,"
    "\"backlogEvents\":17,\"dirtyKeys\":1200,\"oplogHeadroomSeconds\":86000,\"retries\":3,"
    "\"nextStep\":\"wait until the job is in sync\",\"canCommit\":false,"
    "\"reason\":\"the job is copying, not in sync\",\"cutover\":{\"step\":\"none\"}}}";
static const char collections[] =
    "{\"collections\":["
    "{\"ns\":\"shop.orders\",\"state\":\"copying\",\"estimatedDocuments\":1000,"
    "\"copiedDocuments\":420,\"estimatedBytes\":5000000000},"
    "{\"ns\":\"shop.\xe6\xb3\xa8\xe6\x96\x87\",\"state\":\"copying\",\"estimatedDocuments\":10,"
    "\"copiedDocuments\":20,\"estimatedBytes\":2000000000},"
    "{\"ns\":\"shop.done\",\"state\":\"copied\",\"rangesTotal\":4,\"rangesCopied\":4,"
    "\"estimatedBytes\":1000000000},"
    "{\"ns\":\"shop.ab\\u001b[31m and a name that is long, far longer than the room for one\","
    "\"state\":\"copying\",\"rangesTotal\":4,\"rangesCopied\":1,\"estimatedBytes\":90000000}]}";
static const char in_sync[] =
    "{\"progress\":{\"phase\":\"in-sync\",\"job\":\"shop\",\"elapsedSeconds\":7500,\"lagMs\":12,"
    "\"directionMapping\":{\"Source\":\"old.example:27017\",\"Destination\":\"new.example:27017\"},"
    "\"collectionCopy\":{\"estimatedTotalBytes\":9000000000,\"estimatedCopiedBytes\":9000000000,"
    "\"copiedDocuments\":12345678,\"rangesTotal\":40,\"collectionsTotal\":23,"
    "\"collectionsCopied\":23},"
    "\"indexBuilding\":{\"indexesBuilt\":31,\"totalIndexesToBuild\":31},\"eventsSeen\":4321,"
    "\"backlogEvents\":0,\"dirtyKeys\":0,\"oplogHeadroomSeconds\":1800,\"retries\":0,"
    "\"window\":{\"leftSeconds\":431000},\"verification\":{\"estimatedDocumentCount\":12345678,"
    "\"hashedDocumentCount\":12345678},\"positions\":{\"verified\":{\"t\":1,\"i\":1}},"
    "\"nextStep\":\"stop the writes to the source, then: towline cutover --wait\","
    "\"canCommit\":true,\"cutover\":{\"step\":\"none\",\"lastAttempt\":{"
    "\"calledOffAt\":\"2026-11-26T21:34:21Z\",\"lateWrites\":139}}}}";
static const char silent[] =
    "{\"progress\":{\"phase\":\"in-sync\",\"job\":\"shop\",\"elapsedSeconds\":7500,"
    "\"lagMs\":42000,\"collectionCopy\":{\"estimatedTotalBytes\":900,\"estimatedCopiedBytes\":900,"
    "\"copiedDocuments\":9,\"rangesTotal\":1,\"collectionsTotal\":1,\"collectionsCopied\":1},"
    "\"indexBuilding\":{\"indexesBuilt\":1,\"totalIndexesToBuild\":1},\"eventsSeen\":1,"
    "\"source\":{\"silentMs\":40000},\"retries\":7,"
    "\"retrying\":\"getMore on the source: connection closed, by a server whose name is very "
    "long\","
    "\"reason\":\"the source has not answered for 40 s\","
    "\"nextStep\":\"see why that side does not answer; the job goes on by itself when it does\","
    "\"canCommit\":false,\"cutover\":{\"step\":\"none\"}}}";

static char *shown(const char *progress, const char *listed, size_t columns, size_t rows,
                   bool colour)
{
    bson_t *document = cmd_document(progress), *list = listed ? cmd_document(listed) : NULL;
    cmd_view_t view = {document, list, 90e6, "2026-11-26T22:00:00Z", columns, rows, colour};
    char *block;

    assert_non_null(document);
    block = columns ? cmd_view_block(&view) : cmd_view_line(&view);
    bson_destroy(document);
    bson_destroy(list);
    return block;
}

static void expect_block(const char *progress, const char *listed, size_t columns,
                         const char *block)
{
    char *got = shown(progress, listed, columns, 40, false);

    assert_string_equal(got, block);
    free(got);
}

static void at_45_columns(void **state)
{
    expect_block(copying, collections, 45,
                 "phase      copying, job shop, 75 s,\n"
                 "           old.example:27017 -> new.example…\n"
                 "copied     [####......] 42%,\n"
                 "           3.8 GB of 9.0 GB,\n"
                 "           12,345,678 documents, 90.0 MB/s,\n"
                 "           58 s left, 4 of 23 collections,\n"
                 "           2 of 31 indexes\n"
                 "  shop.orders                42% of 5.0 GB\n"
                 "  shop.注文                  99% of 2.0 GB\n"
                 "  shop.ab\\x1b[31m and a n…   25% of 90.0 MB\n"
                 "changes    lag not known yet, 4,321 seen,\n"
                 "           17 waiting, 1,200 dirty keys,\n"
                 "           oplog headroom 23 h 53 min\n"
                 "retries    3\n"
                 "next       wait until the job is in sync\n");
    expect_block(in_sync, NULL, 45,
                 "phase      in-sync, job shop, 2 h 5 min,\n"
                 "           old.example:27017 -> new.example…\n"
                 "copied     9.0 GB, 12,345,678 documents,\n"
                 "           23 of 23 collections,\n"
                 "           31 of 31 indexes\n"
                 "changes    lag 12 ms, 4,321 seen,\n"
                 "           oplog headroom 30 min,\n"
                 "           window 4 d 23 h\n"
                 "verified   both sides were found equal\n"
                 "cutover    possible\n"
                 "           last called off at 21:34 UTC,\n"
                 "           139 writes after the confirmation\n"
                 "next       stop the writes to the source,\n"
                 "           then: towline cutover --wait\n");
    expect_block(silent, NULL, 45,
                 "phase      in-sync, job shop, 2 h 5 min\n"
                 "source     has not answered for 40 s\n"
                 "copied     900 B, 9 documents,\n"
                 "           1 of 1 collections,\n"
                 "           1 of 1 indexes\n"
                 "changes    lag 42 s, 1 seen\n"
                 "not yet    the source has not answered for\n"
                 "           40 s\n"
                 "retries    7, getMore on the source:\n"
                 "           connection closed, by a server\n"
                 "           whose name is very long\n"
                 "next       see why that side does not\n"
                 "           answer; the job goes on by\n"
                 "           itself when it does\n");
}

static void at_80_columns(void **state)
{
    expect_block(copying, collections, 80,
                 "phase      copying, job shop, 75 s, old.example:27017 -> new.example:27017\n"
                 "copied     [##########..............] 42%, 3.8 GB of 9.0 GB,\n"
                 "           12,345,678 documents, 90.0 MB/s, 58 s left, 4 of 23 collections,\n"
                 "           2 of 31 indexes\n"
                 "           shop.orders                                        42% of 5.0 GB\n"
                 "           shop.注文                                          99% of 2.0 GB\n"
                 "           shop.ab\\x1b[31m and a name that is long, far lo…   25% of 90.0 MB\n"
                 "changes    lag not known yet, 4,321 seen, 17 waiting, 1,200 dirty keys,\n"
                 "           oplog headroom 23 h 53 min\n"
                 "retries    3\n"
                 "next       wait until the job is in sync\n");
    expect_block(in_sync, NULL, 80,
                 "phase      in-sync, job shop, 2 h 5 min,\n"
                 "           old.example:27017 -> new.example:27017\n"
                 "copied     9.0 GB, 12,345,678 documents, 23 of 23 collections,\n"
                 "           31 of 31 indexes\n"
                 "changes    lag 12 ms, 4,321 seen, oplog headroom 30 min, window 4 d 23 h\n"
                 "verified   both sides were found equal\n"
                 "cutover    possible\n"
                 "           last called off at 21:34 UTC, 139 writes after the confirmation\n"
                 "next       stop the writes to the source, then: towline cutover --wait\n");
    expect_block(silent, NULL, 80,
                 "phase      in-sync, job shop, 2 h 5 min\n"
                 "source     has not answered for 40 s\n"
                 "copied     900 B, 9 documents, 1 of 1 collections, 1 of 1 indexes\n"
                 "changes    lag 42 s, 1 seen\n"
                 "not yet    the source has not answered for 40 s\n"
                 "retries    7, getMore on the source: connection closed, by a server whose name\n"
                 "           is very long\n"
                 "next       see why that side does not answer; the job goes on by itself when\n"
                 "           it does\n");
}

static void at_200_columns(void **state)
{
    expect_block(copying, collections, 200,
                 "phase      copying, job shop, 75 s, old.example:27017 -> new.example:27017\n"
                 "copied     [##########..............] 42%, 3.8 GB of 9.0 GB, 12,345,678 "
                 "documents, 90.0 MB/s, 58 s left, 4 of 23 collections, 2 of 31 indexes\n"
                 "           shop.orders                                        42% of 5.0 GB\n"
                 "           shop.注文                                          99% of 2.0 GB\n"
                 "           shop.ab\\x1b[31m and a name that is long, far lo…   25% of 90.0 MB\n"
                 "changes    lag not known yet, 4,321 seen, 17 waiting, 1,200 dirty keys, oplog "
                 "headroom 23 h 53 min\n"
                 "retries    3\n"
                 "next       wait until the job is in sync\n");
    expect_block(in_sync, NULL, 200,
                 "phase      in-sync, job shop, 2 h 5 min, old.example:27017 -> new.example:27017\n"
                 "copied     9.0 GB, 12,345,678 documents, 23 of 23 collections, 31 of 31 indexes\n"
                 "changes    lag 12 ms, 4,321 seen, oplog headroom 30 min, window 4 d 23 h\n"
                 "verified   both sides were found equal\n"
                 "cutover    possible\n"
                 "           last called off at 21:34 UTC, 139 writes after the confirmation\n"
                 "next       stop the writes to the source, then: towline cutover --wait\n");
    expect_block(
        silent, NULL, 200,
        "phase      in-sync, job shop, 2 h 5 min\n"
        "source     has not answered for 40 s\n"
        "copied     900 B, 9 documents, 1 of 1 collections, 1 of 1 indexes\n"
        "changes    lag 42 s, 1 seen\n"
        "not yet    the source has not answered for 40 s\n"
        "retries    7, getMore on the source: connection closed, by a server whose name is very "
        "long\n"
        "next       see why that side does not answer; the job goes on by itself when it does\n");
}

static void in_one_line(void **state)
{
    expect_block(
        copying, collections, 0,
        "copying, job shop; [##########..............] 42%, 3.8 GB of 9.0 GB, 12,345,678 "
        "documents, 90.0 MB/s, 58 s left, 4 of 23 collections, 2 of 31 indexes; lag not known yet, "
        "4,321 seen, 17 waiting, 1,200 dirty keys, oplog headroom 23 h 53 min; 3 retries");
    expect_block(in_sync, NULL, 0,
                 "in-sync, job shop; 9.0 GB, 12,345,678 documents, 23 of 23 collections, 31 of 31 "
                 "indexes; lag 12 ms, 4,321 seen, oplog headroom 30 min, window 4 d 23 h; both "
                 "sides were found equal; cutover possible");
    expect_block(silent, NULL, 0,
                 "in-sync, job shop; source has not answered for 40 s; 900 B, 9 documents, 1 of 1 "
                 "collections, 1 of 1 indexes; lag 42 s, 1 seen; 7 retries, getMore on the source: "
                 "connection closed, by a server whose name is very long");
}

/* Of every width and height: what a terminal would break, or cut within a character. */
static void a_block_fits_the_terminal(void **state)
{
    static const char *const all[] = {copying, in_sync, silent};

    for (size_t i = 0; i < 3; i++)
        for (size_t columns = 16; columns < 210; columns++)
            for (size_t rows = 1; rows < 20; rows += 3) {
                char *block = shown(all[i], collections, columns, rows, columns % 2), *end;
                size_t lines = 0;

                for (char *line = block; *line; line = end + 1, lines++) {
                    end = strchr(line, '\n');
                    assert_non_null(end);
                    assert_true(cmd_cells(line, (size_t)(end - line)) < columns);
                    assert_true(bson_utf8_validate(line, (size_t)(end - line), false));
                    *end = '\0';
                    for (char *at = line; (at = strstr(at, "\\x")); at++)
                        assert_int_equal(strspn(at + 2, "0123456789abcdef"), 2);
                    if (strchr(line, '\033')) /* a colour ends with its line */
                        assert_non_null(strstr(strrchr(line, '\033'), "\033[0m"));
                }
                assert_in_range(lines, 1, rows > 2 ? rows - 1 : 1);
                free(block);
            }
}

static void lines_are_cut_between_characters(void **state)
{
    static const struct {
        const char *line;
        size_t cells;
        const char *fitted;
    } cases[] = {{"abc", 3, "abc"},
                 {"abcd", 3, "ab…"},
                 {"ab\\x1bcd", 7, "ab\\x1b…"},
                 {"ab\\x1bcd", 6, "ab…"},
                 {"ä注文", 5, "ä注文"},
                 {"ä注文", 4, "ä注…"},
                 {"ä注文", 3, "ä…"},
                 {"e\xcc\x81x", 2, "e\xcc\x81x"},
                 {"e\xcc\x81xy", 2, "e\xcc\x81…"},
                 {CMD_RED "ab" CMD_PLAIN "c", 3, "abc"}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tow_buffer_t out = {0};

        cmd_fit(&out, cases[i].line, cases[i].cells, false);
        tow_buffer_append(&out, "", 1);
        assert_string_equal((char *)out.data, cases[i].fitted);
        tow_buffer_free(&out);
    }
}

static void colours_end_with_what_they_are_for(void **state)
{
    tow_buffer_t out = {0};

    cmd_fit(&out, CMD_RED "abcd" CMD_PLAIN "e", 3, true);
    tow_buffer_append(&out, "", 1);
    assert_string_equal((char *)out.data, "\033[31mab\033[0m…");
    assert_int_equal(cmd_cells((char *)out.data, out.length), 3);
    tow_buffer_free(&out);
}

static void the_rate_is_smooth(void **state)
{
    static const struct {
        double seconds, bytes, rate;
    } steps[] = {{1, 100, 100}, {1.2, 900, 100}, {2, 300, 130}, {3, 300, 91}, {4, 100, 91}};
    cmd_rate_t rate = {0};

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        char *json = tow_format("{\"progress\":{\"elapsedSeconds\":%f,\"collectionCopy\":{"
                                "\"estimatedCopiedBytes\":%f}}}",
                                steps[i].seconds, steps[i].bytes);
        bson_t *document = cmd_document(json);

        cmd_rate_update(&rate, document);
        assert_int_equal((int)(rate.rate + 0.5), (int)steps[i].rate);
        bson_destroy(document);
        free(json);
    }
}

/* The pace falls towards nothing, and the time that is left grows beyond all numbers. */
static void a_copy_that_stands_still_has_no_time_left(void **state)
{
    static const double paces[] = {50e6, 1, 1e-9, 0};

    for (size_t i = 0; i < sizeof paces / sizeof *paces; i++) {
        bson_t *document = cmd_document(copying);
        cmd_view_t view = {.progress = document, .bytes_per_second = paces[i]};
        char *line = cmd_view_line(&view);

        assert_true(!strstr(line, " left") == (i > 0));
        free(line);
        bson_destroy(document);
    }
}

static void a_moment_of_today_has_no_day(void **state)
{
    char text[64];

    assert_string_equal(cmd_moment("2026-11-26T21:34:21Z", "2026-11-26T23:00:00Z", text),
                        "21:34 UTC");
    assert_string_equal(cmd_moment("2026-11-26T21:34:21Z", "2026-11-27T00:01:00Z", text),
                        "2026-11-26 21:34 UTC");
    assert_string_equal(cmd_moment("yesterday", "2026-11-27T00:01:00Z", text), "yesterday");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_45_columns),
        cmocka_unit_test(at_80_columns),
        cmocka_unit_test(at_200_columns),
        cmocka_unit_test(in_one_line),
        cmocka_unit_test(a_block_fits_the_terminal),
        cmocka_unit_test(lines_are_cut_between_characters),
        cmocka_unit_test(colours_end_with_what_they_are_for),
        cmocka_unit_test(the_rate_is_smooth),
        cmocka_unit_test(a_copy_that_stands_still_has_no_time_left),
        cmocka_unit_test(a_moment_of_today_has_no_day),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
