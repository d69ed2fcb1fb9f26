/* SPDX-License-Identifier: Apache-2.0 */
/* uri.h: connection strings as they may be shown. */
#ifndef TOW_BASE_URI_H
#define TOW_BASE_URI_H

#include <stdbool.h>
#include <stddef.h>

/* Both are for anything that somebody took for a URI. Only hosts, database and such options and
 * values are let through as are known to be harmless; what cannot be read as
 * SCHEME://[USER:PASSWORD@]HOST[:PORT],…
 * [/DATABASE][?OPTIONS] is hidden as a whole, since a part of it may be a password. Owned by the
 * caller. */
/* What is left out is marked with three asterisks: before an @, as a value, or for all of it. */
char *tow_uri_shown(const char *uri);
/* What is left out leaves no trace: to copy, and to connect to. */
char *tow_uri_address(const char *uri);
/* Of a page's address, whose path often is the secret: scheme and hosts, all else marked. */
char *tow_uri_site(const char *url);

/* Whether a name of that length is among them; a small letter is its large one. */
bool tow_uri_is_one_of(const char *const *names, size_t count, const char *name, size_t length);
/* Whether drivers know an option of that name, whose value is no secret. */
bool tow_uri_is_option(const char *name, size_t length);

#endif
