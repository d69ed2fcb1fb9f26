/* SPDX-License-Identifier: Apache-2.0 */
/* settings.h: the options of a job as the job uses them. */
#ifndef TOW_OPTIONS_SETTINGS_H
#define TOW_OPTIONS_SETTINGS_H

#include "engine/link/link.h"
#include "engine/state/filter.h"
#include "engine/towline.h"
#include "verify/verify.h"

typedef struct {
    char *source_uri, *destination_uri, *name, *spool, *listen;
    const char *source_option,
        *destination_option; /* that gave the URIs: "source", "source-file" … */
    uint32_t workers;
    uint64_t range_bytes, memory_bytes;
    int64_t retry_window_ms, lease_ms;
    int64_t window_ms, extend_ms;
    uint32_t max_differences;
    tow_verify_mode_t verify_mode;
    uint64_t verify_rate; /* bytes a second of either side; 0: only at the cutover */
    bool manual, verify, verify_repair, clear_destination, keep_state, index_errors_fail,
        indexes_first;
    tow_indexes_shown_t indexes;
    bool block_writes, remove_user;
    char *destination_address; /* the URI without user, password and other secrets */
} tow_config_t;

/* Fills *config, which is zero before; tow_config_clear is due also after an error.
 * TOW_ERROR_OPTION. */
bool tow_config_read(const tow_options_t *options, tow_config_t *config,
                     tow_error_t *error) TOW_CHECK;
void tow_config_clear(tow_config_t *config);

/* The option that gives the URI of "source" or "destination". */
const char *tow_options_uri_option(const tow_options_t *options, const char *side);
/* Reads a URI, which dials nothing; what the driver passes over in it is an event. TOW_ERROR_OPTION
 * names the option and says what is wrong. */
bool tow_options_try_uri(const char *uri, const char *side, const char *option,
                         const tow_sink_t *sink, tow_error_t *error) TOW_CHECK;

/* Size of each side's pool. */
uint32_t tow_config_connections(const tow_config_t *config);

/* Single options, whose values the table has checked. An option that is not set is false. */
bool tow_options_flag(const tow_options_t *options, const char *name);
uint64_t tow_options_integer(const tow_options_t *options, const char *name);
tow_verify_mode_t tow_options_verify_mode(const tow_options_t *options);
/* --build-indexes. */
void tow_options_indexes(const tow_options_t *options, tow_indexes_shown_t *out_shown,
                         bool *out_first);
/* Adds --include and --exclude to a filter. */
bool tow_options_filter(const tow_options_t *options, tow_filter_t *filter,
                        tow_error_t *error) TOW_CHECK;

#endif
