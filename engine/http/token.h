/* SPDX-License-Identifier: Apache-2.0 */
/* token.h: the bearer token: a secret of the user's, in a file that only he can read. */
#ifndef TOW_HTTP_TOKEN_H
#define TOW_HTTP_TOKEN_H

#include "engine/base/error.h"
#include "engine/towline.h"

/* The token that --token-file names, or the user's own, which is made when there is none yet. NULL
 * in *out: --no-token. The caller frees it. */
bool tow_token_load(const tow_options_t *options, char **out, tow_error_t *error) TOW_CHECK;
/* Whether "Bearer …" of a request is this token; takes as long for a wrong one as for the right
 * one. */
bool tow_token_fits(const char *token, const char *authorization);

/* A token that the page shows instead of the user's: in memory alone, and worth nothing once this
 * process is gone, since anybody may listen on its port then. The caller frees it. */
char *tow_page_token(void);
/* What shows that we know a token, without the token: HMAC-SHA-256 of the nonce, in hexadecimal.
 * The caller frees it. */
char *tow_page_proof(const char *token, const char *nonce);

#endif
