/* cmd.h: what the verbs of the program share. */
#ifndef TOW_CMD_CMD_H
#define TOW_CMD_CMD_H

#include <stdio.h>

#include "engine/towline.h"

typedef struct {
    const char *name, *help;
    int (*run)(tow_options_t *options);
    const char *operand; /* the option that a word without dashes sets; NULL: none is taken */
    const char *like;    /* the verb whose options are taken too, or NULL */
} cmd_verb_t;

extern const cmd_verb_t cmd_verbs[]; /* ends with a NULL name */

int cmd_run(tow_options_t *options);
int cmd_serve(tow_options_t *options);
int cmd_check(tow_options_t *options);
int cmd_plan(tow_options_t *options);
int cmd_verify(tow_options_t *options);
int cmd_status(tow_options_t *options);
int cmd_pause(tow_options_t *options);
int cmd_config(tow_options_t *options);
int cmd_completion(tow_options_t *options);
int cmd_man(tow_options_t *options);
int cmd_notify(tow_options_t *options);
int cmd_extend(tow_options_t *options);
int cmd_resume(tow_options_t *options);
int cmd_cutover(tow_options_t *options);

/* One clear line on stderr; returns the exit status. */
int cmd_fail(const tow_error_t *error);

/* help.c */
void cmd_help(FILE *out, const cmd_verb_t *verb); /* NULL: the program's own */
void cmd_help_markdown(FILE *out);                /* the options as the README shows them */

bool cmd_takes(const tow_option_t *option, const char *verb);

/* log.c: event lines on stderr. */
typedef struct {
    bool json;
    tow_level_t least;
    FILE *file; /* stderr, or the one in --log-path */
} cmd_log_t;
bool cmd_log_open(cmd_log_t *log, const tow_options_t *options, tow_error_t *error);
void cmd_log_event(void *log, tow_level_t level, const char *name, const char *message);

/* progress.c: shows progress until the job has ended. */
void cmd_show_progress(tow_job_t *job, const char *form);
char *cmd_bytes(double bytes, char out[32]); /* "1.5 GB" */
char *cmd_count(double count, char out[32]); /* "1,234,567" */
char *cmd_duration(double seconds, char out[32]); /* "3 h 20 min" */

/* summary.c */
void cmd_print_summary(const char *json);
void cmd_print_report(const char *json);
bool cmd_write_file(const char *path, const char *text, tow_error_t *error); /* all or nothing */

#endif
