/* SPDX-License-Identifier: Apache-2.0 */
/* double_internal.h: what the files of double.c share: the store and its reads (double.c), its
 * writes (double_write.c), and the driver's functions in front of both (double_driver.c). All but
 * the last file are called with the lock held. */
#ifndef TOW_UNIT_DOUBLE_INTERNAL_H
#define TOW_UNIT_DOUBLE_INTERNAL_H

#include "double.h"

#include <mongoc/mongoc.h>

#include "engine/link/internal.h"

enum { CURSORS = 64, DUPLICATE = 11000 };

typedef struct {
    char ns[64];
    bson_t id;                /* {_id: …} */
    tow_optime_t time, until; /* until: the next version's time */
    bson_t *document;         /* NULL: deleted */
} version_t;

typedef struct {
    bool open;
    char ns[64];
    bson_t ids; /* of the documents that are not given out yet */
    tow_optime_t snapshot;
} cursor_t;

struct double_server {
    tow_link_t *link;
    version_t *versions;
    uint32_t count, capacity;
    tow_optime_t now;
    bool stale, worst;
    const char *unique;
    uint64_t random;
    cursor_t cursors[CURSORS];
    uint32_t next_cursor;
    double_hook_t hook;
    void *hook_data;
    char lose[16];
    char hold[16]; /* the write that is held, once it comes */
    uint32_t pass; /* of that name before it */
    struct {
        atomic_uint is;
        bson_t command;
        char database[64];
        void *session;
    } held;
};

extern pthread_mutex_t double_lock;

bool double_is_of(const version_t *version, const char *ns, tow_optime_t time);
const bson_t *double_document_of(const double_server_t *server, const char *ns, tow_value_t id,
                                 tow_optime_t time);
tow_optime_t double_add(double_server_t *server, const char *ns, tow_value_t id,
                        const bson_t *document);
void double_append_index(bson_t *list, uint32_t number, const bson_t *document);
void double_append_time(bson_t *reply, tow_optime_t time);
tow_value_t double_id_of(const bson_t *document);
void double_find(double_server_t *server, const char *database, const bson_t *command,
                 bson_t *reply);
void double_get_more(double_server_t *server, const bson_t *command, bson_t *reply);
void double_list_collections(double_server_t *server, const char *database, const bson_t *command,
                             bson_t *reply);
void double_list_indexes(double_server_t *server, bson_t *reply);
void double_write(double_server_t *server, const char *database, const bson_t *command,
                  bson_t *reply);
void double_drop(double_server_t *server, const char *database, const char *name, bson_t *reply);
void double_rename(double_server_t *server, const bson_t *command, bson_t *reply);

#endif
