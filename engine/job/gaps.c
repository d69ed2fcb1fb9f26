/* SPDX-License-Identifier: Apache-2.0 */
/* gaps.c: the last look at both catalogs before a cutover changes anything: what no event explains
 * is asked about instead of being dropped, copied or left out in silence. */
#include <stdlib.h>
#include <string.h>

#include "engine/job/internal.h"

enum { NAMED = 8 };

/* "a.b, c.d, …" */
static char *join(const tow_names_t *names)
{
    tow_buffer_t text = {0};

    for (size_t i = 0; i < names->count && i <= NAMED; i++) {
        const char *name = i < NAMED ? names->names[i] : "…";

        if (i)
            tow_buffer_append(&text, ", ", 2);
        tow_buffer_append(&text, name, strlen(name));
    }
    tow_buffer_append(&text, "", 1);
    return (char *)text.data;
}

/* What was dropped since the last drain has an event on its way: once that is settled, the job no
 * longer knows the collection. */
static bool read_settled(tow_job_t *job, tow_gaps_t *out, tow_error_t *error)
{
    tow_optime_t now;

    if (!tow_copy_gaps(job->flow.copy, out, error))
        return false;
    if (!out->lost.count)
        return true;
    tow_gaps_clear(out);
    if (!tow_job_source_time(job, &now, error))
        return false;
    if (!tow_job_wait_settled(job, now, tow_job_interrupted))
        return tow_job_stopped(job, error);
    return tow_copy_gaps(job->flow.copy, out, error);
}

/* Asks for the first of them by name: what a list leaves out may still be there, or the user may no
 * longer ask. */
static bool ask_for(tow_job_t *job, const char *ns, char *out, size_t size, tow_error_t *error)
{
    tow_conn_t *source = tow_conn_open(job->sides.source);
    char *database = tow_strdup(ns), *dot = strchr(database, '.');
    tow_collection_info_t info;
    bool found = false, ok;

    *dot = '\0';
    ok = source && tow_catalog_find(source, database, dot + 1, &info, &found, error);
    if (ok)
        snprintf(out, size, "%s",
                 found ? "it is still there when asked for by name"
                       : "it is not there when asked for by name");
    else
        snprintf(out, size, "asked for by name: %.400s", error->message);
    if (found)
        tow_collection_info_clear(&info);
    tow_conn_close(source);
    free(database);
    return ok || error->server_code;
}

static bool fail_lost(tow_job_t *job, const tow_names_t *lost, tow_error_t *error)
{
    char *names = join(lost), answer[512];

    if (ask_for(job, lost->names[0], answer, sizeof answer, error))
        tow_fail(error, TOW_ERROR_SERVER,
                 "the source no longer lists %zu namespace%s that this job copied, and its change "
                 "stream did not "
                 "report that %s dropped: %s (the first: %s); nothing was dropped on the "
                 "destination. Look at "
                 "the roles of the source's user, which sees only what it may read; if %s really "
                 "gone, drop %s "
                 "on the destination as well; then ask for the cutover again",
                 lost->count, lost->count == 1 ? "" : "s",
                 lost->count == 1 ? "it was" : "they were", names, answer,
                 lost->count == 1 ? "it is" : "they are", lost->count == 1 ? "it" : "them");
    free(names);
    return false;
}

static bool fail_left_out(const tow_names_t *left_out, tow_error_t *error)
{
    char *names = join(left_out);

    tow_fail(error, TOW_ERROR_UNSUITABLE,
             "the source has %zu collection%s that cannot be followed (time series, or of a kind "
             "that this version "
             "does not know), made while the job ran: %s; copy %s to the destination by hand once "
             "writes have "
             "stopped (mongodump and mongorestore), or drop %s at the source, and ask for the "
             "cutover again",
             left_out->count, left_out->count == 1 ? "" : "s", names,
             left_out->count == 1 ? "it" : "them", left_out->count == 1 ? "it" : "them");
    free(names);
    return false;
}

static void note_by_hand(tow_job_t *job, const tow_names_t *by_hand)
{
    char *names;

    if (!by_hand->count)
        return;
    names = join(by_hand);
    tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "left_out",
             "not copied and not compared, since no change stream follows them: %s; the "
             "destination has collections "
             "of these names, copied by hand",
             names);
    free(names);
}

static void note_strays(tow_job_t *job, const tow_names_t *strays)
{
    char *names;

    if (!strays->count)
        return;
    names = join(strays);
    tow_emit(&job->sides.sink, TOW_LEVEL_WARNING, "left_out",
             "not copied, since it is in a database that belongs to the server: %s", names);
    free(names);
}

/* False: *error; *out_asks: it is a question to the operator, who may answer it and go on. */
static bool check(tow_job_t *job, const tow_gaps_t *gaps, bool *out_asks, tow_error_t *error)
{
    *out_asks = true;
    if (gaps->lost.count)
        return fail_lost(job, &gaps->lost, error);
    if (gaps->left_out.count)
        return fail_left_out(&gaps->left_out, error);
    if (gaps->foreign.count) {
        char *names = join(&gaps->foreign);

        tow_fail(error, TOW_ERROR_CONFLICT,
                 "the destination has %zu namespace%s that this job did not make, and the source "
                 "has %s too: %s; "
                 "rename or drop %s on the destination, and ask for the cutover again",
                 gaps->foreign.count, gaps->foreign.count == 1 ? "" : "s",
                 gaps->foreign.count == 1 ? "it" : "them", names,
                 gaps->foreign.count == 1 ? "it" : "them");
        free(names);
        return false;
    }
    note_by_hand(job, &gaps->by_hand);
    note_strays(job, &gaps->strays);
    return true;
}

/* Those that the destination refuses: made or changed while in sync, they were
 * never tried before. */
static bool try_views(tow_job_t *job, bool *out_asks, tow_error_t *error)
{
    tow_names_t refused;
    tow_error_t reason = {0};
    char *names;

    *out_asks = false;
    if (!tow_copy_try_views(job->flow.copy, &refused, &reason)) {
        *error = reason;
        return false;
    }
    if (!refused.count)
        return true;
    *out_asks = true;
    names = join(&refused);
    tow_fail(error, TOW_ERROR_SERVER,
             "the destination refuses %zu view%s of the source: %s (%.300s); change or drop %s at "
             "the source, and ask "
             "for the cutover again",
             refused.count, refused.count == 1 ? "" : "s", names, reason.message,
             refused.count == 1 ? "it" : "them");
    free(names);
    tow_names_clear(&refused);
    return false;
}

tow_finalized_t tow_job_check_gaps(tow_job_t *job, tow_error_t *error)
{
    tow_gaps_t gaps = {0};
    bool asks = false, ok = read_settled(job, &gaps, error) && check(job, &gaps, &asks, error) &&
                            try_views(job, &asks, error);

    tow_gaps_clear(&gaps);
    if (ok)
        return TOW_FINALIZE_DONE;
    /* Where nobody asked for the cutover, nobody would see that it was called off. */
    return asks && job->config.manual ? TOW_FINALIZE_CALLED_OFF : TOW_FINALIZE_FAILED;
}
