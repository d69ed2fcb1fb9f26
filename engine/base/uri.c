/* SPDX-License-Identifier: Apache-2.0 */
/* uri.c: see uri.h. */
#include "engine/base/uri.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/base/memory.h"

/* Options whose values are no secrets: those of the drivers' specification and of libmongoc, but
 * for authMechanismProperties and the passwords. */
static const char *const harmless[] = {"appName",
                                       "authMechanism",
                                       "authSource",
                                       "canonicalizeHostname",
                                       "compressors",
                                       "connect",
                                       "connectTimeoutMS",
                                       "directConnection",
                                       "gssapiServiceName",
                                       "heartbeatFrequencyMS",
                                       "j",
                                       "journal",
                                       "loadBalanced",
                                       "localThresholdMS",
                                       "maxConnecting",
                                       "maxIdleTimeMS",
                                       "maxPoolSize",
                                       "maxStalenessSeconds",
                                       "minPoolSize",
                                       "proxyHost",
                                       "proxyPort",
                                       "readConcernLevel",
                                       "readPreference",
                                       "readPreferenceTags",
                                       "replicaSet",
                                       "retryReads",
                                       "retryWrites",
                                       "safe",
                                       "serverMonitoringMode",
                                       "serverSelectionTimeoutMS",
                                       "serverSelectionTryOnce",
                                       "slaveOk",
                                       "socketCheckIntervalMS",
                                       "socketTimeoutMS",
                                       "srvMaxHosts",
                                       "srvServiceName",
                                       "ssl",
                                       "sslAllowInvalidCertificates",
                                       "sslAllowInvalidHostnames",
                                       "sslCertificateAuthorityFile",
                                       "sslClientCertificateKeyFile",
                                       "timeoutMS",
                                       "tls",
                                       "tlsAllowInvalidCertificates",
                                       "tlsAllowInvalidHostnames",
                                       "tlsCAFile",
                                       "tlsCertificateKeyFile",
                                       "tlsDisableCertificateRevocationCheck",
                                       "tlsDisableOCSPEndpointCheck",
                                       "tlsInsecure",
                                       "uuidRepresentation",
                                       "w",
                                       "waitQueueMultiple",
                                       "waitQueueTimeoutMS",
                                       "wtimeoutMS",
                                       "zlibCompressionLevel"};

/* What a value of them is made of; another character may begin something else. */
static const char *const plain =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.,:/@+%~ ";

bool tow_uri_is_one_of(const char *const *names, size_t count, const char *name, size_t length)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(names[i]) == length && !strncasecmp(names[i], name, length))
            return true;
    return false;
}

bool tow_uri_is_option(const char *name, size_t length)
{
    return tow_uri_is_one_of(harmless, sizeof harmless / sizeof *harmless, name, length);
}

static bool is_harmless(const char *name, size_t length, size_t value)
{
    return tow_uri_is_option(name, length) && name[length] == '=' &&
           strspn(name + length + 1, plain) >= value - 1;
}

/* Hosts -----------------------------------------------------------------------------------------*/

/* Whether a colon in it begins something else than a port: perhaps a password. */
static bool may_hold_password(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] == ':' && !(i + 1 < length && isdigit((unsigned char)text[i + 1])))
            return true;
    return false;
}

/* The @ after user and password: the last, which is where a password that is not encoded ends too,
 * but for those in values of options, such as a file in /home/me@example.com. NULL:
 * there is none. */
static const char *credentials_end(const char *authority)
{
    const char *slash = strchr(authority, '/'), *options = slash ? strchr(slash, '?') : NULL;
    const char *last = NULL, *pair = options;

    if (slash && !memchr(authority, '@', (size_t)(slash - authority)) &&
        may_hold_password(authority, (size_t)(slash - authority)))
        return strrchr(authority, '@');
    for (const char *at = authority; *at; at++) {
        if (options && at > options && *at == '&')
            pair = at;
        if (*at == '@' && !(pair && at > pair && memchr(pair, '=', (size_t)(at - pair))))
            last = at;
    }
    return last;
}

static bool is_port(const char *text, size_t length)
{
    char digits[6] = "";

    if (length < 1 || length > 5 || strspn(text, "0123456789") < length)
        return false;
    memcpy(digits, text, length);
    return atoi(digits) <= 65535;
}

/* NAME, NAME:PORT, [ADDRESS], [ADDRESS]:PORT, or a socket's path, encoded. */
static bool is_host(const char *text, size_t length)
{
    static const char *const name =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._%";
    size_t used = 0;

    if (*text == '[') {
        used = 1 + strspn(text + 1, "0123456789abcdefABCDEF:.%");
        if (used >= length || text[used++] != ']')
            return false;
    } else {
        used = strspn(text, name);
    }
    if (used >= length)
        return length > 0;
    return used > 0 && text[used] == ':' && is_port(text + used + 1, length - used - 1);
}

static bool are_hosts(const char *text, size_t length)
{
    while (true) {
        const char *comma = memchr(text, ',', length);
        size_t one = comma ? (size_t)(comma - text) : length;

        if (!is_host(text, one))
            return false;
        if (!comma)
            return true;
        text += one + 1;
        length -= one + 1;
    }
}

/* The whole -------------------------------------------------------------------------------------*/

/* What is not to be shown keeps a name that looks like one. */
static void append_option(tow_buffer_t *out, const char *name, size_t pair, size_t word, bool shown)
{
    static const char *const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

    if (shown) {
        tow_buffer_append(out, name, pair);
    } else if (pair > word && strspn(name, letters) >= word) {
        tow_buffer_append(out, name, word);
        tow_buffer_append(out, "=***", 4);
    } else {
        tow_buffer_append(out, "***", 3);
    }
}

/* From the question mark on. An option that goes takes a separator along. */
static void append_options(tow_buffer_t *out, const char *options, bool marked)
{
    char separator = '?';

    while (*options) {
        const char *name = options + 1;
        size_t pair = strcspn(name, "&"), word = strcspn(name, "=&");
        bool shown = is_harmless(name, word, pair - word);

        if (pair && (shown || marked)) {
            tow_buffer_append(out, &separator, 1);
            append_option(out, name, pair, word, shown);
            separator = '&';
        }
        options = name + pair;
    }
}

static char *copy_uri(const char *uri, bool marked)
{
    const char *scheme = strstr(uri, "://"), *at, *hosts;
    size_t length, path;
    tow_buffer_t out = {0};

    if (!scheme || strspn(uri, "abcdefghijklmnopqrstuvwxyz+") != (size_t)(scheme - uri))
        return tow_strdup("(hidden)");
    scheme += 3;
    at = credentials_end(scheme);
    hosts = at ? at + 1 : scheme;
    length = strcspn(hosts, "/?");
    path = strcspn(hosts + length, "?");
    tow_buffer_append(&out, uri, (size_t)(scheme - uri));
    if (are_hosts(hosts, length) && strspn(hosts + length, plain) >= path) {
        if (at && marked)
            tow_buffer_append(&out, "***@", 4);
        tow_buffer_append(&out, hosts, length + path);
        if (at && !path && hosts[length]) /* an @ in what follows ends no password */
            tow_buffer_append(&out, "/", 1);
        append_options(&out, hosts + length + path, marked);
    } else {
        tow_buffer_append(&out, "***", 3);
    }
    tow_buffer_append(&out, "", 1);
    return (char *)out.data;
}

char *tow_uri_shown(const char *uri)
{
    return copy_uri(uri, true);
}

char *tow_uri_address(const char *uri)
{
    return copy_uri(uri, false);
}

char *tow_uri_site(const char *url)
{
    const char *scheme = strstr(url, "://"), *host, *end, *at, *later;

    if (!scheme)
        return tow_strdup("(hidden)");
    host = scheme + 3;
    end = host + strcspn(host, "/?#");
    at = memrchr(host, '@', (size_t)(end - host));
    later = strrchr(end, '@');
    if (!at && may_hold_password(host, (size_t)(end - host)))
        at = later; /* a path may have an @, too */
    host = at ? at + 1 : host;
    end = host + strcspn(host, "/?#");
    if (!are_hosts(host, (size_t)(end - host)))
        return tow_format("%.*s***/***", (int)(scheme + 3 - url), url);
    return tow_format("%.*s%.*s/***", (int)(scheme + 3 - url), url, (int)(end - host), host);
}
