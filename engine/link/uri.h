/* SPDX-License-Identifier: Apache-2.0 */
/* uri.h: a connection string as the driver reads it, before anything is dialled. */
#ifndef TOW_LINK_URI_H
#define TOW_LINK_URI_H

#include <stdbool.h>

#include "engine/base/error.h"

typedef struct _mongoc_uri_t mongoc_uri_t;

/* Reads it as its owner meant it. `side`: "source" | "destination". *out_unheeded (NULL: not
 * wanted) is what the driver passes over, such as options that it does not know, or NULL; owned by
 * the caller. TOW_ERROR_OPTION: it cannot be used, and why, or what looks like an option about TLS
 * or login would be passed over. No message has any part of a password. */
mongoc_uri_t *tow_uri_read(const char *text, const char *side, char **out_unheeded,
                           tow_error_t *error);
/* Whether it can be read. */
bool tow_uri_try(const char *text, const char *side, char **out_unheeded,
                 tow_error_t *error) TOW_CHECK;

#endif
