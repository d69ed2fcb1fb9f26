/* SPDX-License-Identifier: Apache-2.0 */
/* spec.c: see spec.h.
 *
 * Which options an index has: src/mongo/db/catalog/index_key_validate.cpp of 4.2 to 8.x. Indexes of
 * old servers list others besides (`safe`, `dropDups`, `w`, `background: "true"`), which mean
 * nothing, and which createIndexes refuses. */
#include "engine/state/spec.h"
#include "engine/link/reply.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/memory.h"
#include "engine/link/versions.h"
#include "engine/state/key.h"

/* Since 1970: what is held off in this program's time is more than the second. */
enum { DAY_SECONDS = 86400, NEVER_SECONDS = 1700000000 };

/* By value; those of `flags` are booleans, however they were given. `background` is sent, since old
 * servers list it, but says nothing. */
static const char *const values[] = {"v",
                                     "key",
                                     "name",
                                     "partialFilterExpression",
                                     "collation",
                                     "expireAfterSeconds",
                                     "weights",
                                     "default_language",
                                     "language_override",
                                     "textIndexVersion",
                                     "2dsphereIndexVersion",
                                     "coarsestIndexedLevel",
                                     "finestIndexedLevel",
                                     "bits",
                                     "min",
                                     "max",
                                     "bucketSize",
                                     "wildcardProjection",
                                     "columnstoreProjection",
                                     "storageEngine",
                                     NULL};
static const char *const flags[] = {"unique",        "sparse",    "hidden",
                                    "prepareUnique", "clustered", NULL};

static bool is_among(const char *name, const char *const *names)
{
    for (; names && *names; names++)
        if (!strcmp(*names, name))
            return true;
    return false;
}

tow_takes_t tow_takes_at(const tow_facts_t *facts, int64_t seconds)
{
    int64_t most = seconds - DAY_SECONDS;

    if (most > INT32_MAX || tow_server_can(facts, TOW_TTL_MAX))
        most = INT32_MAX;
    return (tow_takes_t){.ttl_most = most,
                         .images = tow_server_can(facts, TOW_PRE_AND_POST_IMAGES),
                         .pre_images = tow_server_can(facts, TOW_RECORD_PRE_IMAGES),
                         .converts = tow_server_can(facts, TOW_PREPARE_UNIQUE),
                         .aborts = tow_server_can(facts, TOW_ABORT_BUILDS)};
}

tow_takes_t tow_takes(const tow_link_t *link)
{
    int64_t here = tow_wall_ms() / 1000, there = (int64_t)(tow_link_time(link) >> 32);

    return tow_takes_at(tow_link_facts(link), there && there < here ? there : here);
}

/* TTL -------------------------------------------------------------------------------------------*/

int64_t tow_ttl_seconds(const bson_iter_t *value)
{
    double number;

    if (BSON_ITER_HOLDS_INT32(value) || BSON_ITER_HOLDS_INT64(value)) {
        int64_t whole = bson_iter_as_int64(value);

        return whole < 0 || whole > INT32_MAX ? INT32_MAX : whole;
    }
    if (BSON_ITER_HOLDS_DOUBLE(value)) {
        number = bson_iter_double(value);
        return number >= 0 && number <= INT32_MAX ? (int64_t)trunc(number) : INT32_MAX;
    }
    return INT32_MAX; /* also a decimal, which nobody gives: it keeps documents */
}

bool tow_ttl_is_never(int64_t seconds)
{
    return seconds >= NEVER_SECONDS;
}

bool tow_index_has_ttl(const bson_t *specification)
{
    return bson_has_field(specification, "expireAfterSeconds");
}

static void append_ttl(const bson_iter_t *listed, const tow_takes_t *takes, bool hold_off,
                       bson_t *out)
{
    int64_t seconds = tow_ttl_seconds(listed);

    if (seconds > takes->ttl_most)
        return; /* never expires, which no value that the server takes says */
    if (hold_off)
        seconds = takes->ttl_most;
    bson_append_int32(out, "expireAfterSeconds", -1, (int32_t)seconds);
}

/* Indexes ---------------------------------------------------------------------------------------*/

bool tow_index_is_unique(const bson_t *specification)
{
    return tow_field_is_set(specification, "unique") ||
           tow_field_is_set(specification, "prepareUnique");
}

static bool is_simple(const bson_iter_t *collation)
{
    const char *locale;
    bson_t document;

    return tow_iter_document(collation, &document) &&
           tow_field_text(&document, "locale", &locale) && !strcmp(locale, "simple");
}

static int64_t version_of(const bson_t *specification)
{
    bson_iter_t iter;

    return bson_iter_init_find(&iter, specification, "v") && BSON_ITER_HOLDS_NUMBER(&iter)
               ? bson_iter_as_int64(&iter)
               : 2;
}

void tow_index_spec(const bson_t *listed, const tow_takes_t *takes, bool hold_off, bson_t *out)
{
    bool collated = false;
    bson_iter_t iter;

    bson_init(out);
    bson_append_int32(out, "v", -1, version_of(listed) == 1 ? 1 : 2);
    if (!bson_iter_init(&iter, listed))
        return;
    while (bson_iter_next(&iter)) {
        const char *name = bson_iter_key(&iter);

        collated = collated || !strcmp(name, "collation");
        if (!strcmp(name, "expireAfterSeconds"))
            append_ttl(&iter, takes, hold_off, out);
        else if ((is_among(name, flags) || !strcmp(name, "background")) && bson_iter_as_bool(&iter))
            bson_append_bool(out, name, -1, true);
        else if (is_among(name, values) && strcmp(name, "v") != 0)
            bson_append_iter(out, NULL, 0, &iter);
    }
    /* Version 1 knows no collation, and is always simple. */
    if (!collated && version_of(listed) != 1) {
        bson_t simple;

        bson_append_document_begin(out, "collation", -1, &simple);
        bson_append_utf8(&simple, "locale", -1, "simple", -1);
        bson_append_document_end(out, &simple);
    }
}

static void canonical_index(const bson_t *listed, bson_t *out)
{
    bson_iter_t iter;

    bson_init(out);
    if (!bson_iter_init(&iter, listed))
        return;
    while (bson_iter_next(&iter)) {
        const char *name = bson_iter_key(&iter);

        if (!strcmp(name, "expireAfterSeconds")) {
            if (!tow_ttl_is_never(tow_ttl_seconds(&iter)))
                bson_append_int64(out, name, -1, tow_ttl_seconds(&iter));
        } else if (is_among(name, flags)) {
            if (bson_iter_as_bool(&iter))
                bson_append_bool(out, name, -1, true);
        } else if (is_among(name, values) && strcmp(name, "v") != 0 &&
                   (strcmp(name, "collation") != 0 || !is_simple(&iter))) {
            bson_append_iter(out, NULL, 0, &iter);
        }
    }
}

/* Comparing -------------------------------------------------------------------------------------*/

static bool same_value(const bson_iter_t *left, const bson_iter_t *right)
{
    tow_value_t a, b;

    /* A flag that was given as a number is listed as a bool by later servers. */
    if (BSON_ITER_HOLDS_BOOL(left) != BSON_ITER_HOLDS_BOOL(right) &&
        (BSON_ITER_HOLDS_NUMBER(left) || BSON_ITER_HOLDS_NUMBER(right)))
        return bson_iter_as_bool(left) == bson_iter_as_bool(right);
    a = tow_value_of(left);
    b = tow_value_of(right);
    /* A server may give back an int where a double was sent. */
    if (BSON_ITER_HOLDS_NUMBER(left) && BSON_ITER_HOLDS_NUMBER(right))
        return !tow_value_compare(a, b);
    return a.type == b.type && a.length == b.length &&
           (a.length == 0 || !memcmp(a.data, b.data, a.length));
}

/* Fields of the same names and values, whatever their order. */
static char *first_difference(const bson_t *a, const bson_t *b, const char *const *except)
{
    bson_iter_t left, right;

    bson_iter_init(&left, a);
    while (bson_iter_next(&left))
        if (!is_among(bson_iter_key(&left), except) &&
            (!bson_iter_init_find(&right, b, bson_iter_key(&left)) || !same_value(&left, &right)))
            return tow_strdup(bson_iter_key(&left));
    bson_iter_init(&right, b);
    while (bson_iter_next(&right))
        if (!is_among(bson_iter_key(&right), except) &&
            !bson_iter_init_find(&left, a, bson_iter_key(&right)))
            return tow_strdup(bson_iter_key(&right));
    return NULL;
}

static char *index_difference(const bson_t *a, const bson_t *b, const char *const *except)
{
    bson_t left, right;
    char *name;

    canonical_index(a, &left);
    canonical_index(b, &right);
    name = first_difference(&left, &right, except);
    bson_destroy(&left);
    bson_destroy(&right);
    return name;
}

char *tow_index_difference(const bson_t *a, const bson_t *b, bool ignore_ttl)
{
    static const char *const ttl[] = {"expireAfterSeconds", NULL};

    return index_difference(a, b, ignore_ttl ? ttl : NULL);
}

bool tow_index_is_modifiable(const bson_t *a, const bson_t *b, const tow_takes_t *takes)
{
    static const char *const always[] = {"expireAfterSeconds", "hidden", NULL};
    static const char *const newer[] = {"expireAfterSeconds", "hidden", "unique", "prepareUnique",
                                        NULL};
    char *name = index_difference(a, b, takes->converts ? newer : always);
    bool alike = !name;

    free(name);
    /* collMod takes no TTL away, and older ones give none. */
    return alike && (tow_index_has_ttl(a) == tow_index_has_ttl(b) ||
                     (takes->converts && tow_index_has_ttl(a)));
}

/* Options ---------------------------------------------------------------------------------------*/

/* `temp` marks what $out and mapReduce have under way, and no command may create that; the others
 * mean nothing any more, or are the server's own. */
static const char *const passing[] = {"uuid", "temp", "autoIndexId", "flags", NULL};

/* Whether changes are recorded with their documents, by either name. */
static bool records_images(const bson_iter_t *option)
{
    bson_iter_t inner;

    if (!strcmp(bson_iter_key(option), "recordPreImages"))
        return bson_iter_as_bool(option);
    return BSON_ITER_HOLDS_DOCUMENT(option) && bson_iter_recurse(option, &inner) &&
           bson_iter_find(&inner, "enabled") && bson_iter_as_bool(&inner);
}

static bool is_images(const char *name)
{
    return !strcmp(name, "recordPreImages") || !strcmp(name, "changeStreamPreAndPostImages");
}

static void append_images(const tow_takes_t *takes, bson_t *out)
{
    bson_t images;

    if (takes->images) {
        bson_append_document_begin(out, "changeStreamPreAndPostImages", -1, &images);
        bson_append_bool(&images, "enabled", -1, true);
        bson_append_document_end(out, &images);
    } else if (takes->pre_images) {
        bson_append_bool(out, "recordPreImages", -1, true);
    }
}

void tow_options_spec(const bson_t *listed, const tow_takes_t *takes, bson_t *out)
{
    bson_iter_t iter;

    bson_init(out);
    if (!bson_iter_init(&iter, listed))
        return;
    while (bson_iter_next(&iter)) {
        const char *name = bson_iter_key(&iter);

        if (is_images(name)) {
            if (records_images(&iter))
                append_images(takes, out);
        } else if (!is_among(name, passing) && strcmp(name, "expireAfterSeconds") != 0) {
            bson_append_iter(out, NULL, 0, &iter);
        }
    }
}

/* An option that is listed with the value that it has when it is not: servers write some of them
 * out when a collection is changed. */
static bool is_default(const bson_iter_t *option)
{
    static const char *const defaults[][2] = {{"validationLevel", "strict"},
                                              {"validationAction", "error"}};
    const char *name = bson_iter_key(option), *text;
    bson_iter_t inner;

    if (BSON_ITER_HOLDS_BOOL(option))
        return !bson_iter_bool(option);
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++)
        if (!strcmp(name, defaults[i][0]) && tow_iter_text(option, &text))
            return !strcmp(text, defaults[i][1]);
    if (!strcmp(name, "collation"))
        return is_simple(option);
    return !strcmp(name, "validator") && BSON_ITER_HOLDS_DOCUMENT(option) &&
           bson_iter_recurse(option, &inner) && !bson_iter_next(&inner);
}

static bool cluster_key(const bson_t *options, bson_t *out)
{
    return tow_field_document(options, "clusteredIndex", out);
}

static void append_cluster_key(const bson_t *listed, bson_t *out)
{
    bson_t raw, key;

    if (!cluster_key(listed, &raw))
        return;
    bson_init(&key);
    bson_copy_to_excluding_noinit(&raw, &key, "v", NULL); /* its format does not count */
    bson_append_document(out, "clusteredIndex", -1, &key);
    bson_destroy(&key);
}

void tow_options_canonical(const bson_t *listed, const tow_takes_t *takes, bson_t *out)
{
    bson_iter_t iter;

    bson_init(out);
    if (!bson_iter_init(&iter, listed))
        return;
    while (bson_iter_next(&iter)) {
        const char *name = bson_iter_key(&iter);

        if (is_among(name, passing) || is_default(&iter))
            continue;
        if (is_images(name)) {
            if (records_images(&iter))
                append_images(takes, out);
        } else if (!strcmp(name, "clusteredIndex") && BSON_ITER_HOLDS_DOCUMENT(&iter)) {
            append_cluster_key(listed, out);
        } else if (!strcmp(name, "expireAfterSeconds")) {
            if (!tow_ttl_is_never(tow_ttl_seconds(&iter)))
                bson_append_int64(out, name, -1, tow_ttl_seconds(&iter));
        } else {
            bson_append_iter(out, NULL, 0, &iter);
        }
    }
}

/* Of two cluster keys, the option within. */
static char *refine(const bson_t *a, const bson_t *b, char *name)
{
    bson_t left, right;
    char *inner, *refined;

    if (!name || strcmp(name, "clusteredIndex") != 0 || !cluster_key(a, &left) ||
        !cluster_key(b, &right))
        return name;
    inner = first_difference(&left, &right, NULL);
    if (!inner)
        return name;
    refined = tow_format("%s.%s", name, inner);
    free(inner);
    free(name);
    return refined;
}

char *tow_options_difference(const bson_t *a, const bson_t *b, const tow_takes_t *takes,
                             const char *const *except)
{
    bson_t left, right;
    char *name;

    tow_options_canonical(a, takes, &left);
    tow_options_canonical(b, takes, &right);
    name = refine(&left, &right, first_difference(&left, &right, except));
    bson_destroy(&left);
    bson_destroy(&right);
    return name;
}
