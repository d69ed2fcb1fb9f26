/* SPDX-License-Identifier: Apache-2.0 */
/* identity.c: see identity.h. */
#include "engine/link/identity.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Pieces of a text, by address and length: nothing is copied. */
typedef struct {
    const char *kind, *id, *hosts, *name;
    size_t kind_length, id_length, hosts_length; /* the name is the rest */
} parsed_t;

static const char *take(const char *at, const char *label, const char **out, size_t *out_length)
{
    size_t length = strlen(label);

    if (!at || strncmp(at, label, length) != 0)
        return NULL;
    *out = at + length;
    *out_length = strcspn(*out, " ");
    at = *out + *out_length;
    return *at == ' ' ? at + 1 : NULL;
}

static bool parse(const char *text, parsed_t *out)
{
    const char *at = take(text, "", &out->kind, &out->kind_length);

    at = take(at, "id=", &out->id, &out->id_length);
    at = take(at, "hosts=", &out->hosts, &out->hosts_length);
    if (!at || strncmp(at, "name=", 5) != 0)
        return false;
    out->name = at + 5;
    return true;
}

static bool is_known(const parsed_t *parsed)
{
    return parsed->id_length > 0 && parsed->id[0] != '-';
}

static bool same_piece(const char *a, size_t a_length, const char *b, size_t b_length)
{
    return a_length == b_length && !strncasecmp(a, b, a_length);
}

static bool has_host(const parsed_t *in, const char *host, size_t length)
{
    const char *end = in->hosts + in->hosts_length;

    for (const char *at = in->hosts; at < end;) {
        size_t each = strcspn(at, ", ");

        if (each && same_piece(at, each, host, length))
            return true;
        at += each + 1;
    }
    return false;
}

static bool share_host(const parsed_t *a, const parsed_t *b)
{
    const char *end = a->hosts + a->hosts_length;

    for (const char *at = a->hosts; at < end;) {
        size_t length = strcspn(at, ", ");

        if (length && has_host(b, at, length))
            return true;
        at += length + 1;
    }
    return false;
}

tow_relation_t tow_identity_compare(const char *a, const char *b)
{
    parsed_t x, y;

    if (!parse(a, &x) || !parse(b, &y))
        return *a && !strcmp(a, b) ? TOW_IDENTITY_SAME : TOW_IDENTITY_OPEN;
    /* A set may be a shard of a cluster, and a standalone server a member that was started without
     * its set. */
    if (!same_piece(x.kind, x.kind_length, y.kind, y.kind_length))
        return TOW_IDENTITY_OPEN;
    if (is_known(&x) && is_known(&y))
        return same_piece(x.id, x.id_length, y.id, y.id_length) ? TOW_IDENTITY_SAME
                                                                : TOW_IDENTITY_DIFFERENT;
    if (strcmp(x.name, y.name) != 0)
        return TOW_IDENTITY_DIFFERENT;
    return share_host(&x, &y) ? TOW_IDENTITY_SAME : TOW_IDENTITY_OPEN;
}

bool tow_identity_other_kind(const char *a, const char *b)
{
    parsed_t x, y;

    return parse(a, &x) && parse(b, &y) &&
           !same_piece(x.kind, x.kind_length, y.kind, y.kind_length);
}

void tow_identity_write(const char *kind, const char *id, const char *hosts, const char *name,
                        char *out, size_t size)
{
    size_t room = size - strlen(kind) - strlen(name) - 64, length = strlen(hosts);

    /* Half a name would be that of somebody else. */
    while (length > room)
        while (length > 0 && hosts[--length] != ',')
            ;
    snprintf(out, size, "%s id=%s hosts=%.*s name=%s", kind, *id ? id : "-", (int)length, hosts,
             name);
}

void tow_identity_id(const char *text, char *out)
{
    parsed_t parsed;

    out[0] = '\0';
    if (parse(text, &parsed) && is_known(&parsed))
        snprintf(out, 25, "%.*s", (int)parsed.id_length, parsed.id);
}

void tow_identity_hosts(const char *text, char *out, size_t size)
{
    parsed_t parsed;

    out[0] = '\0';
    if (parse(text, &parsed))
        snprintf(out, size, "%.*s", (int)parsed.hosts_length, parsed.hosts);
}
