/* SPDX-License-Identifier: Apache-2.0 */
/* whose.c: whether a namespace of the destination is the job's, and one of the source the known
 * one, by its identity. */
#include <string.h>

#include "copy/internal.h"

bool tow_copy_is_ours(tow_copy_t *copy, const tow_collection_info_t *there)
{
    tow_claim_t claim;

    if (!copy->options.claims)
        return true;
    claim = tow_claims_of(copy->options.claims, there->ns, there->uuid);
    return claim == TOW_CLAIM_MADE || (claim == TOW_CLAIM_MAYBE && there->type == TOW_VIEW);
}

static bool has_uuid(const uint8_t *uuid)
{
    static const uint8_t none[16];

    return memcmp(uuid, none, sizeof none) != 0;
}

bool tow_copy_may_be(const tow_namespace_t *known, const tow_collection_info_t *info)
{
    return !has_uuid(known->uuid) || !memcmp(known->uuid, info->uuid, sizeof info->uuid);
}
