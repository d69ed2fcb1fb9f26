/* SPDX-License-Identifier: Apache-2.0 */
/* document.c: the job's document: what it says of the lease and the settings, and how a lease is
 * written into it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/link/identity.h"
#include "engine/link/reply.h"
#include "engine/state/store_internal.h"

/* Reading ---------------------------------------------------------------------------------------*/

static void parse_field(const bson_iter_t *field, tow_lease_t *out)
{
    const char *name = bson_iter_key(field);

    if (!strcmp(name, "holder") && BSON_ITER_HOLDS_UTF8(field))
        snprintf(out->holder, sizeof out->holder, "%s", bson_iter_utf8(field, NULL));
    else if (!strcmp(name, "host") && BSON_ITER_HOLDS_UTF8(field))
        snprintf(out->host, sizeof out->host, "%s", bson_iter_utf8(field, NULL));
    else if (!strcmp(name, "pid"))
        tow_iter_number(field, &out->pid);
    else if (!strcmp(name, "expires"))
        tow_iter_wall_ms(field, &out->expires_ms);
}

void tow_lease_parse(const bson_t *document, tow_lease_t *out)
{
    bson_iter_t iter, field;

    *out = (tow_lease_t){0};
    if (bson_iter_init_find(&iter, document, "epoch"))
        tow_iter_count(&iter, INT64_MAX - 1, &out->epoch);
    if (bson_iter_init_find(&iter, document, "user") && BSON_ITER_HOLDS_UTF8(&iter))
        snprintf(out->user, sizeof out->user, "%s", bson_iter_utf8(&iter, NULL));
    if (bson_iter_init_find(&iter, document, "lease") && BSON_ITER_HOLDS_DOCUMENT(&iter) &&
        bson_iter_recurse(&iter, &field))
        while (bson_iter_next(&field))
            parse_field(&field, out);
}

bool tow_document_is_begun(const bson_t *document)
{
    return tow_field_is_set(document, "begun") || tow_field_is_set(document, "prepared");
}

bool tow_document_is_removed(const bson_t *document)
{
    return tow_field_is_set(document, "removing") && !bson_has_field(document, "ended");
}

/* Members come and go, and so may the right to read an id. `here`: only an id that is another one
 * says that it is another deployment. */
static bool is_same_deployment(const char *before, const char *now, bool here)
{
    tow_relation_t identity = tow_identity_compare(before, now);

    return identity == TOW_IDENTITY_SAME ||
           (here && identity == TOW_IDENTITY_OPEN && !tow_identity_other_kind(before, now));
}

/* How the job's records are laid out; a job goes on in the format that it began with. */
static bool check_format(const bson_t *document, tow_error_t *error)
{
    bson_iter_t iter;
    int64_t format = 1; /* the first had no number */

    if (bson_iter_init_find(&iter, document, "format"))
        tow_iter_number(&iter, &format);
    return format == TOW_STATE_FORMAT ||
           tow_fail(
               error, TOW_ERROR_SETTINGS,
               "the job was begun by another version of Towline: its records have format %" PRId64
               ", this version reads %d; go on with that version, or begin a new job with another "
               "--job and an empty destination",
               format, TOW_STATE_FORMAT);
}

bool tow_document_check_cleared(const bson_t *document, tow_error_t *error)
{
    const char *by = "another job";

    if (!bson_has_field(document, "clearedBy"))
        return true;
    tow_field_text(document, "clearedBy", &by);
    return tow_fail(error, TOW_ERROR_CONFLICT,
                    "another job (its state: %s) cleared on the destination what this job had "
                    "copied there, so this one does not go on; to begin it from the start, remove "
                    "its own state (dropDatabase of towline_ and its --job) and run the same "
                    "command again",
                    by);
}

bool tow_document_check(const bson_t *document, const tow_settings_t *settings, tow_error_t *error)
{
    const struct {
        const char *field, *what, *now;
        bool identity, here; /* here: the job's document is on it */
    } checks[] = {{"source", "the source", settings->source_identity, true, false},
                  {"destination", "the destination", settings->destination_identity, true, true},
                  {"filter", "the filter", settings->filter, false, false}};

    if (!check_format(document, error) || !tow_document_check_cleared(document, error))
        return false;
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        bson_iter_t iter;
        const char *before = "";

        if (bson_iter_init_find(&iter, document, checks[i].field) && BSON_ITER_HOLDS_UTF8(&iter))
            before = bson_iter_utf8(&iter, NULL);
        if (checks[i].identity ? !is_same_deployment(before, checks[i].now, checks[i].here)
                               : strcmp(before, checks[i].now) != 0)
            return tow_fail(error, TOW_ERROR_SETTINGS,
                            "%s differs from the one this job began with: it was '%s' and is now "
                            "'%s'; give the same options again, or another --job for a new job",
                            checks[i].what, before, checks[i].now);
    }
    return true;
}

/* Writing ---------------------------------------------------------------------------------------*/

void tow_store_append_expiry(bson_t *out, const char *name, int64_t length_ms)
{
    bson_t sum, list, now;

    bson_append_document_begin(out, name, -1, &sum);
    bson_append_array_begin(&sum, "$add", -1, &list);
    bson_append_document_begin(&list, "0", 1, &now);
    bson_append_utf8(&now, "$toLong", -1, "$$NOW", -1);
    bson_append_document_end(&list, &now);
    bson_append_int64(&list, "1", 1, length_ms);
    bson_append_array_end(&sum, &list);
    bson_append_document_end(out, &sum);
}

void tow_document_append_literal(bson_t *out, const char *name, const char *text)
{
    bson_t literal;

    bson_append_document_begin(out, name, -1, &literal);
    bson_append_utf8(&literal, "$literal", -1, text, -1);
    bson_append_document_end(out, &literal);
}

void tow_store_stage(bson_t *out, const bson_t *fields)
{
    bson_t stage;

    bson_init(out);
    bson_append_document_begin(out, "0", 1, &stage);
    bson_append_document(&stage, "$set", -1, fields);
    bson_append_document_end(out, &stage);
}

/* Host and process are for people alone. */
void tow_lease_append(bson_t *out, const tow_store_t *store)
{
    char host[256] = "";
    bson_t lease;

    gethostname(host, sizeof host - 1);
    bson_append_document_begin(out, "lease", -1, &lease);
    tow_document_append_literal(&lease, "holder", store->holder);
    tow_document_append_literal(&lease, "host", host);
    bson_append_int64(&lease, "pid", -1, getpid());
    bson_append_utf8(&lease, "taken", -1, "$$NOW", -1);
    tow_store_append_expiry(&lease, "expires", store->options.lease_ms);
    bson_append_document_end(out, &lease);
}

void tow_lease_append_takeable(bson_t *out, const tow_lease_t *old)
{
    bson_t compare, list, part;

    bson_append_utf8(out, "_id", -1, "job", -1);
    bson_append_int64(out, "epoch", -1, old->epoch);
    if (!old->holder[0]) {
        bson_append_null(out, "lease", -1);
        return;
    }
    bson_append_utf8(out, "lease.holder", -1, old->holder, -1);
    bson_append_document_begin(out, "$expr", -1, &compare);
    bson_append_array_begin(&compare, "$lte", -1, &list);
    bson_append_document_begin(&list, "0", 1, &part);
    bson_append_utf8(&part, "$toLong", -1, "$lease.expires", -1);
    bson_append_document_end(&list, &part);
    bson_append_document_begin(&list, "1", 1, &part);
    bson_append_utf8(&part, "$toLong", -1, "$$NOW", -1);
    bson_append_document_end(&list, &part);
    bson_append_array_end(&compare, &list);
    bson_append_document_end(out, &compare);
}
