/* SPDX-License-Identifier: Apache-2.0 */
/* stranger.c: a read by _id that was answered with a document nobody asked for. */
#include "engine/link/reply.h"
#include "oplog/replay_internal.h"

bool tow_lane_explain(tow_lane_t *lane, const tow_namespace_t *collection, tow_error_t *error)
{
    bool replaced;

    return tow_namespace_is_replaced(lane->source, collection, &replaced, error) &&
           (replaced ||
            tow_fail_reply(error, "source", "its answer to find has a document nobody asked for"));
}
