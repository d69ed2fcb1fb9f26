/* SPDX-License-Identifier: Apache-2.0 */
/* whose.c: whether a namespace of the destination is the job's, by its identity. */
#include "copy/internal.h"

bool tow_copy_is_ours(tow_copy_t *copy, const tow_collection_info_t *there)
{
    tow_claim_t claim;

    if (!copy->options.claims)
        return true;
    claim = tow_claims_of(copy->options.claims, there->ns, there->uuid);
    return claim == TOW_CLAIM_MADE || (claim == TOW_CLAIM_MAYBE && there->type == TOW_VIEW);
}
