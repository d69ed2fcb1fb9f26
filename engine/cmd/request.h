/* SPDX-License-Identifier: Apache-2.0 */
/* request.h: one request to the control server of a running job. */
#ifndef TOW_CMD_REQUEST_H
#define TOW_CMD_REQUEST_H

#include <bson/bson.h>
#include <curl/curl.h>

#include "engine/cmd/cmd.h"

typedef struct {
    char *data; /* NULL: nothing came; ends with a zero otherwise */
    size_t length;
} cmd_reply_t;

/* A request that is not sent yet, with the token and what it takes to trust the server; a POST when
 * it has a body. NULL: the error is printed, and *out_status is the exit status. *headers, which
 * the caller frees, must live as long as the request. */
CURL *cmd_request(const tow_options_t *options, const char *path, const char *body,
                  struct curl_slist **headers, int *out_status);
/* Nothing takes a connection: no process listens there. */
bool cmd_nobody_listens(const tow_options_t *options);
/* Sends a request; prints the error and returns an exit status when it fails. */
int cmd_ask(const tow_options_t *options, const char *path, const char *body, cmd_reply_t *out);
/* The status that a refusal carries, with its message printed; 0 for a success, whose document is
 * the caller's. */
int cmd_judge(const cmd_reply_t *reply, bson_t **out);

#endif
