/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.h: what the verbs of the program share. */
#ifndef TOW_CMD_CMD_H
#define TOW_CMD_CMD_H

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/memory.h"
#include "engine/base/thread.h"
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
int cmd_version(tow_options_t *options);
int cmd_notify(tow_options_t *options);
int cmd_extend(tow_options_t *options);
int cmd_resume(tow_options_t *options);
int cmd_cutover(tow_options_t *options);
int cmd_page(tow_options_t *options);
int cmd_cancel(tow_options_t *options);

/* process.c: makes the process fit for secrets and for its limits; a copy of its words, which are
 * then overwritten where `ps` shows them. */
char **cmd_begin(int argc, char **argv);
unsigned long long cmd_address_space(void); /* what it may map, in MB; 0: as much as it likes */

/* A flag that is set, to true. */
static inline bool cmd_is_on(const tow_options_t *options, const char *name)
{
    const char *value = tow_options_get(options, name, 0);

    return value && !strcmp(value, "true");
}

/* output.c: what the program prints itself. Foreign text on its way to a terminal goes through
 * tow_printable: here, in cmd_document (json.h) and in the log. */
/* One clear line on stderr, `towline: …`; it waits a second at most for whoever reads. */
void cmd_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same of an error; returns the exit status. */
int cmd_fail(const tow_error_t *error);
/* Prints JSON as a line on stdout. */
void cmd_print_json(const char *json);
/* The exit status after `status`: 21 with a line on stderr where what was printed on stdout went
 * nowhere. */
int cmd_end(int status);
/* Writes all of it, waiting at most wait_ms for room each time (-1: as long as it takes). */
bool cmd_write(int file, const void *data, size_t length, int wait_ms);
/* Whether a write would wait for whoever reads. */
bool cmd_is_blocked(int file);

/* help.c */
void cmd_help(FILE *out, const cmd_verb_t *verb); /* NULL: the program's own */
void cmd_help_markdown(FILE *out);                /* the table of engine/docs/options.md */

/* Whether the verb has the option, be it by the verb that it is like. */
bool cmd_takes(const tow_option_t *option, const cmd_verb_t *verb);

/* completion.c. Prints what `print` does, or with --json that text as an object's field. */
void cmd_print_text(const tow_options_t *options, const char *name, void (*print)(void));

/* log.c: event lines on stderr. */
typedef struct {
    /* Constant once it is open. */
    bool json;
    tow_level_t least;
    int file;            /* stderr, or the one in --log-path */
    tow_thread_t writer; /* not waited for: it may never come back from a write */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    tow_buffer_t waiting; /* lines that nobody has begun to write */
    bool writing;         /* the writer is busy with others */
    bool ending;          /* the writer ends when nothing waits; only tests ask for it */
    uint64_t lost;        /* lines for which there was no room since the last that found some */
} cmd_log_t;
/* The log, of static storage, stays in use until the process ends. */
bool cmd_log_open(cmd_log_t *log, const tow_options_t *options, tow_error_t *error);
/* Never waits for whoever reads the log. */
void cmd_log_event(void *log, tow_level_t level, const char *name, const char *message);
/* Waits until all is written, or for two seconds. */
void cmd_log_finish(cmd_log_t *log);
/* group.c. TOW_ERROR_UNSUITABLE: the control group gives less memory than the options need. */
bool cmd_fits_group(const tow_options_t *options, tow_error_t *error);
/* Of one that a large job may grow out of. */
void cmd_warn_of_memory(const tow_options_t *options, cmd_log_t *log);

/* progress.c: shows progress until the job has ended. */
void cmd_show_progress(tow_job_t *job, const char *form);

/* figures.c */
char *cmd_count(double count, char out[32]);            /* "1,234,567" */
const char *cmd_duration(double seconds, char out[32]); /* "3 h 20 min" */

/* room.c: room on the disk beside a file that is written at the end, in one without a name, which
 * goes with the process. *out is -1 where there is no path, or it is no regular file's.
 * TOW_ERROR_OPTION: it cannot be written there. */
bool cmd_take_room(const char *path, int *out, tow_error_t *error);
void cmd_free_room(int room);

/* summary.c */
void cmd_print_summary(const char *json); /* of a job that did nothing only what remains */
void cmd_print_remains(const char *json);
void cmd_print_report(const char *json);
bool cmd_write_file(const char *path, const char *text, tow_error_t *error); /* all or nothing */

#endif
