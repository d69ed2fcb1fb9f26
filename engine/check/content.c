/* SPDX-License-Identifier: Apache-2.0 */
/* content.c: the checks of what is to be copied, and of what is in its way. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/check/checks.h"
#include "engine/state/others.h"

enum { NAMED = 8, NAMES_SIZE = 900, INDEXES_MOST = 64, SURVEY_MS = 20000 };

/* "a.b, c.d, …" of what was added, and how many. */
typedef struct {
    char text[NAMES_SIZE];
    size_t used, count;
} names_t;

static void add_name(names_t *names, const char *ns)
{
    names->count++;
    if (names->count > NAMED + 1 || names->used + 8 > sizeof names->text)
        return;
    names->used +=
        (size_t)snprintf(names->text + names->used, sizeof names->text - names->used, "%s%s",
                         names->used ? ", " : "", names->count > NAMED ? "…" : ns);
    if (names->used > sizeof names->text)
        names->used = sizeof names->text;
}

void tow_survey_source(tow_check_run_t *run)
{
    tow_error_t error;

    if (!run->source || (run->starting && run->viewed && run->view.exists))
        return;
    run->out->surveyed = tow_survey_read(run->source, run->sides->filter, run->config->range_bytes,
                                         SURVEY_MS, run->sides->stop, &run->out->survey, &error);
    if (!run->out->surveyed)
        tow_find_error(run->findings, "source_catalog", &error);
    else
        tow_find_pass(run->findings, "source_catalog", "%zu collection%s and %zu view%s to copy",
                      run->out->survey.collections, run->out->survey.collections == 1 ? "" : "s",
                      run->out->survey.views, run->out->survey.views == 1 ? "" : "s");
}

void tow_check_supported(tow_check_run_t *run)
{
    names_t names = {0};

    if (tow_skip_without_survey(run, "unsupported"))
        return;
    for (size_t i = 0; i < run->out->survey.count; i++)
        if (!tow_kind_is_supported(run->out->survey.items[i].info->type))
            add_name(&names, run->out->survey.items[i].info->ns);
    if (names.count)
        tow_find_failure(
            run->findings, "unsupported", TOW_ERROR_UNSUITABLE,
            tow_format("leave %s out with --exclude", names.count == 1 ? "it" : "them"),
            "%zu collection%s that %s no change stream (time series, or of a kind that this "
            "version does not "
            "know) and cannot be followed: %s",
            names.count, names.count == 1 ? "" : "s", names.count == 1 ? "has" : "have",
            names.text);
    else
        tow_find_pass(run->findings, "unsupported", "every collection can be copied");
}

/* Databases that belong to the servers: users come with the next cluster's own, local is one
 * member's. False: a finding was made. */
static bool look_for_strays(tow_check_run_t *run)
{
    tow_names_t strays;
    tow_error_t error;
    names_t names = {0};

    if (!tow_catalog_strays(run->source, &strays, &error)) {
        tow_find_error(run->findings, "left_out", &error);
        return false;
    }
    for (size_t i = 0; i < strays.count; i++)
        add_name(&names, strays.names[i]);
    tow_names_clear(&strays);
    if (names.count)
        tow_find_warning(run->findings, "left_out",
                         tow_format("move %s to another database, or copy %s by hand",
                                    names.count == 1 ? "it" : "them",
                                    names.count == 1 ? "it" : "them"),
                         "%zu collection%s of the source %s in a database that belongs to the "
                         "server, and %s not copied: %s",
                         names.count, names.count == 1 ? "" : "s", names.count == 1 ? "is" : "are",
                         names.count == 1 ? "is" : "are", names.text);
    return !names.count;
}

/* What the source has and the job leaves out without being asked to: only what is named like its
 * own state. */
void tow_check_left_out(tow_check_run_t *run)
{
    const tow_catalog_t *catalog = &run->out->survey.catalog;
    names_t names = {0};

    if (tow_skip_without_survey(run, "left_out"))
        return;
    for (size_t i = 0; i < catalog->count; i++)
        if (tow_filter_is_own(run->sides->filter, catalog->items[i].database))
            add_name(&names, catalog->items[i].ns);
    if (names.count)
        tow_find_warning(run->findings, "left_out",
                         tow_format("give another --job if %s to be copied",
                                    names.count == 1 ? "it is" : "they are"),
                         "%zu collection%s of the source %s in the database towline_%s, which is "
                         "this job's own on "
                         "the destination, and %s not copied: %s",
                         names.count, names.count == 1 ? "" : "s", names.count == 1 ? "is" : "are",
                         run->config->name, names.count == 1 ? "is" : "are", names.text);
    else if (look_for_strays(run))
        tow_find_pass(run->findings, "left_out",
                      "nothing but the server's own databases and what the filter says");
}

/* Whether anything of the source fits one --include. */
static bool matches(const tow_check_run_t *run, const char *pattern)
{
    tow_filter_t *filter = tow_filter_new();
    tow_error_t error;
    bool found = false;

    if (tow_filter_include(filter, pattern, &error))
        for (size_t i = 0; i < run->out->survey.catalog.count && !found; i++)
            found = tow_filter_takes(filter, run->out->survey.catalog.items[i].database,
                                     run->out->survey.catalog.items[i].name);
    tow_filter_destroy(filter);
    return found;
}

void tow_check_filter(tow_check_run_t *run)
{
    const char *pattern;
    names_t names = {0};
    size_t data = 0;

    if (tow_skip_without_survey(run, "filter"))
        return;
    for (size_t i = 0; i < run->out->survey.catalog.count; i++)
        data += !tow_filter_is_own(run->sides->filter, run->out->survey.catalog.items[i].database);
    for (size_t i = 0; (pattern = tow_filter_included(run->sides->filter, i)); i++)
        if (!matches(run, pattern))
            add_name(&names, pattern);
    if (!run->out->survey.count && data)
        tow_find_failure(run->findings, "filter", TOW_ERROR_OPTION,
                         tow_format("check the spelling of --include and --exclude; names are "
                                    "case-sensitive"),
                         "the filter takes none of the source's %zu collections", data);
    else if (names.count)
        tow_find_warning(run->findings, "filter",
                         tow_format("check the spelling; names are case-sensitive"),
                         "nothing of the source matches --include %s%s", names.text,
                         data ? "" : ": it has no collection yet");
    else if (!run->out->survey.count)
        tow_find_warning(run->findings, "filter",
                         tow_format("make sure that this is the right deployment"),
                         "the source has no collection to copy");
    else
        tow_find_pass(run->findings, "filter",
                      "takes %zu of the source's %zu collections and views", run->out->survey.count,
                      data);
}

void tow_check_indexes(tow_check_run_t *run)
{
    names_t names = {0};
    uint32_t most = 0;

    if (tow_skip_without_survey(run, "indexes"))
        return;
    for (size_t i = 0; i < run->out->survey.count; i++) {
        if (run->out->survey.items[i].indexes > most)
            most = run->out->survey.items[i].indexes;
        if (run->out->survey.items[i].indexes > INDEXES_MOST)
            add_name(&names, run->out->survey.items[i].info->ns);
    }
    if (names.count && run->config->index_errors_fail)
        tow_find_failure(run->findings, "indexes", TOW_ERROR_UNSUITABLE,
                         tow_format("drop what is not needed, or give --index-errors report to "
                                    "copy without those that the destination refuses"),
                         "more than %d indexes, which a server refuses: %s", INDEXES_MOST,
                         names.text);
    else if (names.count)
        tow_find_warning(run->findings, "indexes",
                         tow_format("those that the destination refuses are reported at the end"),
                         "more than %d indexes: %s", INDEXES_MOST, names.text);
    else if (run->out->survey.measured < run->out->survey.collections)
        tow_find_warning(
            run->findings, "indexes", NULL,
            "at most %u on one collection; only %zu of %zu collections were looked at, "
            "for want of time",
            most, run->out->survey.measured, run->out->survey.collections);
    else
        tow_find_pass(run->findings, "indexes", "%u in all, at most %u on one collection",
                      run->out->survey.indexes, most);
}

static bool has_database(const tow_catalog_t *catalog, const char *database)
{
    for (size_t i = 0; i < catalog->count; i++)
        if (!strcmp(catalog->items[i].database, database))
            return true;
    return false;
}

/* What is in the way of a new job on the destination. */
typedef struct {
    names_t names, states; /* namespaces that it would write; states of jobs */
    names_t claimed;       /* namespaces that belong to another job */
    char claiming[128];    /* the state of the first of those jobs */
} conflicts_t;

static void add_conflict(const tow_check_run_t *run, const tow_others_t *others,
                         const tow_collection_info_t *info, bool state, conflicts_t *out)
{
    const char *other = tow_others_hold(others, info->ns);

    if (state && !strcmp(info->name, "job") &&
        has_database(&run->out->survey.catalog, info->database))
        add_name(&out->states, info->database);
    if (state)
        return;
    add_name(other ? &out->claimed : &out->names, info->ns);
    if (other && !out->claiming[0])
        snprintf(out->claiming, sizeof out->claiming, "%s", other);
}

/* The destination's namespaces that a new job would write. */
static bool find_conflicts(tow_check_run_t *run, const tow_catalog_t *there, conflicts_t *out,
                           tow_error_t *error)
{
    char *own = tow_format("towline_%s", run->config->name);
    tow_others_t *others = tow_others_read(run->destination, there, own, error);
    const char *last = "";
    bool state = false, ok = others != NULL;

    for (size_t i = 0; ok && i < there->count; i++) {
        const tow_collection_info_t *info = &there->items[i];

        if (!tow_filter_takes(run->sides->filter, info->database, info->name))
            continue;
        if (strcmp(info->database, last) != 0)
            ok = tow_is_job_state(run->destination, info->database, &state, error);
        last = info->database;
        if (ok)
            add_conflict(run, others, info, state, out);
    }
    tow_others_destroy(others);
    free(own);
    return ok;
}

static bool differs_by_case(const tow_check_run_t *run, const char *database)
{
    for (size_t i = 0; i < run->out->survey.count; i++) {
        const char *ours = run->out->survey.items[i].info->database;

        if (!strcasecmp(ours, database) && strcmp(ours, database) != 0)
            return true;
    }
    return false;
}

/* Databases of the destination that the job has no business with, though servers refuse one of the
 * source's beside them. */
static void find_other_case(const tow_check_run_t *run, const tow_catalog_t *there, names_t *out)
{
    const char *last = "";

    for (size_t i = 0; i < there->count; i++) {
        const tow_collection_info_t *info = &there->items[i];

        if (!strcmp(info->database, last) ||
            tow_filter_takes(run->sides->filter, info->database, info->name))
            continue;
        last = info->database;
        if (differs_by_case(run, last))
            add_name(out, last);
    }
}

static void fail_other_case(tow_check_run_t *run, const names_t *names)
{
    tow_find_failure(
        run->findings, "destination_empty", TOW_ERROR_CONFLICT,
        tow_format("drop %s, or exclude the source's with --exclude",
                   names->count == 1 ? "it" : "them"),
        "servers refuse databases whose names differ by case only, and the destination has %s",
        names->text);
}

/* Another job's state is neither dropped nor written over, whatever was asked for. */
static void fail_states(tow_check_run_t *run, const names_t *states)
{
    tow_find_failure(
        run->findings, "destination_empty", TOW_ERROR_CONFLICT,
        tow_format("exclude %s with --exclude, or end that job first",
                   states->count == 1 ? "it" : "them"),
        "the source has a database with the name of another job's state on the destination: %s",
        states->text);
}

/* Nor is what a job copied that may go on writing there. */
static void fail_claimed(tow_check_run_t *run, const conflicts_t *conflicts)
{
    const char *it = conflicts->claimed.count == 1 ? "it" : "them";

    tow_find_failure(
        run->findings, "destination_empty", TOW_ERROR_CONFLICT,
        tow_format("exclude %s with --exclude, or stop or cancel that job first (one that was "
                   "killed and will never go on: remove its state there with "
                   "db.getSiblingDB(\"%s\").dropDatabase())",
                   it, conflicts->claiming),
        "%zu namespace%s of the destination that this job would write belong%s to another job, "
        "whose state is %s and whose lease was not given back; --clear-destination does not drop "
        "%s: %s",
        conflicts->claimed.count, conflicts->claimed.count == 1 ? "" : "s",
        conflicts->claimed.count == 1 ? "s" : "", conflicts->claiming, it, conflicts->claimed.text);
}

static void judge_names(tow_check_run_t *run, const names_t *names)
{
    const char *one = names->count == 1 ? "" : "s", *it = names->count == 1 ? "it" : "them";

    if (!names->count)
        tow_find_pass(run->findings, "destination_empty", "nothing is in the way");
    else if (run->config->clear_destination)
        tow_find_warning(run->findings, "destination_empty", NULL,
                         "%zu namespace%s of the destination will be dropped: %s", names->count,
                         one, names->text);
    else
        tow_find_failure(
            run->findings, "destination_empty", TOW_ERROR_CONFLICT,
            tow_format("drop %s, exclude %s with --exclude, or let "
                       "--clear-destination drop exactly those",
                       it, it),
            "the destination already has %zu namespace%s that this job would write: %s",
            names->count, one, names->text);
}

void tow_check_conflicts(tow_check_run_t *run)
{
    conflicts_t conflicts = {0};
    names_t other_case = {0};
    tow_catalog_t there;
    tow_error_t error;
    bool known;

    if (run->viewed && run->view.exists) {
        tow_find_pass(run->findings, "destination_empty",
                      "the job was begun: what it copied stays");
        return;
    }
    if (tow_skip_without(run, "destination_empty", false, true))
        return;
    known = tow_catalog_read(run->destination, NULL, &there, &error) &&
            find_conflicts(run, &there, &conflicts, &error);
    if (!known) {
        tow_catalog_clear(&there);
        tow_find_error(run->findings, "destination_empty", &error);
        return;
    }
    if (conflicts.names.count && tow_check_begun_since(run)) {
        tow_catalog_clear(&there);
        tow_find_pass(run->findings, "destination_empty",
                      "the job was begun during this check: what it copied stays");
        return;
    }
    run->out->in_the_way = there;
    find_other_case(run, &there, &other_case);
    if (conflicts.states.count)
        fail_states(run, &conflicts.states);
    else if (other_case.count)
        fail_other_case(run, &other_case);
    else if (conflicts.claimed.count)
        fail_claimed(run, &conflicts);
    else
        judge_names(run, &conflicts.names);
}
