/* SPDX-License-Identifier: Apache-2.0 */
/* deliver.h: sends one text by HTTP or SMTP, with libcurl. */
#ifndef TOW_NOTICE_DELIVER_H
#define TOW_NOTICE_DELIVER_H

#include <stdatomic.h>

#include "engine/base/error.h"

/* Where to and how; owned by whoever holds it. NULL where not wanted. */
typedef struct {
    char *webhook, *key;    /* key: of the signature */
    char *smtp, *from, *to; /* to: addresses separated by commas */
    char *user, *password, *ca_file;
    bool plain; /* SMTP without TLS */
} tow_address_t;

void tow_address_clear(tow_address_t *address);

/* Both: false with *out_again whether another attempt may help. An abort ends a transfer within
 * about a second. Messages hold neither URL nor secrets. */
/* POSTs JSON with the header X-Towline-Signature: sha256=HEX, the HMAC of the body with the key. */
bool tow_deliver_webhook(const tow_address_t *address, const char *body,
                         const atomic_bool *abort_flag, bool *out_again,
                         tow_error_t *error) TOW_CHECK;
bool tow_deliver_mail(const tow_address_t *address, const char *subject, const char *text,
                      const atomic_bool *abort_flag, bool *out_again, tow_error_t *error) TOW_CHECK;

/* 64 hex digits and a zero. */
void tow_hmac_sha256(const char *key, const char *text, char out[65]);

#endif
