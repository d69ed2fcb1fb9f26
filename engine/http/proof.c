/* SPDX-License-Identifier: Apache-2.0 */
/* proof.c: shows a page whom it asks, and a verb where the page is. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/json.h"
#include "engine/http/internal.h"
#include "engine/http/token.h"

/* {"success": true, name: text}; takes the text. */
static enum MHD_Result answer(const tow_request_t *request, const char *name, char *text)
{
    tow_json_t out = {0};

    tow_json_begin(&out, NULL);
    tow_json_put_flag(&out, "success", true);
    tow_json_put_text(&out, name, text);
    tow_json_end(&out);
    free(text);
    return tow_reply_json(request, tow_json_take_line(&out));
}

/* For the verb; over HTTP alone no one knows whom they ask. */
enum MHD_Result tow_answer_page(tow_request_t *request)
{
    return answer(request, "address", tow_server_address(request->server, true));
}

/* The page asks before it shows its token, or anything else: another process that listens here now
 * does not know the token. */
enum MHD_Result tow_answer_proof(tow_request_t *request)
{
    const char *nonce =
        MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, "nonce");

    if (!nonce || strlen(nonce) < 32 || strlen(nonce) > 128)
        return tow_reply_refusal(request, MHD_HTTP_BAD_REQUEST, "InvalidOption",
                                 "nonce: expected 32 to 128 random letters", TOW_ERROR_OPTION);
    return answer(request, "proof", tow_page_proof(request->server->page_token, nonce));
}
