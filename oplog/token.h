/* SPDX-License-Identifier: Apache-2.0 */
/* token.h: the cluster time inside a resume token. */
#ifndef TOW_OPLOG_TOKEN_H
#define TOW_OPLOG_TOKEN_H

#include <bson/bson.h>

#include "engine/link/link.h"

/* The cluster time of a real server's token {_data: "82" + 8 hex digits of seconds + 8 of increment
 * + …}. False for any other token: it is opaque. Source of the format:
 * src/mongo/db/pipeline/resume_token and KeyString's kTimestamp (0x82 = 130), as recorded in
 * shared/servers.md. */
bool tow_token_time(const bson_t *token, tow_optime_t *out);

/* The cluster time of a token whose `_data` is a BSON document in hex with a Timestamp in it, as
 * that of the test server. Such a server answers an empty batch also while it is still looking
 * through its oplog: only the token itself tells how far it has come. */
bool tow_token_embedded_time(const bson_t *token, tow_optime_t *out);

/* Whether the event of token `a` came at or before that of `b` in one deployment's stream. False
 * with *out_known false: they are not ordered, since one of them is opaque. */
bool tow_token_reached(const bson_t *a, const bson_t *b, bool *out_known);

#endif
