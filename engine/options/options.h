/* SPDX-License-Identifier: Apache-2.0 */
/* options.h: what the library reads from options beyond towline.h. */
#ifndef TOW_OPTIONS_H
#define TOW_OPTIONS_H

#include "engine/base/error.h"
#include "engine/base/uri.h"

/* The URI of "source" or "destination", given directly or in a file. Owned by the caller.
 * TOW_ERROR_OPTION: neither given, both given, or the file cannot be read. */
bool tow_options_uri(const tow_options_t *options, const char *side, char **out,
                     tow_error_t *error);

/* The first line of the file that an option names; *out NULL when it is not set. Owned by the
 * caller. */
bool tow_options_file(const tow_options_t *options, const char *name, char **out,
                      tow_error_t *error);

#endif
