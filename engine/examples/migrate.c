/* SPDX-License-Identifier: Apache-2.0 */
/* migrate.c: the library embedded: copies one deployment to another, follows it and cuts over as
 * soon as both are in sync. Nothing may write to the source meanwhile, or the cutover is called
 * off.
 *
 *     migrate SOURCE-URI DESTINATION-URI SPOOL-FOLDER
 *     cc -o migrate migrate.c $(pkg-config --cflags --libs towline) */
#include <stdio.h>
#include <towline.h>

static void show(void *data, tow_level_t level, const char *name, const char *message)
{
    (void)data;
    if (level >= TOW_LEVEL_INFO)
        printf("%s: %s\n", name, message);
}

static int fail(const tow_error_t *error)
{
    fprintf(stderr, "%s\n", error->message);
    return error->code;
}

static int migrate(const tow_options_t *options)
{
    tow_progress_t progress;
    tow_error_t error;
    tow_job_t *job = tow_job_new(options, &error);
    bool ok;

    if (!job)
        return fail(&error);
    tow_job_on_event(job, show, NULL);
    ok = tow_job_run(job, &error);
    tow_job_progress(job, &progress);
    printf("%s: %llu documents copied\n", tow_phase_name(progress.phase),
           (unsigned long long)progress.copied_documents);
    tow_job_destroy(job);
    return ok ? 0 : fail(&error);
}

int main(int argc, char **argv)
{
    tow_options_t *options;
    tow_error_t error;
    int status;

    if (argc != 4) {
        fputs("usage: migrate SOURCE-URI DESTINATION-URI SPOOL-FOLDER\n", stderr);
        return TOW_ERROR_OPTION;
    }
    options = tow_options_new();
    if (tow_options_set(options, "source", argv[1], &error) &&
        tow_options_set(options, "destination", argv[2], &error) &&
        tow_options_set(options, "spool", argv[3], &error) &&
        tow_options_set(options, "cutover", "auto", &error))
        status = migrate(options);
    else
        status = fail(&error);
    tow_options_destroy(options);
    tow_threads_ended(10000);
    return status;
}
