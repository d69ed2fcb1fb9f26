# SPDX-License-Identifier: Apache-2.0
"""table.py: the mutants. `old` must be in `file` exactly once; `suites` are tried one after the other."""
import collections

Mutant = collections.namedtuple("Mutant", "name what file old new suites")
MUTANTS = []


def add(name, what, file, old, new, *suites):
    MUTANTS.append(Mutant(name, what, file, old, new, suites))


# Replay ---------------------------------------------------------------------------------------------

add("skip-all", "every change passes for one that is on the destination", "oplog/replay.c",
    "    item.fresh = record->kind == TOW_RECORD_INSERT;\n", "    skip(replay, block);\n    return true;\n", "unit_replay")
add("skip-dirty", "what a read may have missed is skipped", "oplog/replay.c",
    "if (gate == TOW_GATE_SKIP) {", "if (gate != TOW_GATE_APPLY) {", "unit_history")
add("barrier-no-wait", "a drop does not wait for the writes before it", "oplog/replay.c",
    "        ok = tow_lane_wait_absorbed(&replay->lanes[i]);\n", "        ;\n", "unit_replay")
add("apply-overtakes", "a delete and a replacement of one key change places", "oplog/apply.c",
    "    if ((batch->seen[!which].words[bit / 64] >> (bit % 64)) & 1 ||\n", "    if (\n", "unit_replay")
add("apply-unknown", "a write whose outcome is unknown counts as done", "oplog/apply.c",
    "if (!ok || !exact || batch->failed[i]) {", "if (!exact || batch->failed[i]) {", "unit_replay")
add("apply-inexact", "a write that matched fewer documents counts as done", "oplog/apply.c",
    "if (!ok || !exact || batch->failed[i]) {", "if (!ok || batch->failed[i]) {", "unit_replay")
add("apply-refused", "a refused write counts as done", "oplog/apply.c",
    "    sending->batch->failed[index] = true;\n", "", "unit_replay")
add("read-at-hi", "an event within the as-of interval of a read is skipped", "oplog/apply.c",
    "if (recent.known && item->time <= recent.lo && !item->repair) {",
    "if (recent.known && item->time <= recent.hi && !item->repair) {", "unit_replay")
add("early-settle", "a refused key counts as settled before it is untangled", "oplog/refetch.c",
    "    key->failed = true;\n    if (key->fresh)\n", "    key->failed = key->fresh;\n    if (key->fresh)\n",
    "unit_replay")
add("drop-retry", "keys whose read or write failed are settled", "oplog/refetch.c",
    "if (!ok || key->failed) {", "if (key->failed) {", "unit_replay")
add("refetch-stale", "dirty keys are read without afterClusterTime", "oplog/refetch.c",
    ".after = batch->lo,", ".after = 0,", "unit_replay")
add("refetch-late", "a read is remembered as one of its end", "oplog/refetch.c",
    "key->hash, batch->lo,\n                        batch->hi);",
    "key->hash, batch->hi,\n                        batch->hi);", "unit_lanes")
add("refetch-short", "the second batch of a read is not asked for", "oplog/refetch.c",
    "        if (ok)\n            ok = tow_reader_next_batch(reader, &more, error);\n", "        more = false;\n",
    "unit_replay")
add("refetch-keeps", "what is gone at the source stays", "oplog/refetch.c",
    "            tow_write_delete(&lane->deletes, id, batch->keys[i]);\n",
    "            ;\n", "unit_replay")
add("insert-again", "a refused insert is tried as an insert for ever", "oplog/refetch.c",
    "        key->fresh = false; /* it is there already", "        ; /* it is there already", "unit_history")
add("update-applied", "an update event is applied as a replacement without its document", "oplog/translate.c",
    "if (operation == TOW_OPERATION_DELETE)",
    "if (operation != TOW_OPERATION_INSERT && operation != TOW_OPERATION_REPLACE)",
    "unit_translate", "unit_replay")

# Untangling -----------------------------------------------------------------------------------------

add("untangle-no-delete", "the documents of a knot are not deleted first", "oplog/rewrite.c",
    "    return delete_members(knot, error) && insert_members(", "    return insert_members(", "unit_replay")
add("untangle-no-holder", "who holds the refused value is not looked for", "oplog/rewrite.c",
    "        tow_knot_add_holders(knot, member, refusal);\n", "        ;\n", "unit_knots")
add("untangle-stale", "the knot's documents are read without afterClusterTime", "oplog/rewrite.c",
    ".collection = knot->collection->name, .after = lo};", ".collection = knot->collection->name, .after = 0};", "unit_replay")
add("untangle-no-insert", "the documents of a knot are not inserted again", "oplog/rewrite.c",
    "    return delete_members(knot, error) && insert_members(knot, error);\n", "    return delete_members(knot, error);\n", "unit_knots")

# Lanes ----------------------------------------------------------------------------------------------

add("lane-not-absorbed", "a lane says that it absorbed what it only took", "oplog/inbox.c",
    "    lane->pushed += items->count;\n", "    lane->pushed += items->count, lane->absorbed += items->count;\n",
    "unit_barriers")
add("lane-fails-quietly", "a lane's final error does not end the job", "oplog/inbox.c",
    "        tow_stop_request(replay->options.stop, error);\n        return;\n", "        return;\n",
    "unit_replay")

# Gate and as-of intervals ---------------------------------------------------------------------------

add("gate-apply", "the gate lets everything pass", "engine/state/namespaces.c",
    "        gate = gate_range(&collection->ranges[locate(entry, id)], time);\n",
    "        gate = TOW_GATE_APPLY;\n", "unit_gate")
add("gate-started", "an event during the read of its range is skipped", "engine/state/namespaces.c",
    "        return time <= range->lo ? TOW_GATE_SKIP : TOW_GATE_DIRTY;\n", "        return TOW_GATE_SKIP;\n",
    "unit_gate")
add("gate-hi", "an event at hi is applied", "engine/state/namespaces.c",
    "return time <= range->hi ? TOW_GATE_DIRTY", "return time < range->hi ? TOW_GATE_DIRTY", "unit_gate")
add("gate-bound", "a range's lower bound belongs to the range before", "engine/state/namespaces.c",
    "if (tow_value_compare(entry->minima[middle], id) <= 0)", "if (tow_value_compare(entry->minima[middle], id) < 0)",
    "unit_gate")
add("gate-copied", "an event at the end of the copy is applied", "engine/state/namespaces.c",
    "    if (collection->copied && time > collection->hi_most)\n        gate = TOW_GATE_APPLY;\n    else if (collection->range_count",
    "    if (collection->copied && time >= collection->hi_most)\n        gate = TOW_GATE_APPLY;\n    else if (collection->range_count",
    "unit_gate")
add("gate-unplanned", "an event of a collection that is not planned is skipped", "engine/state/namespaces.c",
    "gate = collection->copied ? TOW_GATE_SKIP : TOW_GATE_DIRTY;", "gate = TOW_GATE_SKIP;", "unit_gate")
add("gate-ddl", "DDL across the copy counts as after it", "engine/state/namespaces.c",
    "        gate = TOW_GATE_DIRTY;\n    tow_namespaces_unlock", "        gate = TOW_GATE_APPLY;\n    tow_namespaces_unlock",
    "unit_gate")
add("range-hi", "a range without a time of its end has none", "engine/state/namespaces.c",
    "    done->hi = hi > done->lo ? hi : done->lo;\n", "    done->hi = hi;\n", "unit_gate")
add("read-opaque", "with opaque tokens a read promises what the stream still owes", "engine/link/link.c",
    "return atomic_load(&link->opaque) ? atomic_load(&link->event_time) : atomic_load(&link->time);",
    "return atomic_load(&link->time);", "unit_gate")

add("rename-placeholder", "what events alone made is renamed as if it were whole", "oplog/ddl_rename.c",
    "from && !from->placeholder && tow_collection", "from && tow_collection", "unit_replay")
add("rename-done-early", "a rename whose target another one replaced since passes for done", "oplog/ddl_rename.c",
    "*out_done = !from && found", "*out_done = found", "unit_shards")
add("rename-later-identity", "a renamed collection gets the identity of what has its name by now", "oplog/ddl_rename.c",
    "if (!ddl->replay->merged || !memcmp(from->uuid, there,", "if (true || !memcmp(from->uuid, there,", "unit_shards")
add("rename-unseen", "what a server filled unseen is renamed", "oplog/ddl_rename.c",
    "return !strncmp(name, \"tmp\", PREFIX) &&", "return strncmp(name, \"tmp\", PREFIX) &&", "unit_shards")
add("ensure-later-identity", "a collection that is met gets the identity of a later one of its name", "oplog/ddl_ensure.c",
    "    memset(info->uuid, 0, sizeof info->uuid);\n", "", "unit_barriers")
add("ensure-capped", "a capped collection that is met counts as empty before", "oplog/ddl_ensure.c",
    "    if (info->capped)\n", "    if (false)\n", "unit_shards")
add("orphan-replaced", "a replacement of a merged stream is applied as it comes", "oplog/translate.c",
    "if (merged && operation != TOW_OPERATION_INSERT)", "if (merged && operation == TOW_OPERATION_DELETE)", "unit_translate")

# The decision of the supervisor ----------------------------------------------------------------------

add("cutover-restless", "a cutover that late writes called off is tried again at once", "engine/job/control.c",
    "return !facts->called_off || facts", "return true || facts", "unit_control")
add("expire-under-cutover", "the window ends a job whose cutover was asked for", "engine/job/control.c",
    "facts->window_over && !facts->cutover ?", "facts->window_over ?", "unit_control")
add("sync-before-repair", "a job is in sync although a gap of the stream is not repaired", "engine/job/control.c",
    "    if (facts->rolled_over)\n        return do_it(TOW_DO_RESYNC);\n", "", "unit_control")
add("sync-with-ttl", "a job is in sync while the destination expires documents", "engine/job/control.c",
    "    if (facts->ttl_restored)\n        return do_it(TOW_DO_HOLD_TTL);\n", "", "unit_control")
add("unique-early", "unique indexes are built before the destination is consistent", "engine/job/control.c",
    "do_it(facts->consistent ? TOW_DO_BUILD_UNIQUE : TOW_DO_WAIT)", "do_it(TOW_DO_BUILD_UNIQUE)", "unit_control")

# Reads and writes of a server -----------------------------------------------------------------------

add("no-after", "no read has a concern", "engine/link/command.c",
    "    if (options->flags & TOW_SEND_READ) {", "    if (0 && options->flags & TOW_SEND_READ) {", "unit_replay")
add("no-cluster-time", "no read has an afterClusterTime", "engine/link/command.c",
    "        if (options->after)\n", "        if (0)\n", "unit_replay")
add("no-majority", "writes are acknowledged by one member", "engine/link/command.c",
    "\"w\", -1, \"majority\", -1);", "\"w\", -1, \"1\", -1);", "unit_write")
add("no-number", "writes have no transaction number", "engine/link/command.c",
    "    if (number)\n        bson_append_int64(out, \"txnNumber\", -1, number);\n", "", "unit_write")
add("new-number", "a write that is sent again has another number", "engine/link/command.c",
    "    while (!(ok = send_once(conn, database, &complete_command, options, number, reply, error))) {\n",
    "    while (!(ok = send_once(conn, database, &complete_command, options, number, reply, error))) {\n"
    "        bson_destroy(&complete_command);\n        complete(command, options, tow_conn_number(conn), &complete_command);\n",
    "unit_write")
add("write-wrong-tag", "a refusal is another statement's", "engine/state/write.c",
    "each(data, write->tags[failure.index + offset], &failure);", "each(data, write->tags[0], &failure);",
    "unit_write")
add("write-no-upsert", "a replacement of what is not there comes to nothing", "engine/state/write.c",
    "    append_update(write, id, document, false, true, tag);", "    append_update(write, id, document, false, false, tag);",
    "unit_write")
add("write-validated", "the destination's validators refuse documents", "engine/state/write.c",
    "    bson_append_bool(command, \"bypassDocumentValidation\", -1, true);\n", "", "unit_write")

# Dirty keys -----------------------------------------------------------------------------------------

add("dirty-again", "an event during the read of a key is forgotten", "oplog/dirty.c",
    "if (key->again && key->again_time > lo) {", "if (0) {", "unit_dirty")
add("dirty-again-time", "of several events during a read the first counts", "oplog/dirty.c",
    "        if (time > key->again_time)\n", "        if (!key->again_time)\n", "unit_dirty")
add("dirty-return", "a failed key forgets the event that came meanwhile", "oplog/dirty.c",
    "            key->time = key->again_time;\n        tow_ledger_settle", "            ;\n        tow_ledger_settle",
    "unit_dirty")
add("dirty-in-flight", "a key is taken with the failure of its last attempt", "oplog/dirty.c",
    "    key->found = key->failed = false;\n", "    key->found = false;\n", "unit_dirty")
add("dirty-purge", "a read is forgotten before the stream has passed it", "oplog/dirty.c",
    "dirty->recent_queue->hi < passed)", "dirty->recent_queue->hi <= passed)", "unit_dirty")
add("dirty-horizon", "reads too many to remember are forgotten", "oplog/dirty.c",
    "            tow_dirty_raise_horizon(dirty, dirty->recent_queue->hi);\n", "", "unit_dirty")
add("dirty-collections", "equal _ids of two collections are one key", "oplog/dirty.c",
    "    tow_buffer_append(&dirty->identity, &collection->id, sizeof collection->id);\n", "", "unit_dirty")

# Ledger and floor -----------------------------------------------------------------------------------

add("floor-early", "the floor passes a block that is not dispatched", "oplog/ledger.c",
    "    atomic_store(&block->unsettled, block->events + 1);\n", "    atomic_store(&block->unsettled, block->events);\n",
    "unit_ledger")
add("floor-idle", "an idle token overtakes unsettled events", "oplog/ledger.c",
    "    if (!ledger->head) {\n        set_floor", "    if (true) {\n        set_floor", "unit_ledger")
add("floor-hold", "a held event does not hold the floor", "oplog/ledger.c",
    "    atomic_fetch_add(&block->unsettled, 1);\n", "", "unit_ledger")
add("floor-newest", "the floor is the newest block's", "oplog/ledger.c",
    "        set_floor(ledger, &head->token, head->time);\n",
    "        set_floor(ledger, &ledger->tail->token, ledger->tail->time);\n", "unit_ledger")
add("payload-early", "an event's bytes are freed while a lane reads them", "oplog/ledger.c",
    "           atomic_load(&ledger->head->payload_users) == 0) {\n", "           true) {\n", "unit_ledger")
add("spool-keep", "of the spool is kept what is not dispatched yet", "oplog/ledger.c",
    "    for (tow_block_t *block = ledger->head; block && !out->has_keep; block = block->next)",
    "    for (tow_block_t *block = ledger->cursor; block && !out->has_keep; block = block->next)", "unit_ledger")

# Tail -----------------------------------------------------------------------------------------------

add("tail-no-seal", "an idle token comes before the keys read before it", "oplog/tail.c",
    "    if (!seal(tail, error))\n        return false;\n    tow_stream_take", "    tow_stream_take", "unit_tail")
add("tail-resume", "a broken stream begins anew instead of after its last token", "oplog/tail.c",
    "open_stream(tail, TOW_STREAM_AFTER, direct,", "open_stream(tail, TOW_STREAM_NOW, direct,", "unit_tail")
add("tail-change-mode", "keys read before the change of modes are left behind", "oplog/tail.c",
    "(!seal(tail, error) || !open_stream", "(!open_stream", "unit_tail")
add("tail-idle-time", "an opaque idle token has the time of its reply", "oplog/stream.c",
    "    stream->cursor = ok ? out->cursor.id : 0;\n",
    "    stream->cursor = ok ? out->cursor.id : 0;\n    out->known = tow_reply_time(reply);\n", "unit_stream")
add("tail-projected", "direct mode gets events without their documents", "oplog/tail.c",
    "direct ? NULL : key_fields", "key_fields", "unit_tail")
add("stream-early", "the position moves when a batch arrives, not when it was taken in", "oplog/stream.c",
    "    stream->cursor = ok ? out->cursor.id : 0;\n",
    "    stream->cursor = ok ? out->cursor.id : 0;\n    if (ok && out->cursor.has_token)\n"
    "        tow_stream_move(stream, &out->cursor.token, 0);\n", "unit_stream")
add("stream-lost", "a stream whose position is gone is opened there again", "oplog/stream.c",
    "    if (tow_error_history_lost(error))\n        return TOW_STREAM_LOST;\n", "", "unit_stream")

# Spool ----------------------------------------------------------------------------------------------

add("no-sync", "the spool is not synced", "oplog/spool.c",
    "        ok = fdatasync(file) == 0;\n", "        ok = true;\n", "unit_spool")
add("segment-no-sync", "a full segment of the spool is not synced", "oplog/spool.c",
    "        fdatasync(spool->file);\n", "", "unit_spool")
add("spool-unsummed", "a broken frame of the spool is taken", "oplog/frame.c",
    "good = XXH64_digest(state) == out_head->sum;", "good = XXH64_digest(state) != 1;", "unit_spool")
add("spool-torn", "what stands after a broken frame is cut off", "oplog/spool.c",
    "            bool torn = i == spool->last &&\n", "            bool torn = i == spool->last ||\n", "unit_spool")
add("spool-release", "a segment that is needed yet is deleted", "oplog/spool.c",
    "spool->first < place.segment &&", "spool->first <= place.segment &&", "unit_spool")

# Copy and ranges ------------------------------------------------------------------------------------

add("lost-range", "a range that was only begun counts as done after a restart", "copy/restore.c",
    "        if (own[i].state == TOW_RANGE_DONE) {", "        if (own[i].state != TOW_RANGE_OPEN) {", "scenario/killed")
add("range-not-emptied", "what an attempt before left of a range stays", "copy/worker.c",
    "(again && !empty_range(pass, error))", "(0 && again && !empty_range(pass, error))", "unit_copying")
add("range-bound", "the first document of a range is not read", "engine/link/reader.c",
    "bson_append_value(&condition, \"$gte\", -1, what->min);", "bson_append_value(&condition, \"$gt\", -1, what->min);", "unit_reader")
add("range-stale", "a range is read without afterClusterTime", "copy/worker.c",
    "                       .after = lo,\n", "                       .after = 0,\n", "unit_copying")

add("range-short", "what a failed read has not brought counts as read", "copy/worker.c",
    "            outcome = judge_read(pass, error, &gone);\n        if (more", "            more = false;\n        if (more",
    "unit_history")

# Catalog --------------------------------------------------------------------------------------------

add("ttl-on", "documents expire at the destination while the job runs", "engine/state/spec.c",
    "    if (hold_off)\n        seconds = takes->ttl_most;\n", "    (void)hold_off;\n", "unit_spec", "scenario/indexes")

# Fencing and leases ---------------------------------------------------------------------------------

add("fence-number", "a successor's writes do not outnumber its predecessor's", "engine/link/command.c",
    "        return INT64_MAX - (conn->adopted > 1 ? --conn->adopted : 0);\n", "        return 1;\n", "unit_fence")
add("fence-shards", "a successor fences only the shard of the job's document", "engine/state/fence.c",
    "    sharded = sharded && bson_iter_next(&first);\n", "    sharded = false && bson_iter_next(&first);\n",
    "fault/takeover --only shard")
add("fence-refusal", "a shard's refusal is one of a document", "engine/link/classify.c",
    "            refusal.code != TOW_CODE_TRANSACTION_TOO_OLD)\n", "            refusal.code)\n",
    "fault/takeover --only shard")

add("fence-not", "a successor does not end its predecessor's sessions", "engine/state/fence.c",
    "        if (!end_sessions(store, document, error))\n            return false;\n", "", "unit_fence")
add("session-unnamed", "sessions are used before the job's document names them", "engine/link/command.c",
    "    if (!number || conn->noted ||", "    if (true || conn->noted ||", "unit_fence")
add("guard-not", "the job's document is written whoever holds it", "engine/state/store.c",
    "    bson_append_utf8(&filter, \"lease.holder\", -1, store->holder, -1);\n"
    "    bson_append_int64(&filter, \"epoch\", -1, store->epoch);\n", "", "unit_fence")

add("claims-stale", "what the job made is read as it was some time ago", "engine/state/claims.c",
    "    tow_store_append_concern(store, &command);\n", "", "unit_state")

# Cutover, checkpoint and verification ---------------------------------------------------------------

add("drain-not", "the cutover does not wait for what was written last", "engine/job/flow.c",
    "    return tow_job_wait_settled(job, now, tow_job_interrupted) || tow_job_stopped(job, error);\n",
    "    return true;\n", "fault/answers --only silent", "scenario/cutover")
add("checkpoint-read", "the checkpoint is what was read, not what is settled", "oplog/ledger.c",
    "    atomic_store(&block->unsettled, block->events + 1);\n", "    atomic_store(&block->unsettled, 1);\n",
    "unit_ledger", "simulate --seeds 400")
add("digest-xor", "pairs of equal documents cancel out", "verify/digest.c",
    "    digest->bytes += length;\n    digest->sum += hash;\n", "    digest->bytes += length;\n    digest->sum ^= hash;\n",
    "unit_digest")
add("digest-count", "the sum alone is compared", "verify/digest.c",
    "return a->documents == b->documents && a->sum == b->sum;", "return a->documents == b->documents;", "unit_digest")
add("track-lost", "a write to a compared range is not noticed", "verify/track.c",
    "        if (range->equal || (range->reading && !range->overflow))\n", "        if (range->equal)\n", "unit_track")
add("untangle-settled", "a settled key is deleted and inserted again", "oplog/untangle.c",
    "        if (key) {\n            knot->block = key->block;\n", "        if (id.length) {\n            knot->block = key ? key->block : knot->block;\n", "unit_knots")

# Lanes and late writes -------------------------------------------------------------------------------

add("horizon-lanes", "lanes do not know the horizon of a restart", "oplog/replay.c",
    "        tow_dirty_raise_horizon(replay->lanes[i].dirty, horizon);\n",
    "", "unit_lanes")
add("touched-not", "writes are not told to the verifier", "oplog/replay.c",
    "    if (replay->options.touched && !item.repair)\n",
    "    if (0)\n", "unit_lanes")
add("await-lanes-not", "nobody waits for the round of a lane", "oplog/replay.c",
    "        wait_eased(replay, is_busy, &(round_t){lane, atomic_load(&lane->rounds)});\n",
    "        ;\n", "unit_lanes")
add("lane-settle-not", "writes of unknown outcome are not settled after a round", "oplog/lane.c",
    "    tow_lane_settle(lane);\n"
    "    /* Keys that are not due",
    "    /* Keys that are not due", "unit_lanes")
add("untangle-settle-not", "a knot's writes of unknown outcome are not settled", "oplog/untangle.c",
    "    tow_lane_settle(lane); /* what it wrote belongs to other lanes */\n",
    "", "unit_lanes")
add("lane-holding", "lanes write while a collection is copied again", "oplog/lane.c",
    "    found = !tow_replay_holding(replay) && tow_lane_refetch(lane);\n",
    "    found = tow_lane_refetch(lane);\n", "unit_lanes")
add("apply-recent-lo", "an event within the interval of a recent read is applied", "oplog/apply.c",
    "        return item->time <= recent.hi;\n",
    "        return item->time <= recent.lo;\n", "unit_lanes")
add("apply-updates-first", "replacements go out before deletes", "oplog/apply.c",
    "    send_one(batch, 1);\n"
    "    send_one(batch, 0);\n",
    "    send_one(batch, 0);\n"
    "    send_one(batch, 1);\n", "unit_lanes")
add("replaceable-ignored", "what a destination takes by insert alone is replaced", "oplog/apply.c",
    "        !tow_is_replaceable(&document, tow_link_facts(batch->lane->replay->options.destination)))\n",
    "        0)\n", "unit_lanes")
add("refetch-strict", "inserts that are there already count as done", "oplog/refetch.c",
    "    lane->inserts.strict = true;\n",
    "", "unit_lanes")
add("repair-gated", "a repair is gated like an event", "oplog/replay.c",
    "    if (item.repair) {\n"
    "        hand_over(replay, &item, collection);\n"
    "        return true;\n"
    "    }\n",
    "", "unit_lanes")
add("untangle-mark-not", "the holders of a knot are not dirty before they are deleted", "oplog/rewrite.c",
    "    mark_members(knot);\n",
    "", "unit_knots")
add("untangle-hold-not", "a holder's dirty key does not hold the floor", "oplog/rewrite.c",
    "        tow_ledger_hold(ledger, knot->block);\n",
    "", "unit_knots")
add("untangle-refused-settled", "a refused member of a knot counts as written", "oplog/untangle.c",
    "        if (!member->written || member->refused)\n",
    "        if (!member->written)\n", "unit_knots")
add("untangle-drop-early", "an index is dropped at its first refusal", "oplog/untangle.c",
    "    return refusals < BEFORE_DROP || !knot->suspect || drop_broken(knot, error);",
    "    return !knot->suspect || drop_broken(knot, error);", "unit_knots")

# DDL -------------------------------------------------------------------------------------------------

add("barrier-paused", "DDL is carried out while the replay is paused", "oplog/replay.c",
    "    ok = ok && wait_eased(replay, is_paused, NULL);\n",
    "", "unit_barriers")
add("ddl-dirty", "a drop across the copy is carried out", "oplog/ddl_drop.c",
    "    if (answer == TOW_GATE_DIRTY)\n"
    "        return tow_ddl_copy_again(ddl, database, name, error);\n",
    "", "unit_barriers")
add("ddl-keep-living", "a drop of a cluster is believed without a look at the source", "oplog/ddl_drop.c",
    "    if (!ddl->replay->merged)\n",
    "    if (true)\n", "unit_barriers")
add("ddl-done-time", "a DDL event of the time of the last one counts as done", "oplog/ddl.c",
    "return ddl->time < replay->ddl_time || (ddl->time == replay->ddl_time && !replay->ddl_found);",
    "return ddl->time <= replay->ddl_time;", "unit_barriers")
add("rename-suspects", "keys that were read under the old name when it was gone are forgotten", "oplog/ddl_rename.c",
    "        tow_recent_detach(dirty, from, ddl->time, keep_suspect, &suspects);\n",
    "        tow_recent_detach(dirty, from, ddl->time, NULL, NULL);\n", "unit_barriers")
add("rename-keys-lost", "dirty keys do not move to the new name", "oplog/ddl_rename.c",
    "    give_moved(ddl, moved, to);\n",
    "    give_moved(ddl, moved, NULL);\n", "unit_barriers")
add("rename-horizon", "a rename after forgotten reads is carried out", "oplog/ddl_rename.c",
    " && !horizon_passed(ddl);\n", ";\n", "unit_barriers")
add("rename-twice", "a cluster's rename is carried out once for each shard", "oplog/ddl_rename.c",
    "*out_done = !from && found", "*out_done = false && found", "unit_shards")

# Streams and barriers --------------------------------------------------------------------------------

add("tail-lost-untold", "a lost position is not told before the stream goes on", "oplog/tail.c",
    "    if (!options->lost(options->data, false, error) || !seal(tail, error) ||\n",
    "    if (!seal(tail, error) ||\n", "unit_tail")
add("tail-certain", "the certain time is that of the reply", "oplog/tail.c",
    "    if (tow_token_time(tow_stream_token(tail->stream), &certain))\n"
    "        atomic_store(&tail->certain_time, certain);\n",
    "    if (!tow_token_time(tow_stream_token(tail->stream), &certain))\n"
    "        certain = tow_stream_time(tail->stream);\n"
    "    atomic_store(&tail->certain_time, certain);\n", "unit_tail")
add("watch-invalidate", "an invalidate event of the destination is ignored", "oplog/watch.c",
    "        options->gap(options->data, parts->operation);\n",
    "        ;\n", "unit_watch")
add("watch-mongos", "a mongos's empty replies prove that all was delivered", "oplog/watch.c",
    "return !tow_link_facts(watch->options.link)->sharded && (!watch->time",
    "return (!watch->time", "unit_watch")
add("settled-one-idle", "one empty reply proves the end of the oplog", "engine/job/flow.c",
    "                   tow_tail_idle_replies(job->flow.tail) >= idle + 2;\n",
    "                   tow_tail_idle_replies(job->flow.tail) >= idle;\n", "unit_settling")
add("settled-mongos", "a mongos's empty replies prove the end of its stream", "engine/job/flow.c",
    "    bool reached = !tow_link_facts(job->sides.source)->sharded &&\n"
    "                   tow_ledger",
    "    bool reached = tow_ledger", "unit_settling")
add("settled-uncertain", "a floor whose time is a guess is enough", "engine/job/flow.c",
    "    bool passed = tow_ledger_floor_time(job->flow.ledger) > time &&\n"
    "                  tow_tail_certain_time(job->flow.tail) > time;\n",
    "    bool passed = tow_ledger_floor_time(job->flow.ledger) > time;\n", "unit_settling")
add("barrier-majority", "the barrier is a time of the majority's last read", "engine/link/time.c",
    "majority_read(conn, PROBE, last, out, error);\n",
    "majority_read(conn, PROBE, 0, out, error);\n", "unit_settling")
add("barrier-one-round", "shards at the barrier are not pushed beyond it", "engine/link/time.c",
    "    enum { ROUNDS = 2 };\n",
    "    enum { ROUNDS = 1 };\n", "unit_settling")

# Lease and guard of writes ---------------------------------------------------------------------------

add("lease-after", "a lease's time begins when its renewal was answered", "engine/state/keeper.c",
    "    if (ok)\n"
    "        tow_lease_limit(store, before_ms);\n",
    "    if (ok)\n"
    "        tow_lease_limit(store, tow_boot_ms());\n", "unit_fence")
add("may-write-always", "writes go out when the lease is over", "engine/link/command.c",
    "    if (!until_ms || conn->unguarded || tow_boot_ms() < until_ms)\n",
    "    if (true || conn->unguarded || tow_boot_ms() < until_ms)\n", "unit_fence")
add("insert-may-write", "the copy's inserts go out when the lease is over", "engine/link/insert.c",
    "    if (!tow_conn_ready(conn, error) || !tow_conn_may_write(conn, error) ||\n"
    "        !tow_conn_note(conn, number, error))\n",
    "    if (!tow_conn_ready(conn, error) || !tow_conn_note(conn, number, error))\n", "unit_fence")
add("take-any", "a lease is taken whether or not it has run out", "engine/state/document.c",
    "    bson_append_document_begin(out, \"$expr\", -1, &compare);\n",
    "    return;\n"
    "    bson_append_document_begin(out, \"$expr\", -1, &compare);\n", "unit_fence")
add("take-epoch", "of two who take a lease both get it", "engine/state/document.c",
    "    bson_append_int64(out, \"epoch\", -1, old->epoch);\n"
    "    if (!old->holder[0]) {",
    "    if (!old->holder[0]) {", "unit_fence")
add("fence-skipped", "a resumed job fences nothing", "engine/state/open.c",
    "    ok = tow_keeper_start(store, error) && tow_fence(store, &document, error);\n",
    "    ok = tow_keeper_start(store, error) && (!*out_resumed ? tow_fence(store, &document, error) : true);\n", "unit_fence")
add("operation-unnamed", "a drop goes out before it is named", "engine/state/fence.c",
    "    ok = tow_store_update_guarded(store, &update, error);\n"
    "    if (!ok)\n"
    "        store->slots[*out_slot] = false;\n",
    "    ok = true;\n", "unit_fence")
add("operation-forgotten", "an operation whose end is not known is forgotten", "engine/state/fence.c",
    "    if (!settled)\n"
    "        return;\n",
    "", "unit_fence")
add("outnumber-not", "a write of unknown outcome is not outnumbered", "engine/state/fence.c",
    "    ok = ok && tow_store_update_by(store, conn, &update, false, error);\n"
    "    bson_destroy(&update);\n"
    "    return ok;\n"
    "}\n"
    "\n"
    "bool tow_fence",
    "    bson_destroy(&update);\n"
    "    return ok;\n"
    "}\n"
    "\n"
    "bool tow_fence", "unit_fence")
add("too-old-retried", "the loss of the job is an error that passes", "engine/link/command.c",
    "    if (number && error->server_code == TOW_CODE_TRANSACTION_TOO_OLD)\n",
    "    if (0)\n", "unit_fence")
add("drop-unmarked", "the state is removed without a mark", "engine/state/open.c",
    "    ok = mark_removing(store, error);\n",
    "    ok = true;\n", "unit_fence")

# Claims ----------------------------------------------------------------------------------------------

add("claim-meant", "what is only meant is the job's", "engine/state/claims.c",
    "        ensure(claims, fresh[i])->state = TOW_CLAIM_MEANT;\n",
    "        ensure(claims, fresh[i])->state = TOW_CLAIM_MAYBE;\n", "unit_claims")
add("claim-free", "somebody else's collection is taken for the one created", "copy/claim.c",
    "    ok = check_free(copy, destination, info, error) &&\n"
    "         tow_claims_mean",
    "    ok = tow_claims_mean", "unit_whose")
add("rename-foreign", "a rename goes over a foreign collection", "copy/claim.c",
    "    if (to == TOW_WHOSE_FOREIGN)\n"
    "        ok = tow_copy_fail_foreign(ns, error);\n"
    "    else if",
    "    if", "unit_whose")
add("remade-different", "a collection with other documents is one that writes made", "copy/remade.c",
    "    comparing->same = !comparing->unmatched;\n",
    "    comparing->same = true;\n", "unit_whose")
add("extra-listed", "what a list leaves out is dropped", "copy/reconcile.c",
    "    if (!gone)\n"
    "        return true;\n"
    "    if (!tow_copy_unmake",
    "    if (!tow_copy_unmake", "unit_whose")

# Records of the copy ---------------------------------------------------------------------------------

add("copy-record-first", "a range counts as done before that is recorded", "copy/worker.c",
    "    record.state = TOW_RANGE_DONE;\n"
    "    record.hi",
    "    finish(pass, hi);\n"
    "    record.state = TOW_RANGE_DONE;\n"
    "    record.hi", "unit_copying")
add("copy-again-empty", "stragglers of an attempt before are replaced", "copy/insert.c",
    "    if (pass->again && tow_reply_write_error(reply, &position, &refusal)) {\n",
    "    if (0) {\n", "unit_copying")
add("copy-insert-settle", "inserts of unknown outcome are not settled", "copy/insert.c",
    "            tow_copy_settle(copy, insert->destination);\n",
    "", "unit_copying")
add("copy-again-record", "a collection is dropped before its record loses its ranges", "copy/again.c",
    "    ok = record_again(copy, database, name, error) &&\n",
    "    ok =\n", "unit_whose")
add("copy-record-short", "a record that lacks ranges is restored as it is", "engine/state/ranges.c",
    "    if (count != expected) {\n",
    "    if (0) {\n", "unit_state")
add("copy-record-order", "a collection's record names its ranges first", "engine/state/ranges.c",
    "    ok = record(store, info, 0, 0, error) && delete_ranges",
    "    ok = record(store, info, read_at, count, error) && delete_ranges", "unit_state")
add("reader-bracket", "bounds of two types are compared within one", "engine/link/reader.c",
    "           bracket_of(what->min) == bracket_of(what->max);\n",
    "           bracket_of(what->max);\n", "unit_reader")
add("write-concern", "a write that no majority has is done", "engine/link/command.c",
    "    if (ok && bson_iter_init_find(&iter, reply, \"writeConcernError\"))\n"
    "        return tow_fail_write_concern(conn->link, &iter, error);\n",
    "", "unit_write")

# Verification ----------------------------------------------------------------------------------------

add("verify-source-only", "the destination is not read", "verify/readings.c",
    "    if (!info) {\n"
    "        reset_reading(reading);\n"
    "        return true;\n"
    "    }\n",
    "    if (!info || side->which == TOW_DESTINATION) {\n"
    "        reset_reading(reading);\n"
    "        return true;\n"
    "    }\n", "unit_verify")
add("verify-partner", "an error of the destination is none", "verify/pair.c",
    "    return source_ok && partner_ok;\n",
    "    return source_ok;\n", "unit_verify")
add("verify-bucket-equal", "differing buckets of equal counts are passed over", "verify/readings.c",
    "            if (tow_digest_equal(&source[next], &destination[next])) {\n",
    "            if (source[next].documents == destination[next].documents) {\n", "unit_verify")
add("verify-unequal-tracked", "a range with a difference counts as equal", "verify/compare.c",
    "    if (ok && track && !unit->unequal &&\n"
    "        tow_digest_equal(&totals[TOW_SOURCE], &totals[TOW_DESTINATION]))\n",
    "    if (ok && track)\n", "unit_verify")
add("verify-last-range", "the last range ends at its last bound", "verify/compare.c",
    "    for (uint32_t i = 0; i <= split->count; i++) {\n"
    "        add_unit(item, i ?",
    "    for (uint32_t i = 0; i < split->count; i++) {\n"
    "        add_unit(item, i ?", "unit_verify")
add("verify-counts", "a difference counts after one look", "verify/locate.c",
    "    } else if (!options->settle || !moved) {\n",
    "    } else {\n", "unit_verify")
add("map-extra", "documents of the destination alone are not reported", "verify/map.c",
    "            each(data, TOW_DIFFERENCE_EXTRA, NULL, &b[i]);\n",
    "            ;\n", "unit_verify")

# Indexes ---------------------------------------------------------------------------------------------

add("ttl-early", "TTL is restored with the last reconciliation", "copy/reindex.c",
    "        tow_index_spec(&ours.items[i], &task->takes, task->how != TOW_RECONCILE_TTL, &wanted);\n",
    "        tow_index_spec(&ours.items[i], &task->takes, task->how == TOW_RECONCILE_ALONG, &wanted);\n", "unit_expiry")
add("index-unique-early", "unique indexes are built before the copy is consistent", "copy/reindex.c",
    "    return task->how == TOW_RECONCILE_ALONG && tow_index_is_unique(wanted) &&\n",
    "    return 0 && task->how == TOW_RECONCILE_ALONG && tow_index_is_unique(wanted) &&\n", "unit_expiry")
add("indexes-during-copy", "indexes are made alike while the collection is copied", "copy/reconciling.c",
    "    return known && !tow_namespaces_copied(table, known);\n",
    "    return false;\n", "unit_expiry")
add("index-extra-kept", "an index that the source does not have stays", "copy/reindex.c",
    "    if (!listed)\n        return false;\n", "    if (!listed)\n        return true;\n", "unit_expiry")

# Secrets and local users ----------------------------------------------------------------------------

add("hide-first-blank", "a connection string that goes on after a blank is hidden up to it", "engine/base/text.c",
    "    if (!whole || goes_on(text, address, stop, last) ||",
    "    if (", "unit_text")
add("hide-readable", "what cannot be read as a connection string is shown", "engine/base/text.c",
    "!strcmp(shown, \"(hidden)\") ||\n        !strcmp(strstr(shown, \"://\") + 3, \"***\"))",
    "!strcmp(shown, \"(hidden)\"))\n        stop = strchr(address, '\\0');\n    else if (0)", "unit_text")
add("config-of-others", "a file of options that others may write is taken", "engine/base/file.c",
    "    if (!S_ISCHR(facts.st_mode) && is_open_to_others(&facts, 022, 020))\n",
    "    if (0)\n", "unit_config")
add("hard-link", "a log is written through a hard link", "engine/base/file.c",
    "    return facts->st_nlink > 1 && (flags & O_ACCMODE) != O_RDONLY;\n", "    return false;\n", "unit_file")
add("link-followed", "a log is written through a symbolic link", "engine/base/file.c",
    "    int file = open(path, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);\n",
    "    int file = open(path, flags | O_CLOEXEC | O_NONBLOCK, 0600);\n", "unit_file")
add("sides-apart", "a request leads the operator's source to a destination of its own", "engine/http/settings.c",
    '{"destination", "sides"}', '{"destination", "destination"}', "unit_requests")
add("sides-replaced", "a request replaces what the process was started with", "engine/http/settings.c",
    "        if (group_of(table[i].name) == group && tow_options_is_set(server->options, table[i].name))\n",
    "        if (0)\n", "unit_requests")
add("token-prefix", "the beginning of a token is enough", "engine/http/token.c",
    "           strlen(authorization + sizeof scheme - 1) == length &&\n           CRYPTO_memcmp(authorization + sizeof "
    "scheme - 1, token, length) == 0;",
    "           CRYPTO_memcmp(authorization + sizeof scheme - 1, token,\n                         strlen(authorization + "
    "sizeof scheme - 1)) == 0;", "unit_requests")
add("page-token-fixed", "the page's token is the same in every process", "engine/http/token.c",
    "char *tow_page_token(void)\n{\n    unsigned char random[TOKEN_BYTES];\n    char text[2 * TOKEN_BYTES + 1];\n\n"
    "    tow_random(random, sizeof random);\n",
    "char *tow_page_token(void)\n{\n    unsigned char random[TOKEN_BYTES] = {0};\n    char text[2 * TOKEN_BYTES + 1];\n\n",
    "unit_requests")
add("listener-any", "a verb believes any local user who listens", "engine/cmd/request.c",
    "    return user == geteuid() || user == 0 ||\n", "    return true || user == geteuid() || user == 0 ||\n", "unit_listener")
add("listener-by-token", "without a token a verb does not look who listens", "engine/cmd/request.c",
    "    else\n        curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, check_listener);\n",
    "    else if (*headers && (*headers)->next)\n        curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, check_listener);\n",
    "unit_listener")
add("reply-endless", "an answer is kept whatever its length", "engine/cmd/request.c",
    "    char *grown = reply->length + size * count > REPLY_MOST\n", "    char *grown = 0\n", "unit_listener")

# Damaged answers -------------------------------------------------------------------------------------

add("read-no-id", "a document without an _id is handed on", "engine/link/reader.c",
    "    if (found && has_id(out))\n", "    if (found)\n", "unit_reader")
add("refetch-stranger", "a key for which another document came counts as gone", "oplog/refetch.c",
    "        return tow_is_taken_too(id, false) ||\n",
    "        return true ||\n", "unit_lanes")
add("untangle-stranger", "a deleted document for which another came is not inserted again", "oplog/rewrite.c",
    "    if (!member && !tow_is_taken_too(id, knot->collection->collated))\n", "    if (0)\n", "unit_knots")
add("untangle-any-spelling", "a collation takes a number for another spelling", "oplog/rewrite.c",
    "    if (!member && !tow_is_taken_too(id, knot->collection->collated))\n",
    "    if (!member && !knot->collection->collated)\n", "unit_knots")
add("verify-stranger", "a document for which another came counts as missing", "verify/locate.c",
    "    tow_visitor_t visitor = {reset_fetch, take_document, fetch, is_whole};\n",
    "    tow_visitor_t visitor = {reset_fetch, take_document, fetch};\n", "unit_verify")
add("read-no-time", "a reply that tells no time does not move a read's end", "engine/link/reader.c",
    "    if (!has_time(reply) && ", "    if (0 && ", "unit_reader")
add("barrier-no-time", "a majority read without an operationTime is of time 0", "engine/link/time.c",
    "= conn->link->facts.standalone ? is_any : has_operation_time;", "= is_any;", "unit_settling")
add("barrier-no-last-write", "a hello without the last write's time is waited for with none", "engine/link/time.c",
    "= conn->link->facts.tells_last_write ? has_last_write : is_any;", "= is_any;", "unit_settling")
add("barrier-no-cluster-time", "a mongos may leave out the cluster's time", "engine/link/time.c",
    "    if (lasting)\n        ok = tow_conn_ask_after(conn, \"admin\", &command, 0, after, has_cluster_time,\n",
    "    if (lasting)\n        ok = tow_conn_ask_after(conn, \"admin\", &command, 0, after, is_any,\n", "unit_settling")
add("hello-any-kind", "a hello that does not say its kind is a standalone's", "engine/link/facts.c",
    "    return is_of_some_kind(reply) && is_text(", "    return is_text(", "unit_sides")
add("resume-other-kind", "a set's job goes on at a standalone", "engine/state/document.c",
    "!tow_identity_other_kind(before, now)", "1", "unit_fence")
add("indexes-none", "a listing without the index on _id says that there are no others", "engine/link/indexes.c",
    "&listing, error)) && !listing.has_id) {", "&listing, error)) && 0) {", "unit_reader")
add("flag-of-any-type", "a flag of the job that cannot be read is false", "engine/job/journal.c",
    "flag_names[flag]) ? !BSON_ITER_HOLDS_BOOL(&iter)", "flag_names[flag]) ? 0", "unit_settling")
add("flag-missing", "a flag of the job that is lost on the way is false", "engine/job/journal.c",
    "    bool all = bson_has_field(document, ALL_FLAGS);\n", "    bool all = false;\n", "unit_settling")

# What other jobs have -------------------------------------------------------------------------------

add("others-none", "what another job claims is cleared", "engine/state/others.c",
    "    return read_records(others, &store, prepared, error);\n", "    return true;\n", "unit_claims")
add("others-cleared", "what another new job is about to clear is not looked at", "engine/state/others.c",
    " - (prepared ? 1 : 0); i++)", " - 1; i++)", "unit_claims")
add("others-running", "a stopped job that runs by now is cleared all the same", "engine/state/others.c",
    "    state->retired = ok && matched;\n", "    state->retired = ok;\n", "unit_claims")
add("cleared-goes-on", "a job that another one cleared goes on", "engine/state/document.c",
    "    if (!bson_has_field(document, \"clearedBy\"))\n", "    if (true)\n", "unit_fence")
add("cleared-since", "a job that another one cleared as it was taken goes on", "engine/state/lease.c",
    "    if (tow_document_check_cleared(document, error))\n        return true;\n    bson_destroy(document);\n",
    "    return true;\n    bson_destroy(document);\n", "unit_fence")
add("repair-beside", "a job does not look for a repair", "engine/job/setup.c",
    "        (!found || end_repair(job, store, error)))\n", "        (true || end_repair(job, store, error)))\n",
    "fault/takeover --only a write of a repair arrives late")
add("repair-killed", "what a killed repair may have under way is not known to the job", "engine/job/setup.c",
    "tow_store_adopt_late(store, repair, error) && ", "", "fault/takeover --only a write of a repair arrives late")
add("end-unsaid", "the state goes before the end was told", "engine/job/ending.c",
    "    if (recorded && job->journal.store && !job->config.remove_user) {\n", "    if (false) {\n",
    "fault/takeover --only the end cannot be printed")
add("end-replaced", "what replaced the job's collections does not count as in use", "engine/job/done.c",
    "    if (proof.named && proof.held < proof.listed)\n", "    if (proof.held && proof.held < proof.listed)\n",
    "fault/takeover --only the application replaced all")
