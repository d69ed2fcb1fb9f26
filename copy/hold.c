/* SPDX-License-Identifier: Apache-2.0 */
/* hold.c: keeps builds of a collection or database from running beside a change of its catalog. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "copy/internal.h"
#include "engine/base/clock.h"

enum { ABORT_MS = 500 };

/* A collection, or with no name a database, of which nothing is begun. */
struct tow_hold {
    struct tow_hold *prev, *next;
    char *database, *name;
};

static bool is_of(const char *database, const char *name, const char *other_database,
                  const char *other_name)
{
    return !strcmp(database, other_database) && (!name || !strcmp(name, other_name));
}

bool tow_copy_is_held(const tow_copy_t *copy, const tow_build_t *build)
{
    const struct tow_hold *hold;

    DL_FOREACH(copy->holds, hold)
        if (is_of(hold->database, hold->name, build->database, build->name))
            return true;
    return false;
}

/* Somebody works on it, or waits for an index of it. */
bool tow_copy_is_busy(const tow_copy_t *copy, const char *database, const char *name)
{
    const tow_running_t *running;

    for (uint32_t i = 0; i < copy->options.index_workers; i++) {
        const tow_build_t *build = copy->index_workers[i].build;

        if (build && is_of(database, name, build->database, build->name))
            return true;
    }
    DL_FOREACH(copy->running, running)
        if (is_of(database, name, running->database, running->name))
            return true;
    return false;
}

/* dropIndexes of exactly what one command builds ends it at once. *out_command is the caller's, and
 * empty when nothing is under way. */
static void describe_abort(tow_copy_t *copy, const char *database, const char *name,
                           bson_t *out_command)
{
    const tow_running_t *running;
    bson_t list;

    bson_init(out_command);
    tow_copy_lock(copy);
    DL_FOREACH(copy->running, running)
        if (is_of(database, name, running->database, running->name))
            break;
    if (running) {
        bson_append_utf8(out_command, "dropIndexes", -1, running->name, -1);
        bson_append_array_begin(out_command, "index", -1, &list);
        for (uint32_t i = 0; i < running->count; i++) {
            char buffer[16];
            const char *key;

            bson_uint32_to_string(i, &key, buffer, sizeof buffer);
            bson_append_utf8(&list, key, -1, tow_index_name(&running->items[i]), -1);
        }
        bson_append_array_end(out_command, &list);
    }
    tow_copy_unlock(copy);
}

/* Whatever it answers: the build may have ended by itself, or not have begun. */
static void abort_build(tow_copy_t *copy, tow_conn_t *destination, const char *database,
                        const char *name)
{
    tow_send_options_t send = {.flags = TOW_SEND_WRITE};
    bson_t command, reply;
    tow_error_t ignored;
    bool sent;

    describe_abort(copy, database, name, &command);
    if (!bson_empty(&command)) {
        sent = tow_conn_command(destination, database, &command, &send, &reply, &ignored);
        (void)sent;
        bson_destroy(&reply);
    }
    bson_destroy(&command);
}

bool tow_copy_hold(tow_copy_t *copy, const char *database, const char *name, tow_error_t *error)
{
    struct tow_hold *hold = tow_alloc(sizeof *hold);
    tow_conn_t *destination = NULL;
    int64_t abort_ms = 0;
    bool told = false, ended;

    hold->database = tow_strdup(database);
    hold->name = name ? tow_strdup(name) : NULL;
    tow_copy_lock(copy);
    DL_APPEND(copy->holds, hold);
    while (tow_copy_is_busy(copy, database, name) && !tow_copy_ended(copy)) {
        if (tow_now_ms() >= abort_ms) {
            tow_copy_unlock(copy);
            if (!told)
                tow_emit(
                    &copy->options.sink, TOW_LEVEL_INFO, "build_ended",
                    "%s%s%s: a change of the source's catalog comes first; the destination's index "
                    "builds of it end and begin again",
                    database, name ? "." : "", name ? name : "");
            told = true;
            if (tow_takes(copy->options.destination).aborts) {
                if (!destination)
                    destination = tow_conn_open(copy->options.destination);
                abort_build(copy, destination, database, name);
            }
            abort_ms = tow_now_ms() + ABORT_MS;
            tow_copy_lock(copy);
        } else {
            tow_condition_wait(&copy->changed, &copy->lock, abort_ms);
        }
    }
    tow_copy_unlock(copy);
    tow_conn_close(destination);
    ended = tow_copy_ended(copy);
    if (ended && !tow_stop_error(copy->options.stop, error))
        tow_fail(error, TOW_ERROR_INTERRUPTED, "stopped");
    return !ended;
}

void tow_copy_release(tow_copy_t *copy, const char *database, const char *name, bool again)
{
    struct tow_hold *hold, *next;

    if (again && name)
        tow_copy_make_alike(copy, database, name);
    tow_copy_lock(copy);
    DL_FOREACH_SAFE(copy->holds, hold, next) {
        if (strcmp(hold->database, database) != 0 || !hold->name != !name ||
            (name && strcmp(hold->name, name) != 0))
            continue;
        DL_DELETE(copy->holds, hold);
        free(hold->database);
        free(hold->name);
        free(hold);
    }
    pthread_cond_broadcast(&copy->changed);
    tow_copy_unlock(copy);
}
