/* SPDX-License-Identifier: Apache-2.0 */
/* deliver.c: see deliver.h. */
#include "engine/notice/deliver.h"

#include <curl/curl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/file.h"
#include "engine/base/memory.h"

enum { CONNECT_SECONDS = 10, SEND_SECONDS = 30 };

void tow_address_clear(tow_address_t *address)
{
    free(address->webhook);
    free(address->key);
    free(address->smtp);
    free(address->from);
    free(address->to);
    free(address->user);
    free(address->password);
    free(address->ca_file);
    *address = (tow_address_t){0};
}

void tow_hmac_sha256(const char *key, const char *text, char out[65])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;

    if (!HMAC(EVP_sha256(), key, (int)strlen(key), (const unsigned char *)text, strlen(text),
              digest, &length))
        tow_out_of_memory();
    for (unsigned i = 0; i < length && i < 32; i++)
        snprintf(out + (size_t)i * 2, 3, "%02x", digest[i]);
}

static void initialize(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static size_t ignore(char *data TOW_UNUSED, size_t size, size_t count, void *context TOW_UNUSED)
{
    return size * count;
}

static int look_up(void *data, curl_off_t a TOW_UNUSED, curl_off_t b TOW_UNUSED,
                   curl_off_t c TOW_UNUSED, curl_off_t d TOW_UNUSED)
{
    return atomic_load((const atomic_bool *)data);
}

/* What both have in common. */
static CURL *open_transfer(const tow_address_t *address, const char *url, const char *protocols,
                           const atomic_bool *abort_flag)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    CURL *curl;

    pthread_once(&once, initialize);
    curl = curl_easy_init();
    if (!curl)
        tow_out_of_memory();
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, protocols);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)SEND_SECONDS);
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L); /* do not wait for a name service at the end */
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, look_up);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, (void *)abort_flag);
    if (address->ca_file)
        curl_easy_setopt(curl, CURLOPT_CAINFO, address->ca_file);
    return curl;
}

bool tow_deliver_webhook(const tow_address_t *address, const char *body,
                         const atomic_bool *abort_flag, bool *out_again, tow_error_t *error)
{
    CURL *curl = open_transfer(address, address->webhook, "http,https", abort_flag);
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    long status = 0;
    CURLcode code;

    if (address->key) {
        char hex[65], line[128];

        tow_hmac_sha256(address->key, body, hex);
        snprintf(line, sizeof line, "X-Towline-Signature: sha256=%s", hex);
        headers = curl_slist_append(headers, line);
    }
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "towline");
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    *out_again = code != CURLE_OK || status >= 500 || status == 408 || status == 429;
    if (code != CURLE_OK)
        return tow_fail(error, TOW_ERROR_UNREACHABLE,
                        "the webhook cannot be reached: %s; check --notify-webhook and "
                        "--notify-ca-file",
                        curl_easy_strerror(code));
    if (status < 200 || status > 299)
        return tow_fail(error, TOW_ERROR_UNREACHABLE,
                        "the webhook answers with HTTP status %ld; check --notify-webhook and "
                        "--notify-key-file",
                        status);
    return true;
}

/* Mail ------------------------------------------------------------------------------------------*/

typedef struct {
    const char *text;
    size_t left;
} upload_t;

static size_t give(char *out, size_t size, size_t count, void *data)
{
    upload_t *upload = data;
    size_t length = size * count < upload->left ? size * count : upload->left;

    memcpy(out, upload->text, length);
    upload->text += length;
    upload->left -= length;
    return length;
}

/* Header and text, each line ending as SMTP wants it. */
static char *make_message(const tow_address_t *address, const char *subject, const char *text)
{
    tow_buffer_t out = {0};
    time_t now = time(NULL);
    struct tm parts;
    uint64_t random[2];
    char date[64];
    char *head;

    tow_random(random, sizeof random);
    gmtime_r(&now, &parts);
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S +0000", &parts);
    head = tow_format("From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: %s\r\n"
                      "Message-ID: <%016llx%016llx@towline>\r\nAuto-Submitted: auto-generated\r\n"
                      "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
                      address->from, address->to, subject, date, (unsigned long long)random[0],
                      (unsigned long long)random[1]);
    tow_buffer_append(&out, head, strlen(head));
    free(head);
    for (; *text; text++)
        if (*text == '\n')
            tow_buffer_append(&out, "\r\n", 2);
        else if (*text != '\r')
            tow_buffer_append(&out, text, 1);
    tow_buffer_append(&out, "\r\n", 3);
    return (char *)out.data;
}

static struct curl_slist *recipients(const char *list)
{
    struct curl_slist *out = NULL;
    char *copy = tow_strdup(list), *rest = copy, *one;

    while ((one = strsep(&rest, ", ")))
        if (*one)
            out = curl_slist_append(out, one);
    free(copy);
    return out;
}

bool tow_deliver_mail(const tow_address_t *address, const char *subject, const char *text,
                      const atomic_bool *abort_flag, bool *out_again, tow_error_t *error)
{
    CURL *curl = open_transfer(address, address->smtp, "smtp,smtps", abort_flag);
    char *message = make_message(address, subject, text);
    upload_t upload = {message, strlen(message)};
    struct curl_slist *to = recipients(address->to);
    long status = 0;
    CURLcode code;

    curl_easy_setopt(curl, CURLOPT_USE_SSL,
                     address->plain ? (long)CURLUSESSL_NONE : (long)CURLUSESSL_ALL);
    if (address->user)
        curl_easy_setopt(curl, CURLOPT_USERNAME, address->user);
    if (address->password)
        curl_easy_setopt(curl, CURLOPT_PASSWORD, address->password);
    curl_easy_setopt(curl, CURLOPT_MAIL_FROM, address->from);
    curl_easy_setopt(curl, CURLOPT_MAIL_RCPT, to);
    curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(curl, CURLOPT_READFUNCTION, give);
    curl_easy_setopt(curl, CURLOPT_READDATA, &upload);
    code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(to);
    curl_easy_cleanup(curl);
    free(message);
    *out_again =
        code != CURLE_OK && code != CURLE_LOGIN_DENIED && !(status >= 500 && status <= 599);
    if (code == CURLE_OK)
        return true;
    return tow_fail(
        error, TOW_ERROR_UNREACHABLE,
        "the mail server takes no mail: %s (last reply %ld); check --notify-smtp, user, "
        "password and --notify-ca-file",
        curl_easy_strerror(code), status);
}
