/* towline.h: the public interface of libtowline, which moves live MongoDB deployments.
 *
 * A job copies the collections of a source deployment to a destination while the source keeps
 * taking writes, follows the source's change stream, verifies both sides and cuts over. Make
 * options, make a job of them, run it:
 *
 *     tow_options_t *options = tow_options_new();
 *     tow_error_t error;
 *     tow_options_set(options, "source", "mongodb://…", &error);
 *     tow_options_set(options, "destination", "mongodb://…", &error);
 *     tow_job_t *job = tow_job_new(options, &error);
 *     bool ok = tow_job_run(job, &error);
 *     tow_job_destroy(job);
 *     tow_options_destroy(options);
 *
 * Threads: every tow_job_* function but _new, _run and _destroy may be called from any thread at
 * any time between them. Strings that a function returns as `char *` belong to the caller, who
 * frees them with tow_free. Arguments are borrowed. Out of memory aborts, but see
 * tow_on_out_of_memory.
 */
#ifndef TOWLINE_H
#define TOWLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TOW_API __attribute__((visibility("default")))

/* What went wrong. The program's exit status is the code itself: see README, "Exit statuses". */
typedef enum {
    TOW_OK = 0,
    TOW_ERROR_INTERNAL = 1,    /* a bug of ours, or the machine failed us */
    TOW_ERROR_OPTION = 2,      /* an option is unknown, malformed or out of range */
    TOW_ERROR_UNREACHABLE = 3, /* a server cannot be reached, or refuses our login */
    TOW_ERROR_UNSUITABLE =
        4, /* standalone source, same deployment on both sides, unsupported collection */
    TOW_ERROR_CONFLICT = 5,     /* destination namespaces exist already */
    TOW_ERROR_SETTINGS = 6,     /* restart with other endpoints or filters */
    TOW_ERROR_LEASE = 7,        /* another process holds the job, or took it over */
    TOW_ERROR_SERVER = 8,       /* a server's error that retries did not cure */
    TOW_ERROR_HISTORY_LOST = 9, /* the source's oplog no longer reaches back to our position */
    TOW_ERROR_SPOOL = 10,  /* the spool cannot be written, or is broken: names file and offset */
    TOW_ERROR_INDEX = 11,  /* the destination refused an index */
    TOW_ERROR_VERIFY = 12, /* both sides differ */
    TOW_ERROR_NOT_IN_SYNC = 13, /* cutover asked too early */
    TOW_ERROR_STATE = 14,       /* the request does not fit the job's phase */
    TOW_ERROR_CONTROL = 15,     /* the control server cannot be reached, or cannot listen */
    TOW_ERROR_INTERRUPTED =
        16, /* stopped by a signal or by tow_job_stop; the same command continues */
    TOW_ERROR_CANCELLED = 17,  /* given up by tow_job_cancel */
    TOW_ERROR_EXPIRED = 18,    /* the window ran out; resumable by extending it */
    TOW_ERROR_TIMEOUT = 19,    /* what was waited for did not come in time; the job goes on */
    TOW_ERROR_CALLED_OFF = 20, /* the cutover was called off; the job goes on as before it */
    TOW_ERROR_OUTPUT = 21      /* all is done, and what says so could not be written */
} tow_error_code_t;

/* What may be done after an error; decided once, where the server is talked to. */
typedef enum {
    TOW_RETRY_NEVER = 0, /* the same request fails again */
    TOW_RETRY_SAME,      /* send it again on this connection */
    TOW_RETRY_RECONNECT, /* send it again on a new connection: the outcome may be unknown */
    TOW_RETRY_REFETCH    /* the request is moot: read the keys again from the source */
} tow_retry_t;

typedef struct {
    tow_error_code_t code;
    tow_retry_t retry;
    int server_code;    /* the server's error number, or 0 */
    char message[1024]; /* lower case, no secrets, ends with what to do where that is known */
} tow_error_t;

/* Options ---------------------------------------------------------------------------------------*/

typedef enum {
    TOW_OPTION_STRING,
    TOW_OPTION_SECRET, /* a connection string: never printed */
    TOW_OPTION_LIST,   /* may be given several times; a comma separates in the environment */
    TOW_OPTION_INTEGER,
    TOW_OPTION_FLAG,    /* "true" or "false" */
    TOW_OPTION_CHOICE,  /* one of `range`, separated by '|' */
    TOW_OPTION_DURATION /* "120h", "1d12h", "90m", "45s": 1 s to 3650 d */
} tow_option_type_t;

/* One row of the option table: parser, help, environment and the README's reference
 * come from it. */
typedef struct {
    const char *name;        /* without dashes: "memory" */
    const char *environment; /* "TOWLINE_MEMORY" */
    tow_option_type_t type;
    const char *unit;    /* "MB", "URI", "" … shown in help */
    const char *range;   /* choices, or "1..1024", or "" */
    const char *initial; /* default as text, "" for none */
    const char *verbs;   /* space separated verbs that take it: "run verify" */
    const char *help;
} tow_option_t;

typedef struct tow_options tow_options_t;

TOW_API const tow_option_t *tow_options_table(size_t *out_count);
TOW_API tow_options_t *tow_options_new(void);
TOW_API void tow_options_destroy(tow_options_t *options);
/* Sets one option from text; a LIST grows by one. TOW_ERROR_OPTION names option, value and what was
 * expected. */
TOW_API bool tow_options_set(tow_options_t *options, const char *name, const char *value,
                             tow_error_t *error);
/* Sets options from a YAML file: one mapping of option names (or mongosync's) to values.
 * TOW_ERROR_OPTION names file, line and key: unknown, of a wrong type, given twice, out of range,
 * not supported. */
TOW_API bool tow_options_load(tow_options_t *options, const char *path, tow_error_t *error);
/* What is set from now on replaces what was set before, also lists, and a URI its file's option. */
TOW_API void tow_options_override(tow_options_t *options);
/* The value as text (the default when unset, NULL when there is none); borrowed. For a LIST, entry
 * `index`. */
TOW_API const char *tow_options_get(const tow_options_t *options, const char *name, size_t index);

/* The same as it may be shown: a SECRET without user, password and other secrets. Owned by the
 * caller, NULL where tow_options_get gives NULL. */
TOW_API char *tow_options_shown(const tow_options_t *options, const char *name, size_t index);
/* The hosts of "source" or "destination" without credentials, also when they stand in a file; NULL:
 * not given, or the file cannot be read. Owned by the caller. */
TOW_API char *tow_options_address(const tow_options_t *options, const char *side);
TOW_API tow_options_t *tow_options_copy(const tow_options_t *options);
/* Sets an option by mongosync's name for it: cluster0, port, verbosity … TOW_ERROR_OPTION: it is
 * none of these, or one that has no counterpart, with the reason. */
TOW_API bool tow_options_set_foreign(tow_options_t *options, const char *name, const char *value,
                                     tow_error_t *error);
/* Whether mongosync has an option of this name; *out_flag: it takes no value. */
TOW_API bool tow_options_is_foreign(const char *name, bool *out_flag);
/* Whether it was set, rather than being the default. */
TOW_API bool tow_options_is_set(const tow_options_t *options, const char *name);

/* Job -------------------------------------------------------------------------------------------*/

/*   new → validating → preparing → copying → catching-up → in-sync → finalizing → done
 *   finalizing → catching-up when the cutover is called off
 *   and from any of them: paused (and back), failed, expired, cancelled */
typedef enum {
    TOW_PHASE_NEW,
    TOW_PHASE_VALIDATING,
    TOW_PHASE_PREPARING,
    TOW_PHASE_COPYING,
    TOW_PHASE_CATCHING_UP,
    TOW_PHASE_IN_SYNC,
    TOW_PHASE_FINALIZING,
    TOW_PHASE_DONE,
    TOW_PHASE_PAUSED,
    TOW_PHASE_FAILED,
    TOW_PHASE_EXPIRED,
    TOW_PHASE_CANCELLED
} tow_phase_t;

TOW_API const char *tow_phase_name(tow_phase_t phase); /* "catching-up" */
TOW_API bool tow_phase_is_final(tow_phase_t phase);    /* done, failed, expired, cancelled */

/* A cluster time: seconds since 1970 and the increment within the second; {0, 0} is "none yet". */
typedef struct {
    uint32_t t, i;
} tow_timestamp_t;

/* How far a cutover is: none → confirmed → finalizing → done, and back to none when it is called
 * off. */
typedef enum {
    TOW_CUTOVER_NONE,
    TOW_CUTOVER_CONFIRMED,  /* asked for; about to begin */
    TOW_CUTOVER_FINALIZING, /* replaying to `stop`, indexes and TTL, comparing what is left */
    TOW_CUTOVER_DONE
} tow_cutover_step_t;

TOW_API const char *tow_cutover_step_name(tow_cutover_step_t step);

/* A snapshot of a running job. All counts are since the job began, but for rates. */
typedef struct {
    tow_phase_t phase;
    bool can_commit; /* a cutover would be accepted now */
    tow_cutover_step_t cutover;
    double cutover_seconds; /* that finalizing still takes, as measured; -1: not known */
    bool writes_blocked;    /* at the source, by this job */
    uint64_t late_writes;   /* changes read from the source since the last cutover was confirmed */
    char reason[256];       /* why it cannot be committed, or why it failed; "" otherwise */
    double elapsed_seconds;
    uint64_t estimated_documents, estimated_bytes; /* of the initial copy */
    uint64_t copied_documents, copied_bytes;
    uint32_t collections_total, collections_copied;
    uint32_t ranges_total, ranges_copied;
    uint32_t indexes_total, indexes_built;
    uint64_t events_seen, events_skipped,
        events_applied; /* applied: directly or as a refetched key */
    uint64_t keys_dirty, keys_refetched, statements_applied;
    uint64_t spool_bytes, dirty_bytes, backlog_events;
    bool direct_mode;
    int64_t lag_ms; /* -1: not known yet */
    tow_timestamp_t source_time, start, read, spooled, floor, checkpoint, consistent, stop,
        verified;
    uint64_t verified_documents, verified_bytes, verify_total_documents;
    uint64_t retries;   /* server calls sent again */
    char retrying[192]; /* what is being retried now, "" otherwise */
    double source_ping_ms, destination_ping_ms;
    int64_t source_silent_ms, destination_silent_ms; /* since its last answer; 0: it answers */
    int64_t moved_ms; /* since 1970: when floor or copy last moved, or could first; 0: not yet */
    double oplog_headroom_seconds; /* that the source's oplog reaches back before the job's
                                      position; -1: not known */
    int64_t window_length_ms;      /* as asked for and extended */
    int64_t window_end_ms;         /* since 1970; 0: it has not begun */
    int64_t window_left_ms;        /* -1: it has not begun */
} tow_progress_t;

typedef enum { TOW_LEVEL_DEBUG, TOW_LEVEL_INFO, TOW_LEVEL_WARNING, TOW_LEVEL_ERROR } tow_level_t;

/* Something happened. `name` is stable ("copy_finished"), `message` is for people, both are
 * borrowed. Called from the job's threads, one call at a time; what a listener asks of the job may
 * be an event itself, which comes before that call returns. */
typedef void (*tow_event_fn)(void *data, tow_level_t level, const char *name, const char *message);

typedef struct tow_job tow_job_t;

/* Checks the options; talks to no server. TOW_ERROR_OPTION. */
TOW_API tow_job_t *tow_job_new(const tow_options_t *options, tow_error_t *error);
TOW_API void tow_job_destroy(tow_job_t *job);
/* Before the start; at most four listeners, a fifth replaces the fourth. */
TOW_API void tow_job_on_event(tow_job_t *job, tow_event_fn fn, void *data);
/* TOW_ERROR_OPTION: a URI cannot be used; nothing was dialled. */
TOW_API bool tow_job_start(tow_job_t *job, tow_error_t *error);
/* Waits for the end, however it ends. True: done, cut over, verified. */
TOW_API bool tow_job_wait(tow_job_t *job, tow_error_t *error);
/* Waits at most `wait_ms`; true when the job has ended. */
TOW_API bool tow_job_ended(tow_job_t *job, int wait_ms);
TOW_API bool tow_job_run(tow_job_t *job, tow_error_t *error); /* start and wait */
TOW_API void tow_job_progress(tow_job_t *job, tow_progress_t *out);
TOW_API const char *tow_job_name(const tow_job_t *job); /* --job */
/* TOW_ERROR_STATE when the phase does not allow it; cutover: TOW_ERROR_NOT_IN_SYNC
 * with the reason. */
TOW_API bool tow_job_pause(tow_job_t *job, tow_error_t *error);
TOW_API bool tow_job_resume(tow_job_t *job, tow_error_t *error);
/* The caller confirms that nothing writes to the source any more. Writes that come all the same are
 * applied and delay the end; when they do not cease the cutover is called off (event
 * "cutover_called_off"), and the job goes on as before. */
TOW_API bool tow_job_cutover(tow_job_t *job, tow_error_t *error);
/* The same, and the job itself blocks the writes at the source (6.0+) until it is done or fails;
 * TOW_ERROR_UNSUITABLE: the server is too old. After a good end they stay blocked. */
TOW_API bool tow_job_cutover_blocking(tow_job_t *job, tow_error_t *error);
/* Calls off a cutover that was asked for or has begun: the job goes back to where it was before, in
 * sync, and nothing is lost. It returns at once; the event "cutover_called_off" says when it is
 * done. One of
 * --cutover auto then waits to be asked. TOW_ERROR_STATE: there is none, or it has passed its point
 * of no return. */
TOW_API bool tow_job_call_off(tow_job_t *job, tow_error_t *error);
/* Adds time to the window, from now when it has not begun or was about to end. TOW_ERROR_STATE: the
 * job is over or cuts over; TOW_ERROR_OPTION: not 1 s to 3650 d. */
TOW_API bool tow_job_extend(tow_job_t *job, int64_t seconds, tow_error_t *error);
/* Ends the job for good: the source stays untouched, the destination keeps what was copied, the
 * job's state is removed. TOW_ERROR_STATE: it is over, or about to be. */
TOW_API bool tow_job_cancel(tow_job_t *job, tow_error_t *error);
/* Forgets what the background verification compared, so that it compares everything again.
 * TOW_ERROR_STATE: it does not run. */
TOW_API bool tow_job_verify_again(tow_job_t *job, tow_error_t *error);
/* What a cancelled job leaves on the destination, and how to clear it: one sentence, by what was
 * copied so far. */
TOW_API char *tow_job_remains(tow_job_t *job);
/* Ends this process's work with a checkpoint; the same options
 * continue later. Async-signal-unsafe. */
TOW_API void tow_job_stop(tow_job_t *job);
/* Progress as one line of JSON: the object `progress` of GET /api/v1/progress. */
TOW_API char *tow_job_progress_json(tow_job_t *job);
/* The largest collections, at most `limit`, as JSON: {"total", "collections": [{"ns", "state":
 * "waiting" | "copying" | "copied", "estimatedDocuments", "estimatedBytes", "rangesTotal",
 * "rangesCopied"}]}; none before the copy was prepared and after the end. */
TOW_API char *tow_job_collections_json(tow_job_t *job, uint32_t limit);
/* The summary as JSON (see README, "Progress and summary"); valid from the end of the job on. */
TOW_API char *tow_job_summary_json(tow_job_t *job);
/* The end was told to whom it concerns. Until then the job's state stays on the destination, marked
 * as ended, and the same options end well again after a kill. It goes soon after this call;
 * tow_job_settled waits for that, and tow_job_destroy as well; both say the same. */
TOW_API void tow_job_settled(tow_job_t *job);
TOW_API void tow_job_told(tow_job_t *job);

/* The control server: HTTP API, metrics and page (engine/http/README.md), for one job or for one
 * after another. It listens as --listen says (port 0 takes a free one), asks for a token unless
 * --no-token, and speaks TLS with --tls-cert and --tls-key; `options` (copied) are also what a
 * start by a request builds on. `listener` (may be NULL) gets the events of the jobs that it
 * starts. Threads: all functions but _new, _attach and _destroy may be called from any thread.
 * TOW_ERROR_OPTION, TOW_ERROR_CONTROL: it cannot listen. */
typedef struct tow_server tow_server_t;
TOW_API tow_server_t *tow_server_new(const tow_options_t *options, tow_event_fn listener,
                                     void *data, tow_error_t *error);
/* Serves this job, which stays the caller's, is not started yet, and outlives the server. */
TOW_API void tow_server_attach(tow_server_t *server, tow_job_t *job);
/* What POST /api/v1/start does. TOW_ERROR_STATE: a job is running. */
TOW_API bool tow_server_start(tow_server_t *server, const tow_options_t *options,
                              tow_error_t *error);
TOW_API int tow_server_port(const tow_server_t *server);
/* Address of the page; with_token: one that opens it. The caller frees it. */
TOW_API char *tow_server_address(const tow_server_t *server, bool with_token);
/* Stops the job that it started at a checkpoint; no other is started. _destroy does that too, and
 * waits. */
TOW_API void tow_server_stop(tow_server_t *server);
TOW_API void tow_server_destroy(tow_server_t *server);
/* The token that a server of these options asks for, "" for none; made when there is none yet. The
 * caller frees it. NULL with TOW_ERROR_OPTION or TOW_ERROR_CONTROL. */
TOW_API char *tow_token(const tow_options_t *options, tow_error_t *error);

/* Compares source and destination of `options` once. *out_report_json is set whenever the
 * comparison came to an end (also when it found differences: false with TOW_ERROR_VERIFY). */
TOW_API bool tow_verify(const tow_options_t *options, char **out_report_json, tow_error_t *error);

/* Makes every check that stands before a start, all of them even when one fails, and writes
 * nothing. False with the first failure as the error. *out_json (README, "On your own servers") is
 * NULL only when the options cannot be used. */
TOW_API bool tow_check(const tow_options_t *options, char **out_json, tow_error_t *error);
/* The same, and what a job would copy: collections, sizes, ranges, estimated time. */
TOW_API bool tow_plan(const tow_options_t *options, char **out_json, tow_error_t *error);

/* Sends a test notice through every channel that the options name. TOW_ERROR_OPTION: they name
 * none; TOW_ERROR_UNREACHABLE: one was not taken, and why. */
TOW_API bool tow_notify_test(const tow_options_t *options, tow_error_t *error);

/* tow_verify, watched. `progress` comes every `progress_ms` from a thread of its own, also a last
 * time: documents and bytes of the source compared so far, and an estimate of all documents.
 * `report` comes once, as soon as it is known; until the call returns the connections are closed,
 * which takes a moment. */
typedef struct {
    void *data;
    tow_event_fn event; /* may be NULL */
    void (*progress)(void *data, uint64_t documents, uint64_t bytes, uint64_t total_documents);
    int progress_ms;
    void (*report)(void *data, const char *report_json); /* may be NULL; borrowed */
} tow_verify_watch_t;
TOW_API bool tow_verify_watched(const tow_options_t *options, const tow_verify_watch_t *watch,
                                char **out_report_json, tow_error_t *error);

TOW_API const char *tow_version(void);
TOW_API void tow_free(void *memory);
/* What is done when memory runs out, here and in libbson, instead of abort. `end` ends the process:
 * it must neither return nor allocate. A job loses nothing by that, as by a kill. Before any other
 * call. */
TOW_API void tow_on_out_of_memory(void (*end)(void));

#ifdef __cplusplus
}
#endif
#endif
