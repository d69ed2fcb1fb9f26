/* SPDX-License-Identifier: Apache-2.0 */
/* validate.c: the checks before a start, one finding each, in the order in which a person mends
 * them.
 *
 * All run even when one fails; what needs a connection that could not be made is skipped and says
 * so. Nothing is written to either side. */
#include <libgen.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/check/checks.h"
#include "engine/check/figures.h"
#include "engine/check/same.h"
#include "engine/link/codes.h"
#include "engine/link/reply.h"
#include "engine/link/sharding.h"
#include "engine/link/uri.h"
#include "engine/link/versions.h"

enum { OWN_FILES = 64, SHORT_COPY_SECONDS = 60 };

/* Connections -----------------------------------------------------------------------------------*/

static const struct {
    const char *source, *destination, *passed;
} stages[] = {
    [TOW_STAGE_URI] = {"source_uri", "destination_uri", "well formed"},
    [TOW_STAGE_NAME] = {"source_name", "destination_name", "resolves"},
    [TOW_STAGE_CONNECTION] = {"source_connection", "destination_connection", "answers"},
    [TOW_STAGE_TLS] = {"source_tls", "destination_tls", "as the URI asks"},
    [TOW_STAGE_LOGIN] = {"source_login", "destination_login", "accepted, where asked for"}};

/* One finding for each step of a connection: up to `reached` they passed, that one failed.
 * `unheeded`: what the driver passes over in the URI, or NULL. */
static void tell_stages(tow_check_run_t *run, bool source, tow_stage_t reached,
                        const char *unheeded, const tow_error_t *error)
{
    for (int i = TOW_STAGE_URI; i < TOW_STAGE_DONE; i++) {
        const char *name = source ? stages[i].source : stages[i].destination;

        if (i < (int)reached && i == TOW_STAGE_URI && unheeded)
            tow_find_warning(run->findings, name, tow_format("correct the URI, or leave that out"),
                             "%s", unheeded);
        else if (i < (int)reached)
            tow_find_pass(run->findings, name, "%s", stages[i].passed);
        else if (i == (int)reached)
            tow_find_error(run->findings, name, error);
        else
            tow_find_skipped(run->findings, name, "not possible after the failure before");
    }
}

static void connect_side(tow_check_run_t *run, bool source)
{
    const tow_config_t *config = run->config;
    tow_error_t error = {0};
    tow_link_options_t options = {.side = source ? "source" : "destination",
                                  .retry_window_ms = config->retry_window_ms,
                                  .max_connections = tow_config_connections(config),
                                  .sink = run->sides->sink,
                                  .stop = run->sides->stop,
                                  .indexes = config->indexes};
    const char *uri = source ? config->source_uri : config->destination_uri;
    char *unheeded;
    tow_link_t *link = tow_uri_try(uri, options.side, &unheeded, &error)
                           ? tow_link_new(uri, &options, &error)
                           : NULL;

    atomic_store(source ? &run->sides->source : &run->sides->destination, link);
    tell_stages(run, source, link ? TOW_STAGE_DONE : tow_error_stage(&error), unheeded, &error);
    free(unheeded);
    if (link)
        *(source ? &run->source : &run->destination) = tow_conn_open(link);
}

/* What the servers are --------------------------------------------------------------------------*/

static void check_kind(tow_check_run_t *run)
{
    const tow_facts_t *facts;

    if (tow_skip_without(run, "source_kind", true, false))
        return;
    facts = tow_link_facts(run->sides->source);
    if (facts->standalone)
        tow_find_failure(run->findings, "source_kind", TOW_ERROR_UNSUITABLE,
                         tow_format("restart it as a replica set of one member (--replSet, then "
                                    "rs.initiate())"),
                         "the source %s is a standalone server, which has no change stream",
                         tow_link_hosts(run->sides->source));
    else
        tow_find_pass(run->findings, "source_kind", "%s",
                      facts->sharded ? "a mongos" : "a member of a replica set");
}

/* A member that is no primary takes no writes, and a URI that names it directly follows no
 * election. */
static void check_member(tow_check_run_t *run, bool source)
{
    const char *name = source ? "source_member" : "destination_member";
    tow_link_t *link = source ? run->sides->source : run->sides->destination;

    if (tow_skip_without(run, name, source, !source))
        return;
    if (!tow_link_facts(link)->secondary)
        tow_find_pass(run->findings, name, "%s",
                      tow_link_facts(link)->set_name[0] ? "the primary answers" : "no replica set");
    else if (source)
        tow_find_warning(
            run->findings, name,
            tow_format("leave directConnection=true out of its URI, so that elections are "
                       "followed"),
            "the source %s is not the primary of its replica set, whose newest writes "
            "arrive there later",
            tow_link_hosts(link));
    else
        tow_find_failure(
            run->findings, name, TOW_ERROR_UNSUITABLE,
            tow_format("leave directConnection=true out of its URI, or name the primary"),
            "the destination %s is not the primary of its replica set, and takes no writes",
            tow_link_hosts(link));
}

static void check_same(tow_check_run_t *run)
{
    tow_error_t error;

    if (tow_skip_without(run, "same_deployment", true, true))
        return;
    switch (tow_sides_compare(run->sides->source, run->sides->destination, &error)) {
    case TOW_SIDES_SAME:
    case TOW_SIDES_SHARD:
        tow_find_error(run->findings, "same_deployment", &error);
        break;
    case TOW_SIDES_DIFFERENT:
        tow_find_pass(run->findings, "same_deployment", "two different deployments");
        break;
    default:
        tow_find_pass(
            run->findings, "same_deployment",
            "two by the names of their members; run proves it by a mark in the destination's "
            "database towline_%s, before it writes anything else",
            run->config->name);
    }
}

static bool is_older(const tow_facts_t *facts, int major, int minor)
{
    return facts->major < major || (facts->major == major && facts->minor < minor);
}

static void check_versions(tow_check_run_t *run)
{
    const tow_facts_t *source, *destination;

    if (tow_skip_without(run, "versions", true, true))
        return;
    source = tow_link_facts(run->sides->source);
    destination = tow_link_facts(run->sides->destination);
    if (!tow_server_can(source, TOW_SUPPORTED) || !tow_server_can(destination, TOW_SUPPORTED))
        tow_find_failure(run->findings, "versions", TOW_ERROR_UNSUITABLE, tow_format("upgrade it"),
                         "the %s runs version %s; 4.2 or newer is needed",
                         !tow_server_can(source, TOW_SUPPORTED) ? "source" : "destination",
                         !tow_server_can(source, TOW_SUPPORTED) ? source->version
                                                                : destination->version);
    else if (is_older(destination, source->major, source->minor))
        tow_find_warning(
            run->findings, "versions",
            tow_format("use a destination of the same version or a newer one: an older "
                       "one may refuse options and indexes"),
            "the destination runs version %s, older than the source's %s", destination->version,
            source->version);
    else
        tow_find_pass(run->findings, "versions", "source %s, destination %s", source->version,
                      destination->version);
}

/* Why a server did not tell: without the command that it may repeat. */
static const char *refusal(const tow_error_t *error)
{
    return error->server_code == TOW_CODE_UNAUTHORIZED ? "its user may not ask for it"
                                                       : error->message;
}

/* Where shards are involved: collections arrive without their shard keys. */
static void check_sharding(tow_check_run_t *run)
{
    tow_shard_keys_t keys = NULL;
    tow_error_t error;
    uint32_t count;
    bool known;

    if (!run->source || !run->destination ||
        (!tow_link_facts(run->sides->source)->sharded &&
         !tow_link_facts(run->sides->destination)->sharded))
        return;
    known = tow_shard_keys_read(run->source, &keys, &error);
    count = HASH_COUNT(keys);
    tow_shard_keys_clear(&keys);
    if (!known)
        tow_find_skipped(run->findings, "sharding",
                         "collections arrive unsharded; which are sharded at "
                         "the source cannot be read: %s",
                         refusal(&error));
    else if (count)
        tow_find_warning(
            run->findings, "sharding",
            tow_format("make sure that no _id stands on two shards, and that the destination "
                       "(of a cluster: each database's primary shard) has room for all; shard "
                       "the collections there after the cutover"),
            "of the source's collections %u %s sharded; all arrive unsharded", count,
            count == 1 ? "is" : "are");
    else if (tow_link_facts(run->sides->destination)->sharded)
        tow_find_warning(
            run->findings, "sharding",
            tow_format("make sure that each primary shard has room; shard the collections "
                       "after the cutover"),
            "collections arrive unsharded, each on the primary shard of its database");
    else
        tow_find_pass(run->findings, "sharding", "no collection of the source is sharded");
}

/* Whether the source can block its writes, where that is wished. */
bool tow_may_block_writes(const tow_link_t *source, tow_error_t *error)
{
    const tow_facts_t *facts = tow_link_facts(source);

    return tow_server_can(facts, TOW_BLOCK_WRITES)
               ? true
               : tow_fail(
                     error, TOW_ERROR_UNSUITABLE,
                     "the source runs version %s, and only 6.0 or newer can block writes; stop "
                     "the application's writes yourself, and cut over without --block-writes",
                     facts->version);
}

static void check_blocking(tow_check_run_t *run)
{
    tow_error_t error;

    if (!run->config->block_writes || tow_skip_without(run, "block_writes", true, false))
        return;
    if (tow_may_block_writes(run->sides->source, &error))
        tow_find_pass(run->findings, "block_writes", "the source can block its writes");
    else
        tow_find_error(run->findings, "block_writes", &error);
}

/* Room, time, this machine ----------------------------------------------------------------------*/

/* The folder, or the nearest one above it that exists: it is made only at the start. */
static void check_spool(tow_check_run_t *run)
{
    char *path = tow_strdup(run->config->spool);
    struct statvfs system;

    while (access(path, F_OK) && strcmp(path, "/") != 0 && strcmp(path, ".") != 0) {
        char *above = tow_strdup(dirname(path));

        free(path);
        path = above;
    }
    if (access(path, W_OK | X_OK) || statvfs(path, &system)) {
        tow_error_t error;

        tow_fail_errno(&error, TOW_ERROR_SPOOL, "the spool's folder %s cannot be written",
                       run->config->spool);
        tow_find_failure(run->findings, "spool_disk", TOW_ERROR_SPOOL,
                         tow_format("give a folder that this user may write with --spool DIR"),
                         "%s", error.message);
    } else {
        tow_judge_spool(run->findings, run->config->spool,
                        (uint64_t)system.f_bavail * system.f_frsize);
    }
    free(path);
}

static double number_at(const bson_t *reply, const char *path)
{
    bson_iter_t iter, found;

    return bson_iter_init(&iter, reply) && bson_iter_find_descendant(&iter, path, &found) &&
                   BSON_ITER_HOLDS_NUMBER(&found)
               ? bson_iter_as_double(&found)
               : 0;
}

/* A mongos adds up all disks, but collections arrive on the primary shards of their databases: of
 * whichever has the least room all of it may be needed. */
static void read_room(const bson_t *reply, double *out_used, double *out_total)
{
    bson_iter_t iter, shards;

    *out_used = number_at(reply, "fsUsedSize");
    *out_total = number_at(reply, "fsTotalSize");
    if (!bson_iter_init_find(&iter, reply, "raw") || !bson_iter_recurse(&iter, &shards))
        return;
    for (bool first = true; bson_iter_next(&shards);) {
        bson_t shard;

        if (!tow_iter_document(&shards, &shard) || number_at(&shard, "fsTotalSize") <= 0)
            continue;
        if (first || number_at(&shard, "fsTotalSize") - number_at(&shard, "fsUsedSize") <
                         *out_total - *out_used) {
            *out_total = number_at(&shard, "fsTotalSize");
            *out_used = number_at(&shard, "fsUsedSize");
        }
        first = false;
    }
}

static void check_destination_disk(tow_check_run_t *run)
{
    tow_send_options_t send = {.flags = TOW_SEND_RETRY};
    bson_t command = BSON_INITIALIZER, reply;
    double used, total;
    tow_error_t error;

    if (tow_skip_without(run, "destination_disk", true, true) ||
        tow_skip_without_survey(run, "destination_disk"))
        return;
    bson_append_int32(&command, "dbStats", -1, 1);
    if (tow_conn_command(run->destination, "admin", &command, &send, &reply, &error)) {
        read_room(&reply, &used, &total);
        tow_judge_destination(run->findings, run->out->survey.bytes, used, total);
    } else
        tow_find_skipped(run->findings, "destination_disk", "the destination does not tell: %s",
                         refusal(&error));
    bson_destroy(&reply);
    bson_destroy(&command);
}

static void check_window(tow_check_run_t *run)
{
    tow_checked_t *out = run->out;
    double copy_seconds = tow_estimate_copy_seconds(out->survey.bytes, out->survey.index_entries);
    tow_error_t error;

    if (tow_skip_without(run, "oplog_window", true, false) ||
        tow_skip_without_survey(run, "oplog_window"))
        return;
    if (tow_link_facts(run->sides->source)->standalone)
        tow_find_skipped(run->findings, "oplog_window", "a standalone server has no oplog");
    else if (tow_link_facts(run->sides->source)->sharded)
        tow_find_skipped(
            run->findings, "oplog_window",
            "a mongos does not tell; look at each shard with rs.printReplicationInfo()");
    /* Some servers read all of their oplog to find its beginning, and no start is to
     * wait for that. */
    else if (run->starting && copy_seconds < SHORT_COPY_SECONDS)
        tow_find_pass(run->findings, "oplog_window",
                      "the copy is estimated to take %.0f s: any oplog is longer", copy_seconds);
    else if (!tow_oplog_window(run->source, &out->window_seconds, &out->full_window_seconds,
                               &error))
        tow_find_skipped(run->findings, "oplog_window", "it cannot be read: %s", refusal(&error));
    else
        tow_judge_window(run->findings, out->window_seconds, out->full_window_seconds,
                         copy_seconds);
}

static void check_clocks(tow_check_run_t *run)
{
    double source, destination;
    tow_error_t error;

    if (tow_skip_without(run, "clock_skew", true, true))
        return;
    if (tow_clock_skew(run->source, &source, &error) &&
        tow_clock_skew(run->destination, &destination, &error))
        tow_judge_clocks(run->findings, source, destination);
    else
        tow_find_skipped(run->findings, "clock_skew", "a server's clock cannot be read: %s",
                         error.message);
}

static void check_files(tow_check_run_t *run)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        tow_find_skipped(run->findings, "open_files", "the system does not tell");
    else
        tow_judge_files(run->findings, limit.rlim_cur,
                        2 * (uint64_t)tow_config_connections(run->config) + OWN_FILES);
}

/* Public ----------------------------------------------------------------------------------------*/

static void check_privileges(tow_check_run_t *run)
{
    static const char *const unlikely = "\x01";
    tow_privilege_scope_t scope = {.remove_user = run->config->remove_user};
    const char **databases = tow_alloc((run->out->survey.count + 1) * sizeof *databases);
    char *own = tow_format("towline_%s", run->config->name);

    /* A filter that takes any database may have to write one that is not there yet. */
    if (run->out->surveyed && !tow_filter_takes_database(run->sides->filter, unlikely)) {
        databases[scope.database_count++] = own;
        for (size_t i = 0; i < run->out->survey.count; i++)
            if (!i || strcmp(run->out->survey.items[i].info->database,
                             run->out->survey.items[i - 1].info->database) != 0)
                databases[scope.database_count++] = run->out->survey.items[i].info->database;
        scope.databases = databases;
    }
    if (!tow_skip_without(run, "source_privileges", true, false))
        tow_check_privileges(run->source, "source", "source_privileges",
                             &(tow_privilege_scope_t){.block_writes = run->config->block_writes},
                             run->findings);
    if (run->destination && tow_link_facts(tow_conn_link(run->destination))->sharded)
        scope.sharded_state = own;
    if (!tow_skip_without(run, "destination_privileges", false, true))
        tow_check_privileges(run->destination, "destination", "destination_privileges", &scope,
                             run->findings);
    free(databases);
    free(own);
}

void tow_checks_run(tow_sides_t *sides, const tow_config_t *config, bool starting,
                    tow_checked_t *out)
{
    tow_check_run_t run = {.sides = sides,
                           .config = config,
                           .out = out,
                           .findings = &out->findings,
                           .starting = starting};
    tow_findings_t later = {0};

    *out = (tow_checked_t){.window_seconds = -1, .full_window_seconds = -1};
    connect_side(&run, true);
    connect_side(&run, false);
    check_kind(&run);
    check_member(&run, true);
    check_member(&run, false);
    check_same(&run);
    check_versions(&run);
    check_sharding(&run);
    check_blocking(&run);
    /* The privileges stand first, since a missing one explains what fails behind it; but which
     * databases are written is known only after the survey. */
    run.findings = &later;
    tow_check_state(&run);
    tow_check_lease(&run);
    tow_survey_source(&run);
    run.findings = &out->findings;
    check_privileges(&run);
    tow_check_rehearsal(&run);
    for (size_t i = 0; i < later.count; i++)
        out->findings.items[out->findings.count++] = later.items[i];
    tow_check_supported(&run);
    tow_check_left_out(&run);
    tow_check_filter(&run);
    tow_check_indexes(&run);
    tow_check_options(&run);
    tow_check_views(&run);
    tow_check_conflicts(&run);
    check_spool(&run);
    check_destination_disk(&run);
    check_window(&run);
    check_clocks(&run);
    check_files(&run);
    out->exists = run.viewed && run.view.exists;
    tow_conn_close(run.source);
    tow_conn_close(run.destination);
}

void tow_checked_clear(tow_checked_t *checked)
{
    tow_findings_clear(&checked->findings);
    tow_survey_clear(&checked->survey);
    tow_catalog_clear(&checked->in_the_way);
}
