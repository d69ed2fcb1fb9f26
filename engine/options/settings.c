/* SPDX-License-Identifier: Apache-2.0 */
/* settings.c: see settings.h. */
#include "engine/options/settings.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/duration.h"
#include "engine/base/memory.h"
#include "engine/link/uri.h"
#include "engine/options/options.h"

bool tow_options_flag(const tow_options_t *options, const char *name)
{
    const char *value = tow_options_get(options, name, 0);

    return value && !strcmp(value, "true");
}

uint64_t tow_options_integer(const tow_options_t *options, const char *name)
{
    return strtoull(tow_options_get(options, name, 0), NULL, 10);
}

tow_verify_mode_t tow_options_verify_mode(const tow_options_t *options)
{
    const char *mode = tow_options_get(options, "verify-mode", 0);

    return !strcmp(mode, "field-order")    ? TOW_VERIFY_FIELD_ORDER
           : !strcmp(mode, "numeric-type") ? TOW_VERIFY_NUMERIC_TYPE
                                           : TOW_VERIFY_BYTES;
}

void tow_options_indexes(const tow_options_t *options, tow_indexes_shown_t *out_shown,
                         bool *out_first)
{
    const char *choice = tow_options_get(options, "build-indexes", 0);

    *out_shown = !strcmp(choice, "never")                ? TOW_INDEXES_NONE
                 : !strncmp(choice, "excludeHashed", 13) ? TOW_INDEXES_NOT_HASHED
                                                         : TOW_INDEXES_ALL;
    *out_first = !strcmp(choice, "beforeDataCopy") || !strcmp(choice, "excludeHashed");
}

bool tow_options_filter(const tow_options_t *options, tow_filter_t *filter, tow_error_t *error)
{
    const char *value;

    for (size_t i = 0; (value = tow_options_get(options, "include", i)); i++)
        if (!tow_filter_include(filter, value, error))
            return tow_fail_context(error, "--include");
    for (size_t i = 0; (value = tow_options_get(options, "exclude", i)); i++)
        if (!tow_filter_exclude(filter, value, error))
            return tow_fail_context(error, "--exclude");
    return true;
}

const char *tow_options_uri_option(const tow_options_t *options, const char *side)
{
    bool source = !strcmp(side, "source");

    if (tow_options_is_set(options, source ? "source-file" : "destination-file"))
        return source ? "source-file" : "destination-file";
    return source ? "source" : "destination";
}

bool tow_options_try_uri(const char *uri, const char *side, const char *option,
                         const tow_sink_t *sink, tow_error_t *error)
{
    char *unheeded;

    if (!tow_uri_try(uri, side, &unheeded, error))
        return tow_fail_context(error, "--%s", option);
    if (unheeded)
        tow_emit(sink, TOW_LEVEL_WARNING, "uri", "--%s: %s", option, unheeded);
    free(unheeded);
    return true;
}

static char *text(const tow_options_t *options, const char *name)
{
    const char *value = tow_options_get(options, name, 0);

    return tow_strdup(value ? value : "");
}

bool tow_config_read(const tow_options_t *options, tow_config_t *config, tow_error_t *error)
{
    if (!tow_options_uri(options, "source", &config->source_uri, error) ||
        !tow_options_uri(options, "destination", &config->destination_uri, error))
        return false;
    config->source_option = tow_options_uri_option(options, "source");
    config->destination_option = tow_options_uri_option(options, "destination");
    config->name = text(options, "job");
    config->spool = text(options, "spool");
    config->listen = text(options, "listen");
    if (!*config->spool)
        return tow_fail(error, TOW_ERROR_OPTION,
                        "there is no folder for the spool: this user has no home; "
                        "set HOME, or give --spool DIR");
    config->workers = (uint32_t)tow_options_integer(options, "workers");
    config->range_bytes = tow_options_integer(options, "range-size") << 20;
    config->memory_bytes = tow_options_integer(options, "memory") << 20;
    config->retry_window_ms = (int64_t)tow_options_integer(options, "retry-window") * 1000;
    tow_duration_parse(tow_options_get(options, "window", 0), &config->window_ms);
    if (tow_options_flag(options, "continuous")) {
        if (tow_options_is_set(options, "window") || tow_options_is_set(options, "extend"))
            return tow_fail(error, TOW_ERROR_OPTION,
                            "--continuous has no window: leave it out, or --window and --extend");
        config->window_ms = 0;
    }
    tow_duration_parse(tow_options_get(options, "lease", 0), &config->lease_ms);
    if (tow_options_get(options, "extend", 0))
        tow_duration_parse(tow_options_get(options, "extend", 0), &config->extend_ms);
    config->manual = !strcmp(tow_options_get(options, "cutover", 0), "manual");
    config->verify = !tow_options_flag(options, "no-verify");
    config->verify_repair = !strcmp(tow_options_get(options, "verify-repair", 0), "yes");
    config->verify_mode = tow_options_verify_mode(options);
    config->verify_rate = tow_options_integer(options, "verify-rate") * 1000000;
    config->max_differences = (uint32_t)tow_options_integer(options, "max-differences");
    config->clear_destination = tow_options_flag(options, "clear-destination");
    config->keep_state = tow_options_flag(options, "keep-state");
    config->block_writes = tow_options_flag(options, "block-writes");
    config->remove_user = tow_options_flag(options, "remove-user");
    config->destination_address = tow_uri_address(config->destination_uri);
    config->index_errors_fail = strcmp(tow_options_get(options, "index-errors", 0), "report") != 0;
    tow_options_indexes(options, &config->indexes, &config->indexes_first);
    return true;
}

void tow_config_clear(tow_config_t *config)
{
    free(config->source_uri);
    free(config->destination_uri);
    free(config->name);
    free(config->spool);
    free(config->listen);
    free(config->destination_address);
}

uint32_t tow_config_connections(const tow_config_t *config)
{
    return config->workers * 4 + 32;
}
