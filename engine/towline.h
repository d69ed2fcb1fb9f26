/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file towline.h
 * The public interface of libtowline, which moves live MongoDB deployments.
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
 * **Errors.** A function that can fail takes a `tow_error_t *error` last, which may be NULL. It
 * returns false or NULL and fills the error; after a success the error is as it was.
 *
 * **Ownership.** Arguments are borrowed for the call. A `char *` that is returned belongs to the
 * caller, who frees it with tow_free(); a `const char *` belongs to the library. Destructors take
 * NULL.
 *
 * **Threads.** Every `tow_job_*` function but `_new`, `_run` and `_destroy` may be called from any
 * thread at any time between `_new` and `_destroy`. Options and event queues belong to one thread
 * at a time.
 *
 * **Signals.** The library installs no signal handler and changes no disposition, that of SIGPIPE
 * included. The threads that it starts block all signals, so that a signal for the process reaches
 * a thread of the host's. Nothing here may be called from a signal handler.
 *
 * **The driver.** libmongoc is initialised by the first call that needs it, and never cleaned up;
 * a host that calls mongoc_cleanup() does so after its last call here. Its log handler is the
 * host's, unless the host calls tow_take_driver_log().
 *
 * **Memory.** Out of memory ends the process, as it does in libbson: by abort(), or as
 * tow_on_out_of_memory() says. A job loses nothing by that, as by a kill: the same options go on
 * from its last checkpoint. A host that cannot accept that runs the engine in a process of its own.
 *
 * **fork().** Jobs, servers and connections belong to the process that made them, and their threads
 * do not survive a fork. The child may call exec functions and _exit(), and nothing of this
 * library; a program that forks to work in the child forks before its first call.
 *
 * **The end of the process.** exit() while threads of the library run is as safe for the data as a
 * kill, but frees what they still use. Destroy jobs and servers before it, and call
 * tow_threads_ended(), since a destroyed job leaves a thread to a server that does not answer; or
 * end by _exit(). The library stays loaded after dlclose().
 *
 * **Compatibility.** Within one soname functions are only added. tow_progress_t and
 * tow_verify_watch_t may grow at their end; callers pass their size, which the inline functions
 * below do for them, so a program that was built with an older header works. All other structures
 * keep their size: they have room for more. Enumerations may get more values. Rows, names of events
 * and fields of JSON may be added; those that are there keep their meaning.
 */
#ifndef TOWLINE_H
#define TOWLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What the library exports. */
#define TOW_API __attribute__((visibility("default")))

/** @name Version
 * Of this header; tow_version() is the library's.
 * @{ */
#define TOW_VERSION_MAJOR 1             /**< Programs must be built again. */
#define TOW_VERSION_MINOR 0             /**< Something was added. */
#define TOW_VERSION_PATCH 0             /**< Something was corrected. */
#define TOW_VERSION_STRING "1.0.0-rc.1" /**< With what comes before a release. */
/** Whether this header is of that version or a later one. */
#define TOW_VERSION_AT_LEAST(major, minor, patch)                                                  \
    (TOW_VERSION_MAJOR > (major) ||                                                                \
     (TOW_VERSION_MAJOR == (major) &&                                                              \
      (TOW_VERSION_MINOR > (minor) ||                                                              \
       (TOW_VERSION_MINOR == (minor) && TOW_VERSION_PATCH >= (patch)))))
/** @} */

/** The library's version, as TOW_VERSION_STRING of the header that it was built with. */
TOW_API const char *tow_version(void);

/** What went wrong. The program's exit status is the code itself: see towline(1) and
 * engine/docs/options.md. */
typedef enum {
    TOW_OK = 0,                 /**< Nothing. */
    TOW_ERROR_INTERNAL = 1,     /**< A bug of ours, or the machine failed us. */
    TOW_ERROR_OPTION = 2,       /**< An option is unknown, malformed or out of range. */
    TOW_ERROR_UNREACHABLE = 3,  /**< A server cannot be reached, or refuses our login. */
    TOW_ERROR_UNSUITABLE = 4,   /**< Standalone source, one deployment on both sides, … */
    TOW_ERROR_CONFLICT = 5,     /**< Destination namespaces exist already. */
    TOW_ERROR_SETTINGS = 6,     /**< Restart with other endpoints or filters. */
    TOW_ERROR_LEASE = 7,        /**< Another process holds the job, or took it over. */
    TOW_ERROR_SERVER = 8,       /**< A server's error that retries did not cure. */
    TOW_ERROR_HISTORY_LOST = 9, /**< The source's oplog does not reach back to our position. */
    TOW_ERROR_SPOOL = 10,       /**< The spool cannot be written, or is broken. */
    TOW_ERROR_INDEX = 11,       /**< The destination refused an index. */
    TOW_ERROR_VERIFY = 12,      /**< Both sides differ. */
    TOW_ERROR_NOT_IN_SYNC = 13, /**< Cutover asked too early. */
    TOW_ERROR_STATE = 14,       /**< The request does not fit the job's phase. */
    TOW_ERROR_CONTROL = 15,     /**< The control server cannot be reached, or cannot listen. */
    TOW_ERROR_INTERRUPTED = 16, /**< Stopped; the same options go on. */
    TOW_ERROR_CANCELLED = 17,   /**< Given up by tow_job_cancel(). */
    TOW_ERROR_EXPIRED = 18,     /**< The window ran out; resumable by extending it. */
    TOW_ERROR_TIMEOUT = 19,     /**< What was waited for did not come in time; the job goes on. */
    TOW_ERROR_CALLED_OFF = 20,  /**< The cutover was called off; the job goes on as before it. */
    TOW_ERROR_OUTPUT = 21       /**< All is done, and what says so could not be written. */
} tow_error_code_t;

/** What may be done after an error; decided once, where the server is talked to. */
typedef enum {
    TOW_RETRY_NEVER = 0, /**< The same request fails again. */
    TOW_RETRY_SAME,      /**< Send it again on this connection. */
    TOW_RETRY_RECONNECT, /**< Send it again on a new connection: the outcome may be unknown. */
    TOW_RETRY_REFETCH    /**< The request is moot: read the keys again from the source. */
} tow_retry_t;

/** What a function that failed says. */
typedef struct {
    tow_error_code_t code; /**< Never TOW_OK after a failure. */
    tow_retry_t retry;     /**< For the engine; a caller may ignore it. */
    int server_code;       /**< The server's error number, or 0. */
    char message[1024];    /**< Lower case, no secrets, ends with what to do where that is known. */
    uint64_t reserved[4];  /**< Room for more: the size stays. */
} tow_error_t;

/** @name Options
 * @{ */

/** How the value of an option is written. */
typedef enum {
    TOW_OPTION_STRING,  /**< Any text. */
    TOW_OPTION_SECRET,  /**< A connection string: never printed. */
    TOW_OPTION_LIST,    /**< May be given several times; a comma separates in the environment. */
    TOW_OPTION_INTEGER, /**< Digits, within `range`. */
    TOW_OPTION_FLAG,    /**< "true" or "false". */
    TOW_OPTION_CHOICE,  /**< One of `range`, separated by '|'. */
    TOW_OPTION_DURATION /**< "120h", "1d12h", "90m", "45s": 1 s to 3650 d. */
} tow_option_type_t;

/** One row of the option table: parser, help, environment and the manual pages come from it. */
typedef struct {
    const char *name;        /**< Without dashes: "memory". */
    const char *environment; /**< "TOWLINE_MEMORY". */
    tow_option_type_t type;  /**< How it is written. */
    const char *unit;        /**< "MB", "URI", "" … shown in help. */
    const char *range;       /**< Choices, or "1..1024", or "". */
    const char *initial;     /**< Default as text, "" for none. */
    const char *verbs;       /**< Verbs that take it, with spaces between: "run verify". */
    const char *help;        /**< One sentence without its full stop. */
    const char *group;       /**< Heading in help: "Verification". */
    const void *reserved[3]; /**< Room for more: the size stays. */
} tow_option_t;

/** A set of options. */
typedef struct tow_options tow_options_t;

/** All options there are, as an array of *out_count rows. */
TOW_API const tow_option_t *tow_options_table(size_t *out_count);
/** A set with the defaults. */
TOW_API tow_options_t *tow_options_new(void);
/** Frees a set; jobs that were made of it keep what they need. */
TOW_API void tow_options_destroy(tow_options_t *options);
/** Sets one option from text; a LIST grows by one. TOW_ERROR_OPTION names option, value and what
 * was expected. */
TOW_API bool tow_options_set(tow_options_t *options, const char *name, const char *value,
                             tow_error_t *error);
/** Sets options from a YAML file: one mapping of option names (or mongosync's) to values, see
 * towline.yaml(5). TOW_ERROR_OPTION names file, line and key: unknown, of a wrong type, given
 * twice, out of range, not supported. */
TOW_API bool tow_options_load(tow_options_t *options, const char *path, tow_error_t *error);
/** What is set from now on replaces what was set before, also lists, and a URI its file's
 * option. */
TOW_API void tow_options_override(tow_options_t *options);
/** The value as text (the default when unset, NULL when there is none); borrowed. For a LIST, entry
 * `index`. */
TOW_API const char *tow_options_get(const tow_options_t *options, const char *name, size_t index);
/** The same as it may be shown: a SECRET without user, password and other secrets. Owned by the
 * caller, NULL where tow_options_get() gives NULL. */
TOW_API char *tow_options_shown(const tow_options_t *options, const char *name, size_t index);
/** The hosts of "source" or "destination" without credentials, also when they stand in a file;
 * NULL: not given, or the file cannot be read. Owned by the caller. */
TOW_API char *tow_options_address(const tow_options_t *options, const char *side);
/** A copy that has the same options set. */
TOW_API tow_options_t *tow_options_copy(const tow_options_t *options);
/** Sets an option by mongosync's name for it: cluster0, port, verbosity … TOW_ERROR_OPTION: it is
 * none of these, or one that has no counterpart, with the reason. */
TOW_API bool tow_options_set_foreign(tow_options_t *options, const char *name, const char *value,
                                     tow_error_t *error);
/** Whether mongosync has an option of this name; *out_flag: it takes no value. */
TOW_API bool tow_options_is_foreign(const char *name, bool *out_flag);
/** Whether it was set, rather than being the default. */
TOW_API bool tow_options_is_set(const tow_options_t *options, const char *name);
/** @} */

/** @name Progress of a job
 * @{ */

/** Where a job is:
 *
 *     new → validating → preparing → copying → catching-up → in-sync → finalizing → done
 *     finalizing → catching-up when the cutover is called off
 *     and from any of them: paused (and back), failed, expired, cancelled
 */
typedef enum {
    TOW_PHASE_NEW,         /**< Not started. */
    TOW_PHASE_VALIDATING,  /**< Making the checks of tow_check(). */
    TOW_PHASE_PREPARING,   /**< Opening the change stream, making collections. */
    TOW_PHASE_COPYING,     /**< Copying what there is, while changes are collected. */
    TOW_PHASE_CATCHING_UP, /**< Applying the changes that were collected. */
    TOW_PHASE_IN_SYNC,     /**< Following within seconds: a cutover may be asked for. */
    TOW_PHASE_FINALIZING,  /**< Cutting over. */
    TOW_PHASE_DONE,        /**< Cut over and verified. */
    TOW_PHASE_PAUSED,      /**< By tow_job_pause(). */
    TOW_PHASE_FAILED,      /**< Ended by an error or by tow_job_stop(); resumable. */
    TOW_PHASE_EXPIRED,     /**< The window ran out. */
    TOW_PHASE_CANCELLED    /**< Given up by tow_job_cancel(). */
} tow_phase_t;

/** The name of a phase, as "catching-up". */
TOW_API const char *tow_phase_name(tow_phase_t phase);
/** Whether it is done, failed, expired or cancelled. */
TOW_API bool tow_phase_is_final(tow_phase_t phase);

/** A cluster time; {0, 0} is "none yet". */
typedef struct {
    uint32_t t; /**< Seconds since 1970. */
    uint32_t i; /**< The increment within the second. */
} tow_timestamp_t;

/** How far a cutover is: none → confirmed → finalizing → done, and back to none when it is called
 * off. */
typedef enum {
    TOW_CUTOVER_NONE,       /**< Nobody asked for one. */
    TOW_CUTOVER_CONFIRMED,  /**< Asked for; about to begin. */
    TOW_CUTOVER_FINALIZING, /**< Replaying to `stop`, indexes and TTL, comparing what is left. */
    TOW_CUTOVER_DONE        /**< The destination is complete. */
} tow_cutover_step_t;

/** The name of a step, as "finalizing". */
TOW_API const char *tow_cutover_step_name(tow_cutover_step_t step);

/** A snapshot of a job. All counts are since the job began. */
typedef struct {
    tow_phase_t phase;            /**< Where the job is. */
    bool can_commit;              /**< A cutover would be accepted now. */
    tow_cutover_step_t cutover;   /**< How far one is. */
    double cutover_seconds;       /**< That finalizing still takes, as measured; -1: not known. */
    bool writes_blocked;          /**< At the source, by this job. */
    uint64_t late_writes;         /**< Changes read since the last cutover was confirmed. */
    char reason[256];             /**< Why it cannot be committed, or why it failed, or "". */
    double elapsed_seconds;       /**< Since the start of this process's part of the job. */
    uint64_t estimated_documents; /**< Of the initial copy. */
    uint64_t estimated_bytes;     /**< Of the initial copy. */
    uint64_t copied_documents;    /**< By the initial copy so far. */
    uint64_t copied_bytes;        /**< By the initial copy so far. */
    uint32_t collections_total;   /**< To be copied. */
    uint32_t collections_copied;  /**< Of these. */
    uint32_t ranges_total;        /**< Of all collections. */
    uint32_t ranges_copied;       /**< Of these. */
    uint32_t indexes_total;       /**< To be built. */
    uint32_t indexes_built;       /**< Of these. */
    uint64_t events_seen;         /**< In the change stream. */
    uint64_t events_skipped;      /**< The copy had already read what they say. */
    uint64_t events_applied;      /**< Directly, or as a refetched key. */
    uint64_t keys_dirty;          /**< Keys whose documents are to be read again. */
    uint64_t keys_refetched;      /**< Keys whose documents were read again. */
    uint64_t statements_applied;  /**< Sent to the destination by the replay. */
    uint64_t spool_bytes;         /**< On disk, waiting to be applied. */
    uint64_t dirty_bytes;         /**< Memory that dirty keys take. */
    uint64_t backlog_events;      /**< Read and not settled yet. */
    bool direct_mode;             /**< Events are applied as they come, not as keys. */
    int64_t lag_ms;               /**< Of the destination; -1: not known yet. */
    tow_timestamp_t source_time;  /**< The source's last majority operation. */
    tow_timestamp_t start;        /**< Where the stream was opened. */
    tow_timestamp_t read;         /**< Of the last event received. */
    tow_timestamp_t spooled;      /**< Of the last event that is durable in the spool. */
    tow_timestamp_t floor;        /**< Every event up to here is settled. */
    tow_timestamp_t checkpoint;   /**< The floor as stored on the destination. */
    tow_timestamp_t consistent;   /**< When the last range of the copy was read. */
    tow_timestamp_t stop;         /**< The end of the replay, once writes have stopped. */
    tow_timestamp_t verified;     /**< Every range was compared equal up to here. */
    uint64_t verified_documents;  /**< Compared so far. */
    uint64_t verified_bytes;      /**< Compared so far. */
    uint64_t verify_total_documents; /**< To be compared, an estimate. */
    uint64_t retries;                /**< Server calls sent again. */
    char retrying[192];              /**< What is being retried now, or "". */
    double source_ping_ms;           /**< Round trip to the source. */
    double destination_ping_ms;      /**< Round trip to the destination. */
    int64_t source_silent_ms;        /**< Since its last answer; 0: it answers. */
    int64_t destination_silent_ms;   /**< Since its last answer; 0: it answers. */
    int64_t moved_ms;                /**< Since 1970: when floor or copy last moved, or 0. */
    double oplog_headroom_seconds;   /**< That the source's oplog reaches back before the job's
                                          position; -1: not known. */
    int64_t window_length_ms;        /**< As asked for and extended. */
    int64_t window_end_ms;           /**< Since 1970; 0: it has not begun. */
    int64_t window_left_ms;          /**< -1: it has not begun. */
} tow_progress_t;
/** @} */

/** @name Events
 * @{ */

/** How much an event matters. */
typedef enum {
    TOW_LEVEL_DEBUG,   /**< For those who look for a fault. */
    TOW_LEVEL_INFO,    /**< The course of the job. */
    TOW_LEVEL_WARNING, /**< Somebody should know. */
    TOW_LEVEL_ERROR    /**< Somebody must do something. */
} tow_level_t;

/** Something happened. `name` is stable ("copy_finished"), `message` is for people, both are
 * borrowed. Called from the job's threads, one call at a time, and holds up the job: it returns
 * soon. It may call any function of the job but _wait, _run and _destroy; what it asks for may be
 * an event itself, which comes before that call returns. */
typedef void (*tow_event_fn)(void *data, tow_level_t level, const char *name, const char *message);

/** A job. */
typedef struct tow_job tow_job_t;

/** Calls `fn` for each event, with `data`. Before the start; at most four listeners, queues
 * included: false when there are four. */
TOW_API bool tow_job_on_event(tow_job_t *job, tow_event_fn fn, void *data);

/** Events that wait until a thread of the caller's takes them: for hosts that no foreign thread may
 * call, such as interpreters. Holds the newest 1024. */
typedef struct tow_event_queue tow_event_queue_t;

/** An event that was taken. It grows at its end alone. */
typedef struct {
    tow_level_t level;   /**< How much it matters. */
    int64_t time_ms;     /**< Since 1970. */
    const char *name;    /**< Stable: "copy_finished". */
    const char *message; /**< For people. */
    uint64_t lost;       /**< Events before this one that were not taken in time. */
} tow_queued_event_t;

/** A queue of the job's events. Before the start; NULL when the job has four listeners. */
TOW_API tow_event_queue_t *tow_event_queue_new(tow_job_t *job);
/** The next event, which is valid until the next call; waits at most `wait_ms` for it, or for as
 * long as it takes when that is negative. NULL: none came in time, or it is over: the job has ended
 * and all was taken, or the queue was closed. */
TOW_API const tow_queued_event_t *tow_event_queue_next(tow_event_queue_t *queue, int wait_ms);
/** Ends all waiting for events of this queue; from any thread. */
TOW_API void tow_event_queue_close(tow_event_queue_t *queue);
/** Frees it. After tow_job_destroy(). */
TOW_API void tow_event_queue_destroy(tow_event_queue_t *queue);
/** @} */

/** @name Jobs
 * @{ */

/** Checks the options; talks to no server. TOW_ERROR_OPTION. */
TOW_API tow_job_t *tow_job_new(const tow_options_t *options, tow_error_t *error);
/** Frees it; one that runs is stopped at a checkpoint before, and waited for. */
TOW_API void tow_job_destroy(tow_job_t *job);
/** Returns as soon as the job runs. TOW_ERROR_OPTION: a URI cannot be used; nothing was dialled. */
TOW_API bool tow_job_start(tow_job_t *job, tow_error_t *error);
/** Waits for the end, however it ends. True: done, cut over, verified. */
TOW_API bool tow_job_wait(tow_job_t *job, tow_error_t *error);
/** Waits at most `wait_ms`; true when the job has ended. */
TOW_API bool tow_job_ended(tow_job_t *job, int wait_ms);
/** Start and wait. */
TOW_API bool tow_job_run(tow_job_t *job, tow_error_t *error);
/** tow_job_progress() for a structure of `size` bytes: an older and smaller one is filled as far as
 * it goes, what a newer one has besides is zero. */
TOW_API void tow_job_progress_sized(tow_job_t *job, tow_progress_t *out, size_t size);
/** A snapshot of where the job is. */
static inline void tow_job_progress(tow_job_t *job, tow_progress_t *out)
{
    tow_job_progress_sized(job, out, sizeof *out);
}
/** The job's name: --job. */
TOW_API const char *tow_job_name(const tow_job_t *job);
/** Stops applying changes; reading goes on. TOW_ERROR_STATE: the phase does not allow it. */
TOW_API bool tow_job_pause(tow_job_t *job, tow_error_t *error);
/** Applies changes again. TOW_ERROR_STATE: the phase does not allow it. */
TOW_API bool tow_job_resume(tow_job_t *job, tow_error_t *error);
/** The caller confirms that nothing writes to the source any more. Writes that come all the same
 * are applied and delay the end; when they do not cease the cutover is called off (event
 * "cutover_called_off"), and the job goes on as before. TOW_ERROR_NOT_IN_SYNC, with the reason;
 * TOW_ERROR_STATE. */
TOW_API bool tow_job_cutover(tow_job_t *job, tow_error_t *error);
/** The same, and the job itself blocks the writes at the source (6.0+) until it is done or fails;
 * TOW_ERROR_UNSUITABLE: the server is too old. After a good end they stay blocked. */
TOW_API bool tow_job_cutover_blocking(tow_job_t *job, tow_error_t *error);
/** Calls off a cutover that was asked for or has begun: the job goes back to where it was before,
 * in sync, and nothing is lost. It returns at once; the event "cutover_called_off" says when it is
 * done. One of --cutover auto then waits to be asked. TOW_ERROR_STATE: there is none, or it has
 * passed its point of no return. */
TOW_API bool tow_job_call_off(tow_job_t *job, tow_error_t *error);
/** Adds time to the window, from now when it has not begun or was about to end. TOW_ERROR_STATE:
 * the job is over or cuts over; TOW_ERROR_OPTION: not 1 s to 3650 d. */
TOW_API bool tow_job_extend(tow_job_t *job, int64_t seconds, tow_error_t *error);
/** Ends the job for good: the source stays untouched, the destination keeps what was copied, the
 * job's state is removed. TOW_ERROR_STATE: it is over, or about to be. */
TOW_API bool tow_job_cancel(tow_job_t *job, tow_error_t *error);
/** Forgets what the background verification compared, so that it compares everything again.
 * TOW_ERROR_STATE: it does not run. */
TOW_API bool tow_job_verify_again(tow_job_t *job, tow_error_t *error);
/** What a cancelled job leaves on the destination, and how to clear it: one sentence, by what was
 * copied so far. */
TOW_API char *tow_job_remains(tow_job_t *job);
/** Ends this process's work with a checkpoint, and returns at once; the same options continue
 * later. */
TOW_API void tow_job_stop(tow_job_t *job);
/** Progress as one line of JSON: the object `progress` of GET /api/v1/progress. */
TOW_API char *tow_job_progress_json(tow_job_t *job);
/** The largest collections, at most `limit`, as JSON: {"total", "collections": [{"ns", "state":
 * "waiting" | "copying" | "copied", "estimatedDocuments", "estimatedBytes", "rangesTotal",
 * "rangesCopied"}]}; none before the copy was prepared and after the end. */
TOW_API char *tow_job_collections_json(tow_job_t *job, uint32_t limit);
/** The summary as JSON (engine/docs/progress.md); NULL before the end of the job. */
TOW_API char *tow_job_summary_json(tow_job_t *job);
/** The end was told to whom it concerns. Until then the job's state stays on the destination,
 * marked as ended, and the same options end well again after a kill. It goes soon after this call;
 * tow_job_destroy() says the same. */
TOW_API void tow_job_told(tow_job_t *job);
/** Says the same, and waits until the job's state is gone. */
TOW_API void tow_job_settled(tow_job_t *job);
/** @} */

/** @name The control server
 * HTTP API, metrics and page, for one job or for one after another. All functions but _new, _attach
 * and _destroy may be called from any thread.
 * @{ */

/** A control server. */
typedef struct tow_server tow_server_t;

/** It listens as --listen says (port 0 takes a free one), asks for a token unless --no-token, and
 * speaks TLS with --tls-cert and --tls-key; `options` (copied) are also what a start by a request
 * builds on. `listener` (may be NULL) gets the events of the jobs that it starts. TOW_ERROR_OPTION,
 * TOW_ERROR_CONTROL: it cannot listen. */
TOW_API tow_server_t *tow_server_new(const tow_options_t *options, tow_event_fn listener,
                                     void *data, tow_error_t *error);
/** Serves this job, which stays the caller's, is not started yet, and outlives the server. */
TOW_API void tow_server_attach(tow_server_t *server, tow_job_t *job);
/** What POST /api/v1/start does. TOW_ERROR_STATE: a job is running. */
TOW_API bool tow_server_start(tow_server_t *server, const tow_options_t *options,
                              tow_error_t *error);
/** The port that it listens on. */
TOW_API int tow_server_port(const tow_server_t *server);
/** Address of the page; with_token: one that opens it. The caller frees it. */
TOW_API char *tow_server_address(const tow_server_t *server, bool with_token);
/** Stops the job that it started at a checkpoint; no other is started. */
TOW_API void tow_server_stop(tow_server_t *server);
/** Stops as tow_server_stop() does, waits, and frees it. */
TOW_API void tow_server_destroy(tow_server_t *server);
/** The token that a server of these options asks for, "" for none; made when there is none yet. The
 * caller frees it. NULL with TOW_ERROR_OPTION or TOW_ERROR_CONTROL. */
TOW_API char *tow_token(const tow_options_t *options, tow_error_t *error);
/** @} */

/** @name Without a job
 * @{ */

/** Makes every check that comes before a start, all of them even when one fails, and writes
 * nothing. False with the first failure as the error. *out_json is NULL only when the options
 * cannot be used: {"ok", "exitStatus", "job", "source", "destination", "passed", "warnings",
 * "failures", "skipped", "checks": [{"name", "result", "facts", "advice", "exitStatus"}]}. */
TOW_API bool tow_check(const tow_options_t *options, char **out_json, tow_error_t *error);
/** The same, and what a job would copy: collections, sizes, ranges, estimated time. */
TOW_API bool tow_plan(const tow_options_t *options, char **out_json, tow_error_t *error);
/** Compares source and destination of `options` once. *out_report_json is set whenever the
 * comparison came to an end (also when it found differences: false with TOW_ERROR_VERIFY). */
TOW_API bool tow_verify(const tow_options_t *options, char **out_report_json, tow_error_t *error);

/** What tow_verify_watched() calls meanwhile. Clear it before it is filled. */
typedef struct {
    void *data;         /**< First argument of the functions. */
    tow_event_fn event; /**< May be NULL. */
    /** May be NULL. Documents and bytes of the source compared so far, and an estimate of all
     * documents; from a thread of its own, also a last time. */
    void (*progress)(void *data, uint64_t documents, uint64_t bytes, uint64_t total_documents);
    int progress_ms; /**< How often `progress` is called. */
    /** May be NULL. Called once, as soon as the report (borrowed) is known; until the call returns
     * the connections are closed, which takes a moment. */
    void (*report)(void *data, const char *report_json);
} tow_verify_watch_t;

/** tow_verify_watched() with a structure of `size` bytes, which may be of an older header. */
TOW_API bool tow_verify_watched_sized(const tow_options_t *options, const tow_verify_watch_t *watch,
                                      size_t size, char **out_report_json, tow_error_t *error);
/** tow_verify(), watched. */
static inline bool tow_verify_watched(const tow_options_t *options, const tow_verify_watch_t *watch,
                                      char **out_report_json, tow_error_t *error)
{
    return tow_verify_watched_sized(options, watch, sizeof *watch, out_report_json, error);
}

/** Sends a test notice through every channel that the options name. TOW_ERROR_OPTION: they name
 * none; TOW_ERROR_UNREACHABLE: one was not taken, and why. */
TOW_API bool tow_notify_test(const tow_options_t *options, tow_error_t *error);
/** @} */

/** @name The process
 * @{ */

/** Frees what a function gave to the caller. */
TOW_API void tow_free(void *memory);
/** Waits at most `wait_ms` for the threads that destroyed jobs have left to servers that do not
 * answer. True: there are none, and exit() is safe. */
TOW_API bool tow_threads_ended(int wait_ms);
/** What is done when memory runs out, here and in libbson, instead of abort(). `end` ends the
 * process: it must neither return nor allocate. Before any other call. */
TOW_API void tow_on_out_of_memory(void (*end)(void));
/** From now on what libmongoc logs while jobs run is an event, "driver_warning", instead of a line
 * on stderr: sets libmongoc's log handler, once for the whole process. Without it that handler
 * stays the host's. */
TOW_API void tow_take_driver_log(void);
/** @} */

#ifdef __cplusplus
}
#endif
#endif
