# SPDX-License-Identifier: Apache-2.0
"""What towline.h declares: made by engine/python/declarations --write."""

CDEF = """\
const char *tow_version(void);
typedef enum {
    TOW_OK = 0,
    TOW_ERROR_INTERNAL = 1,
    TOW_ERROR_OPTION = 2,
    TOW_ERROR_UNREACHABLE = 3,
    TOW_ERROR_UNSUITABLE = 4,
    TOW_ERROR_CONFLICT = 5,
    TOW_ERROR_SETTINGS = 6,
    TOW_ERROR_LEASE = 7,
    TOW_ERROR_SERVER = 8,
    TOW_ERROR_HISTORY_LOST = 9,
    TOW_ERROR_SPOOL = 10,
    TOW_ERROR_INDEX = 11,
    TOW_ERROR_VERIFY = 12,
    TOW_ERROR_NOT_IN_SYNC = 13,
    TOW_ERROR_STATE = 14,
    TOW_ERROR_CONTROL = 15,
    TOW_ERROR_INTERRUPTED = 16,
    TOW_ERROR_CANCELLED = 17,
    TOW_ERROR_EXPIRED = 18,
    TOW_ERROR_TIMEOUT = 19,
    TOW_ERROR_CALLED_OFF = 20,
    TOW_ERROR_OUTPUT = 21
} tow_error_code_t;
typedef enum {
    TOW_RETRY_NEVER = 0,
    TOW_RETRY_SAME,
    TOW_RETRY_RECONNECT,
    TOW_RETRY_REFETCH
} tow_retry_t;
typedef struct {
    tow_error_code_t code;
    tow_retry_t retry;
    int server_code;
    char message[1024];
    uint64_t reserved[4];
} tow_error_t;
typedef enum {
    TOW_OPTION_STRING,
    TOW_OPTION_SECRET,
    TOW_OPTION_LIST,
    TOW_OPTION_INTEGER,
    TOW_OPTION_FLAG,
    TOW_OPTION_CHOICE,
    TOW_OPTION_DURATION
} tow_option_type_t;
typedef struct {
    const char *name;
    const char *environment;
    tow_option_type_t type;
    const char *unit;
    const char *range;
    const char *initial;
    const char *verbs;
    const char *help;
    const char *group;
    const void *reserved[3];
} tow_option_t;
typedef struct tow_options tow_options_t;
const tow_option_t *tow_options_table(size_t *out_count);
tow_options_t *tow_options_new(void);
void tow_options_destroy(tow_options_t *options);
bool tow_options_set(tow_options_t *options, const char *name, const char *value,
                             tow_error_t *error);
bool tow_options_load(tow_options_t *options, const char *path, tow_error_t *error);
void tow_options_override(tow_options_t *options);
const char *tow_options_get(const tow_options_t *options, const char *name, size_t index);
char *tow_options_shown(const tow_options_t *options, const char *name, size_t index);
char *tow_options_address(const tow_options_t *options, const char *side);
tow_options_t *tow_options_copy(const tow_options_t *options);
bool tow_options_set_foreign(tow_options_t *options, const char *name, const char *value,
                                     tow_error_t *error);
bool tow_options_is_foreign(const char *name, bool *out_flag);
bool tow_options_is_set(const tow_options_t *options, const char *name);
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
const char *tow_phase_name(tow_phase_t phase);
bool tow_phase_is_final(tow_phase_t phase);
typedef struct {
    uint32_t t;
    uint32_t i;
} tow_timestamp_t;
typedef enum {
    TOW_CUTOVER_NONE,
    TOW_CUTOVER_CONFIRMED,
    TOW_CUTOVER_FINALIZING,
    TOW_CUTOVER_DONE
} tow_cutover_step_t;
const char *tow_cutover_step_name(tow_cutover_step_t step);
typedef struct {
    tow_phase_t phase;
    bool can_commit;
    tow_cutover_step_t cutover;
    double cutover_seconds;
    bool writes_blocked;
    uint64_t late_writes;
    char reason[256];
    double elapsed_seconds;
    uint64_t estimated_documents;
    uint64_t estimated_bytes;
    uint64_t copied_documents;
    uint64_t copied_bytes;
    uint32_t collections_total;
    uint32_t collections_copied;
    uint32_t ranges_total;
    uint32_t ranges_copied;
    uint32_t indexes_total;
    uint32_t indexes_built;
    uint64_t events_seen;
    uint64_t events_skipped;
    uint64_t events_applied;
    uint64_t keys_dirty;
    uint64_t keys_refetched;
    uint64_t statements_applied;
    uint64_t spool_bytes;
    uint64_t dirty_bytes;
    uint64_t backlog_events;
    bool direct_mode;
    int64_t lag_ms;
    tow_timestamp_t source_time;
    tow_timestamp_t start;
    tow_timestamp_t read;
    tow_timestamp_t spooled;
    tow_timestamp_t floor;
    tow_timestamp_t checkpoint;
    tow_timestamp_t consistent;
    tow_timestamp_t stop;
    tow_timestamp_t verified;
    uint64_t verified_documents;
    uint64_t verified_bytes;
    uint64_t verify_total_documents;
    uint64_t retries;
    char retrying[192];
    double source_ping_ms;
    double destination_ping_ms;
    int64_t source_silent_ms;
    int64_t destination_silent_ms;
    int64_t moved_ms;
    double oplog_headroom_seconds;
    int64_t window_length_ms;
    int64_t window_end_ms;
    int64_t window_left_ms;
} tow_progress_t;
typedef enum {
    TOW_LEVEL_DEBUG,
    TOW_LEVEL_INFO,
    TOW_LEVEL_WARNING,
    TOW_LEVEL_ERROR
} tow_level_t;
typedef void (*tow_event_fn)(void *data, tow_level_t level, const char *name, const char *message);
typedef struct tow_job tow_job_t;
bool tow_job_on_event(tow_job_t *job, tow_event_fn fn, void *data);
typedef struct tow_event_queue tow_event_queue_t;
typedef struct {
    tow_level_t level;
    int64_t time_ms;
    const char *name;
    const char *message;
    uint64_t lost;
} tow_queued_event_t;
tow_event_queue_t *tow_event_queue_new(tow_job_t *job);
const tow_queued_event_t *tow_event_queue_next(tow_event_queue_t *queue, int wait_ms);
void tow_event_queue_close(tow_event_queue_t *queue);
void tow_event_queue_destroy(tow_event_queue_t *queue);
tow_job_t *tow_job_new(const tow_options_t *options, tow_error_t *error);
void tow_job_destroy(tow_job_t *job);
bool tow_job_start(tow_job_t *job, tow_error_t *error);
bool tow_job_wait(tow_job_t *job, tow_error_t *error);
bool tow_job_ended(tow_job_t *job, int wait_ms);
bool tow_job_run(tow_job_t *job, tow_error_t *error);
void tow_job_progress_sized(tow_job_t *job, tow_progress_t *out, size_t size);
const char *tow_job_name(const tow_job_t *job);
bool tow_job_pause(tow_job_t *job, tow_error_t *error);
bool tow_job_resume(tow_job_t *job, tow_error_t *error);
bool tow_job_cutover(tow_job_t *job, tow_error_t *error);
bool tow_job_cutover_blocking(tow_job_t *job, tow_error_t *error);
bool tow_job_call_off(tow_job_t *job, tow_error_t *error);
bool tow_job_extend(tow_job_t *job, int64_t seconds, tow_error_t *error);
bool tow_job_cancel(tow_job_t *job, tow_error_t *error);
bool tow_job_verify_again(tow_job_t *job, tow_error_t *error);
char *tow_job_remains(tow_job_t *job);
void tow_job_stop(tow_job_t *job);
char *tow_job_progress_json(tow_job_t *job);
char *tow_job_collections_json(tow_job_t *job, uint32_t limit);
char *tow_job_summary_json(tow_job_t *job);
void tow_job_told(tow_job_t *job);
void tow_job_settled(tow_job_t *job);
typedef struct tow_server tow_server_t;
tow_server_t *tow_server_new(const tow_options_t *options, tow_event_fn listener,
                                     void *data, tow_error_t *error);
void tow_server_attach(tow_server_t *server, tow_job_t *job);
bool tow_server_start(tow_server_t *server, const tow_options_t *options,
                              tow_error_t *error);
int tow_server_port(const tow_server_t *server);
char *tow_server_address(const tow_server_t *server, bool with_token);
void tow_server_stop(tow_server_t *server);
void tow_server_destroy(tow_server_t *server);
char *tow_token(const tow_options_t *options, tow_error_t *error);
bool tow_check(const tow_options_t *options, char **out_json, tow_error_t *error);
bool tow_plan(const tow_options_t *options, char **out_json, tow_error_t *error);
bool tow_verify(const tow_options_t *options, char **out_report_json, tow_error_t *error);
typedef struct {
    void *data;
    tow_event_fn event;
    void (*progress)(void *data, uint64_t documents, uint64_t bytes, uint64_t total_documents);
    int progress_ms;
    void (*report)(void *data, const char *report_json);
} tow_verify_watch_t;
bool tow_verify_watched_sized(const tow_options_t *options, const tow_verify_watch_t *watch,
                                      size_t size, char **out_report_json, tow_error_t *error);
bool tow_notify_test(const tow_options_t *options, tow_error_t *error);
void tow_free(void *memory);
bool tow_threads_ended(int wait_ms);
void tow_on_out_of_memory(void (*end)(void));
void tow_take_driver_log(void);
"""
