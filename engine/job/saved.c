/* SPDX-License-Identifier: Apache-2.0 */
/* saved.c: see saved.h.
 *
 * The file is a sequence of BSON documents: one with the settings, the positions of both streams
 * and the number of ranges, then the ranges (verify/entry.h). It is written beside its place and
 * renamed. */
#include "engine/job/saved.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/thread.h"
#include "engine/link/identity.h"
#include "engine/link/reply.h"
#include "oplog/watch.h"
#include "verify/entry.h"

enum {
    FORMAT = 1,
    SAVE_MS = 250,
    SAVE_FACTOR = 10,        /* saving takes at most this part of the time */
    CATCH_UP_MS = 10 * 60000 /* for what was written while nobody compared */
};

struct tow_saved {
    tow_saved_options_t options;
    bson_t settings;
    int64_t began_ms; /* of the first process, wall time */
    tow_track_t *track;
    tow_watch_t *watches[2]; /* of source and destination */
    tow_stop_t *end;         /* of the thread */
    tow_thread_t thread;
    bool warned; /* that it could not be saved; the thread's own */
};

/* What the file held. */
typedef struct {
    bson_t header;
    bool found;
    tow_track_changes_t ranges;
    uint64_t seed;
} stored_t;

/* Writing ---------------------------------------------------------------------------------------*/

static void build_header(const tow_saved_t *saved, const bson_t tokens[2], uint32_t ranges,
                         bson_t *out)
{
    bson_init(out);
    bson_append_int32(out, "towlineVerify", -1, FORMAT);
    bson_append_document(out, "settings", -1, &saved->settings);
    bson_append_date_time(out, "began", -1, saved->began_ms);
    bson_append_document(out, "source", -1, &tokens[0]);
    bson_append_document(out, "destination", -1, &tokens[1]);
    bson_append_int64(out, "ranges", -1, ranges);
}

static void write_document(tow_draft_t *draft, const bson_t *document)
{
    tow_draft_write(draft, bson_get_data(document), document->len);
}

static bool write_file(const tow_saved_t *saved, const bson_t *header,
                       const tow_track_changes_t *ranges, tow_error_t *error)
{
    const char *path = saved->options.path;
    tow_draft_t draft;

    tow_draft_open(&draft, path);
    write_document(&draft, header);
    for (uint32_t i = 0; !draft.error && i < ranges->added_count; i++) {
        bson_t document;

        tow_track_entry_to_bson(&ranges->added[i], saved->options.mode,
                                tow_track_seed(saved->track), &document);
        write_document(&draft, &document);
        bson_destroy(&document);
    }
    return tow_draft_finish(&draft)
               ? true
               : tow_fail_errno(error, TOW_ERROR_OPTION, "--state: cannot write '%s'", path);
}

/* The tokens are older than the ranges: what was told since will be told again. */
static bool save(tow_saved_t *saved, tow_error_t *error)
{
    tow_track_changes_t ranges;
    bson_t tokens[2], header;
    bool ok;

    for (int side = 0; side < 2; side++)
        tow_watch_token(saved->watches[side], &tokens[side]);
    tow_track_unsaved(saved->track);
    tow_track_changes(saved->track, &ranges);
    build_header(saved, tokens, ranges.added_count, &header);
    ok = write_file(saved, &header, &ranges, error);
    if (!ok)
        tow_track_unsaved(saved->track);
    bson_destroy(&header);
    tow_track_changes_clear(&ranges);
    for (int side = 0; side < 2; side++)
        bson_destroy(&tokens[side]);
    return ok;
}

static bool has_changed(tow_saved_t *saved)
{
    tow_track_changes_t changes;
    bool changed;

    tow_track_changes(saved->track, &changes);
    changed = changes.all || changes.removed_count || changes.added_count;
    tow_track_changes_clear(&changes);
    return changed;
}

static void *save_again(void *data)
{
    tow_saved_t *saved = data;
    int64_t wait_ms = SAVE_MS, began_ms;
    tow_error_t error;

    while (!tow_stop_wait(saved->end, wait_ms)) {
        began_ms = tow_now_ms();
        if (has_changed(saved) && !save(saved, &error) && !saved->warned) {
            saved->warned = true;
            tow_emit(&saved->options.sink, TOW_LEVEL_WARNING, "state_unwritten",
                     "after a crash the comparison could not go on from here: %s", error.message);
        }
        wait_ms = (tow_now_ms() - began_ms) * SAVE_FACTOR;
        if (wait_ms < SAVE_MS)
            wait_ms = SAVE_MS;
    }
    return NULL;
}

/* Reading ---------------------------------------------------------------------------------------*/

static bool sub_document(const bson_t *document, const char *name, bson_t *out)
{
    bson_iter_t iter;
    const uint8_t *data;
    uint32_t length;

    if (!bson_iter_init_find(&iter, document, name) || !BSON_ITER_HOLDS_DOCUMENT(&iter))
        return false;
    bson_iter_document(&iter, &length, &data);
    return bson_init_static(out, data, length);
}

/* False: the file is not as we wrote it. */
static bool read_documents(bson_reader_t *reader, stored_t *out)
{
    const bson_t *document = bson_reader_read(reader, NULL);
    tow_verify_mode_t mode;
    tow_track_entry_t entry;
    bson_iter_t iter;
    int64_t ranges;
    uint64_t seed;
    bool at_end = false;

    if (!document || !bson_iter_init_find(&iter, document, "towlineVerify") ||
        bson_iter_as_int64(&iter) != FORMAT || !bson_iter_init_find(&iter, document, "ranges"))
        return false;
    ranges = bson_iter_as_int64(&iter);
    bson_destroy(&out->header);
    bson_copy_to(document, &out->header);
    while ((document = bson_reader_read(reader, &at_end))) {
        if (!tow_track_entry_from_bson(document, &entry, &mode, &seed))
            return false;
        if (!out->ranges.added_count)
            out->seed = seed;
        tow_track_changes_add(&out->ranges, &entry);
        if (seed != out->seed)
            return false;
    }
    return at_end && ranges == out->ranges.added_count;
}

static bool read_file(const char *path, stored_t *out, tow_error_t *error)
{
    int file = tow_file_open(path, O_RDONLY);
    bson_reader_t *reader;
    bool ok;

    if (file < 0 && errno == ENOENT)
        return true;
    if (file < 0)
        return tow_fail_errno(error, TOW_ERROR_OPTION,
                              "--state: cannot read '%s', or it is no file of this user's own",
                              path);
    reader = bson_reader_new_from_fd(file, true);
    ok = read_documents(reader, out);
    bson_reader_destroy(reader);
    out->found = ok;
    return ok ? true
              : tow_fail(error, TOW_ERROR_OPTION,
                         "--state: %s is not what a comparison keeps, or was damaged; remove it, "
                         "or give "
                         "another file",
                         path);
}

static void build_settings(tow_saved_t *saved)
{
    const tow_saved_options_t *options = &saved->options;
    char *filter = tow_filter_text(options->filter);

    bson_init(&saved->settings);
    bson_append_utf8(&saved->settings, "source", -1, tow_link_facts(options->source)->identity, -1);
    bson_append_utf8(&saved->settings, "destination", -1,
                     tow_link_facts(options->destination)->identity, -1);
    bson_append_utf8(&saved->settings, "filter", -1, filter, -1);
    bson_append_int32(&saved->settings, "verify-mode", -1, (int32_t)options->mode);
    free(filter);
}

static bool is_same_setting(const bson_iter_t *ours, const bson_iter_t *theirs)
{
    const char *name = bson_iter_key(ours), *now, *before;

    if ((!strcmp(name, "source") || !strcmp(name, "destination")) && tow_iter_text(ours, &now) &&
        tow_iter_text(theirs, &before))
        return tow_identity_compare(before, now) == TOW_IDENTITY_SAME;
    return tow_value_compare(tow_value_of(ours), tow_value_of(theirs)) == 0;
}

/* The first setting that is another one, borrowed; NULL: all are the same. */
static const char *differing_setting(const tow_saved_t *saved, const bson_t *stored)
{
    bson_iter_t ours, theirs;

    bson_iter_init(&ours, &saved->settings);
    while (bson_iter_next(&ours))
        if (!bson_iter_init_find(&theirs, stored, bson_iter_key(&ours)) ||
            !is_same_setting(&ours, &theirs))
            return bson_iter_key(&ours);
    return NULL;
}

static bool check_settings(const tow_saved_t *saved, const stored_t *stored, tow_error_t *error)
{
    const char *name = "set of options";
    bson_t settings;

    if (!stored->found)
        return true;
    if (sub_document(&stored->header, "settings", &settings))
        name = differing_setting(saved, &settings);
    return !name ? true
                 : tow_fail(
                       error, TOW_ERROR_SETTINGS,
                       "--state: %s is of a comparison with another %s; give the options of that "
                       "one, another file, or remove it to start over",
                       saved->options.path, name);
}

/* Listening -------------------------------------------------------------------------------------*/

static void source_written(void *data, const char *database, const char *collection, tow_value_t id)
{
    tow_track_touch(((tow_saved_t *)data)->track, database, collection, id, TOW_TRACK_SOURCE);
}

static void destination_written(void *data, const char *database, const char *collection,
                                tow_value_t id)
{
    tow_track_touch(((tow_saved_t *)data)->track, database, collection, id, TOW_TRACK_DESTINATION);
}

static void gone(void *data, const char *database, const char *collection)
{
    tow_track_gone(((tow_saved_t *)data)->track, database, collection);
}

static void start_over(tow_saved_t *saved, const char *why)
{
    tow_track_reset(saved->track);
    tow_emit(&saved->options.sink, TOW_LEVEL_INFO, "verify_reset",
             "everything is compared again, for nobody knows what was written meanwhile: %s", why);
}

static void gap(void *data, const char *why)
{
    start_over(data, why);
}

static bool listen_to(tow_saved_t *saved, const stored_t *stored, int side, tow_error_t *error)
{
    tow_watch_options_t options = {.link =
                                       side ? saved->options.destination : saved->options.source,
                                   .filter = saved->options.filter,
                                   .stop = saved->options.stop,
                                   .data = saved,
                                   .key = side ? destination_written : source_written,
                                   .gone = gone,
                                   .gap = gap};
    bson_t token;
    bool known = stored->found &&
                 sub_document(&stored->header, side ? "destination" : "source", &token) &&
                 !bson_empty(&token);

    if (stored->ranges.added_count && !known)
        start_over(saved, "the file holds no position");
    saved->watches[side] = tow_watch_new(&options, known ? &token : NULL, error);
    if (saved->watches[side])
        return true;
    error->code = TOW_ERROR_UNSUITABLE;
    return tow_fail_context(error,
                            "--state needs a change stream of the %s, to hear what is written "
                            "meanwhile",
                            side ? "destination" : "source");
}

static void restore(tow_saved_t *saved, stored_t *stored)
{
    bson_iter_t iter;

    if (!stored->found)
        return;
    if (bson_iter_init_find(&iter, &stored->header, "began"))
        tow_iter_wall_ms(&iter, &saved->began_ms);
    if (stored->ranges.added_count)
        tow_track_restore(saved->track, stored->seed, stored->ranges.added,
                          stored->ranges.added_count);
}

/* All that was written since is known before anything counts as compared. */
static void catch_up(tow_saved_t *saved, const stored_t *stored)
{
    int64_t until_ms = tow_now_ms() + CATCH_UP_MS;
    tow_track_totals_t totals;
    char began[32];

    if (!stored->found)
        return;
    for (int side = 0; side < 2; side++)
        if (!tow_watch_wait(saved->watches[side], until_ms - tow_now_ms())) {
            start_over(saved, "there was too much of it");
            return;
        }
    tow_track_totals(saved->track, &totals);
    if (totals.ranges == totals.open)
        return;
    tow_wall_text(saved->began_ms, began);
    tow_emit(
        &saved->options.sink, TOW_LEVEL_INFO, "verify_resumed",
        "the comparison that began at %s goes on: %llu ranges need no second reading, but for %llu "
        "documents that were written since",
        began, (unsigned long long)(totals.ranges - totals.open), (unsigned long long)totals.keys);
}

/* The whole -------------------------------------------------------------------------------------*/

static bool begin(tow_saved_t *saved, stored_t *stored, tow_error_t *error)
{
    if (!read_file(saved->options.path, stored, error) || !check_settings(saved, stored, error))
        return false;
    restore(saved, stored);
    if (!listen_to(saved, stored, 0, error) || !listen_to(saved, stored, 1, error))
        return false;
    catch_up(saved, stored);
    if (!save(saved, error))
        return false;
    return tow_thread_start(&saved->thread, "save", save_again, saved, error);
}

tow_saved_t *tow_saved_open(const tow_saved_options_t *options, tow_error_t *error)
{
    tow_saved_t *saved = tow_alloc(sizeof *saved);
    stored_t stored = {.header = BSON_INITIALIZER};
    bool ok;

    saved->options = *options;
    saved->began_ms = tow_wall_ms();
    saved->track = tow_track_new();
    saved->end = tow_stop_new();
    build_settings(saved);
    ok = begin(saved, &stored, error);
    tow_track_changes_clear(&stored.ranges);
    bson_destroy(&stored.header);
    if (ok)
        return saved;
    tow_saved_close(saved, false);
    return NULL;
}

tow_track_t *tow_saved_track(tow_saved_t *saved)
{
    return saved->track;
}

void tow_saved_close(tow_saved_t *saved, bool finished)
{
    tow_error_t ignored;

    if (!saved)
        return;
    tow_stop_request(saved->end, NULL);
    if (saved->thread.started) {
        tow_thread_join(&saved->thread);
        if (finished)
            unlink(saved->options.path);
        else if (has_changed(saved))
            save(saved, &ignored);
    }
    for (int side = 0; side < 2; side++)
        tow_watch_destroy(saved->watches[side]);
    tow_track_destroy(saved->track);
    tow_stop_destroy(saved->end);
    bson_destroy(&saved->settings);
    free(saved);
}
