/* example.c: the library embedded: copies one deployment to another, follows it and cuts over.
 *
 *     example SOURCE-URI DESTINATION-URI SPOOL-FOLDER */
#include <stdio.h>

#include "engine/towline.h"

static void show(void *data, tow_level_t level, const char *name, const char *message)
{
    printf("%s: %s\n", name, message);
}

int main(int argc, char **argv)
{
    tow_options_t *options = tow_options_new();
    tow_progress_t progress;
    tow_error_t error;
    tow_job_t *job;
    bool ok;

    if (argc != 4 || !tow_options_set(options, "source", argv[1], &error) ||
        !tow_options_set(options, "destination", argv[2], &error) ||
        !tow_options_set(options, "cutover", "auto", &error) ||
        !tow_options_set(options, "spool", argv[3], &error))
        return 2;
    job = tow_job_new(options, &error);
    if (!job) {
        fprintf(stderr, "%s\n", error.message);
        return error.code;
    }
    tow_job_on_event(job, show, NULL);
    ok = tow_job_run(job, &error);
    tow_job_progress(job, &progress);
    printf("%s: %llu documents copied\n", tow_phase_name(progress.phase),
           (unsigned long long)progress.copied_documents);
    if (!ok)
        fprintf(stderr, "%s\n", error.message);
    tow_job_destroy(job);
    tow_options_destroy(options);
    return ok ? 0 : error.code;
}
