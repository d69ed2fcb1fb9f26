/* SPDX-License-Identifier: Apache-2.0 */
/* readiness.c: see readiness.h. */
#include "engine/http/readiness.h"

#include "engine/base/memory.h"

static bool has_ended(tow_phase_t phase)
{
    return phase == TOW_PHASE_FAILED || phase == TOW_PHASE_EXPIRED || phase == TOW_PHASE_CANCELLED;
}

char *tow_readiness(const tow_progress_t *now, bool *out_ready)
{
    long long source_s = now ? now->source_silent_ms / 1000 : 0;
    long long destination_s = now ? now->destination_silent_ms / 1000 : 0;
    const char *phase = now ? tow_phase_name(now->phase) : "";

    *out_ready = false;
    if (!now)
        return tow_format("not ready: no job was started yet\n");
    if (has_ended(now->phase))
        return tow_format("not ready: the job has ended: %s\n", phase);
    /* Neither side was asked yet, or only now and then. */
    if (now->phase < TOW_PHASE_COPYING)
        return tow_format("not ready: the job is %s\n", phase);
    if (now->phase != TOW_PHASE_DONE && now->source_silent_ms && now->destination_silent_ms)
        return tow_format(
            "not ready: the source and the destination have not answered for %lld s\n",
            source_s > destination_s ? source_s : destination_s);
    if (now->phase != TOW_PHASE_DONE && (now->source_silent_ms || now->destination_silent_ms))
        return tow_format("not ready: the %s has not answered for %lld s\n",
                          now->source_silent_ms ? "source" : "destination",
                          now->source_silent_ms ? source_s : destination_s);
    *out_ready = true;
    return tow_format("ready: the job is %s\n", phase);
}
