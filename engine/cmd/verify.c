/* verify.c: compares two deployments on its own. */
#include <stdlib.h>

#include "engine/cmd/cmd.h"

int cmd_verify(tow_options_t *options)
{
    const char *path = tow_options_get(options, "report", 0);
    char *report = NULL;
    tow_error_t error, write_error;
    int status = 0;

    if (!tow_verify(options, &report, &error))
        status = (int)error.code;
    if (report) {
        cmd_print_report(report);
        if (path && !cmd_write_file(path, report, &write_error) && !status)
            status = cmd_fail(&write_error);
        fflush(stdout);
    }
    tow_free(report);
    if (status && error.message[0])
        cmd_fail(&error);
    return status;
}
