/* SPDX-License-Identifier: Apache-2.0 */
/* identity.h: who a deployment is, as far as its servers say: its kind, its id where that may be
 * read, its members by name, and a replica set's name. All of it stands in one text,
 * tow_facts_t.identity, which is kept with a job:
 *
 *     set id=65f1c0ffee65f1c0ffee65f1 hosts=h1:27017,h2:27017 name=rs0
 *     cluster id=- hosts=m1:27017 name=
 *
 * Texts are never compared as texts: a role that was given or taken away adds or removes the id,
 * and members come and go. */
#ifndef TOW_LINK_IDENTITY_H
#define TOW_LINK_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>

typedef enum {
    TOW_IDENTITY_SAME,
    TOW_IDENTITY_DIFFERENT, /* for certain */
    TOW_IDENTITY_OPEN       /* what they say allows both: only a look at the data decides */
} tow_relation_t;

/* Same: equal ids; or, where one of them is not known, the same set name and a member in common (of
 * a cluster a mongos in common). Different: other ids, or sets of other names. */
tow_relation_t tow_identity_compare(const char *a, const char *b);
/* Whether one is a set, say, and the other a standalone server. */
bool tow_identity_other_kind(const char *a, const char *b);

/* Writes the text. `kind`: "set", "cluster" or "standalone"; id "": not known; hosts separated by
 * commas, of which as many are kept as fit. */
void tow_identity_write(const char *kind, const char *id, const char *hosts, const char *name,
                        char *out, size_t size);
/* The id, or "" when the text has none; *out has 25 bytes. */
void tow_identity_id(const char *text, char *out);
/* The hosts: copied, so that a message can name them. */
void tow_identity_hosts(const char *text, char *out, size_t size);

#endif
