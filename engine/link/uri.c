/* SPDX-License-Identifier: Apache-2.0 */
/* uri.c: see uri.h. */
#include "engine/link/uri.h"

#include <ctype.h>
#include <mongoc/mongoc.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/base/memory.h"
#include "engine/base/text.h"
#include "engine/base/uri.h"
#include "engine/link/driver.h"

enum { NAME_MOST = 48, REASON_MOST = 512 };

/* Options that decide who may read along, and as whom we log in; of two that are equally near the
 * first is meant. */
static const char *const security[] = {"tls",
                                       "authMechanism",
                                       "authMechanismProperties",
                                       "authSource",
                                       "gssapiServiceName",
                                       "ssl",
                                       "sslAllowInvalidCertificates",
                                       "sslAllowInvalidHostnames",
                                       "sslCertificateAuthorityFile",
                                       "sslClientCertificateKeyFile",
                                       "sslClientCertificateKeyPassword",
                                       "tlsAllowInvalidCertificates",
                                       "tlsAllowInvalidHostnames",
                                       "tlsCAFile",
                                       "tlsCertificateKeyFile",
                                       "tlsCertificateKeyFilePassword",
                                       "tlsDisableCertificateRevocationCheck",
                                       "tlsDisableOCSPEndpointCheck",
                                       "tlsInsecure"};

static bool is_security(const char *name, size_t length)
{
    return tow_uri_is_one_of(security, sizeof security / sizeof *security, name, length);
}

static bool is_known(const char *name, size_t length)
{
    return is_security(name, length) || tow_uri_is_option(name, length);
}

/* Misspelt options ------------------------------------------------------------------------------*/

/* %74ls is tls: whoever writes it so means it. */
static void decode(const char *name, char out[NAME_MOST])
{
    size_t length = 0;

    for (; *name && length + 1 < NAME_MOST; name++) {
        char code[3] = "";
        bool encoded =
            *name == '%' && isxdigit((unsigned char)name[1]) && isxdigit((unsigned char)name[2]);

        if (encoded)
            memcpy(code, name + 1, 2);
        out[length] = encoded ? (char)strtol(code, NULL, 16) : *name;
        length += out[length] != '\0';
        name += encoded ? 2 : 0;
    }
    out[length] = '\0';
}

/* The option about TLS or login that an unknown one resembles; NULL: none. */
static const char *find_resembled(const char *unknown)
{
    char name[NAME_MOST];
    const char *nearest = NULL;
    size_t least = NAME_MOST;

    decode(unknown, name);
    for (size_t i = 0; i < sizeof security / sizeof *security; i++)
        if (tow_text_distance(name, security[i]) < least) {
            least = tow_text_distance(name, security[i]);
            nearest = security[i];
        }
    if (strcasestr(name, "tls") || strcasestr(name, "ssl") || !strncasecmp(name, "auth", 4))
        return nearest;
    return least <= (strlen(nearest) <= 4 ? 1 : 2) ? nearest : NULL;
}

/* What the driver says --------------------------------------------------------------------------*/

/* What a line says of an option is begun by one of these, and its name is in quotes. */
static bool option_of(const char *line, const char *begin, char out[NAME_MOST])
{
    size_t length = strlen(begin);
    const char *end;

    if (strncmp(line, begin, length) != 0)
        return false;
    end = strrchr(line + length, line[length - 1]);
    snprintf(out, NAME_MOST, "%.*s", end ? (int)(end - line - (long)length) : 0, line + length);
    return end != NULL;
}

/* As it was written, where it looks like a name; a password with an & goes on as one
 * that does not. */
static void show_name(const char *text, const char *lower, char out[NAME_MOST])
{
    static const char *const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const char *written = strcasestr(text, lower);

    if (written && *lower && strspn(lower, letters) == strlen(lower))
        snprintf(out, NAME_MOST, "%.*s", (int)strlen(lower), written);
    else
        snprintf(out, NAME_MOST, "***");
}

/* The driver repeats values, and they may be secrets: its words end where it quotes anything but
 * the name of a known option. */
static void scrub(const char *message, char *out, size_t size)
{
    size_t kept = 0;

    for (const char *at = message; *at;) {
        size_t name = strspn(at + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
        size_t word = 1;

        if (*at == '"' || (*at == '\'' && !isalpha((unsigned char)at[-(at > message)])) ||
            *at == '[') {
            if (at[1 + name] != *at || !is_known(at + 1, name))
                break;
            word = name + 2;
        }
        if (kept + word + 1 > size)
            break;
        memcpy(out + kept, at, word);
        kept += word;
        at += word;
    }
    while (kept && (isspace((unsigned char)out[kept - 1]) || strchr(":.,", out[kept - 1])))
        kept--;
    out[kept] = '\0';
}

/* Refusals --------------------------------------------------------------------------------------*/

/* An @ in a password that is not encoded makes the driver take the rest of the password for a host,
 * which would then stand in messages. */
static bool is_ambiguous(const char *text)
{
    const char *first = strchr(text, '@'), *options = strchr(text, '?');
    const char *second = first ? strchr(first + 1, '@') : NULL;

    return second && (!options || second < options);
}

/* A port that no host can have; false: it is something else, or may be a part of a password. */
static bool find_bad_port(const char *text, char *out, size_t size)
{
    const char *hosts = strstr(text, "://"), *at;
    size_t length;

    hosts = hosts ? hosts + 3 : text;
    length = strcspn(hosts, "/?");
    at = memrchr(hosts, '@', length);
    if (!at && strchr(hosts + length, '@'))
        return false;
    for (const char *host = at ? at + 1 : hosts, *end = hosts + length; host < end;) {
        const char *comma = memchr(host, ',', (size_t)(end - host)), *last = comma ? comma : end;
        const char *colon = memrchr(host, ':', (size_t)(last - host));
        size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;

        if (colon && digits && colon + 1 + digits == last &&
            (digits > 5 || atoi(colon + 1) > 65535 || atoi(colon + 1) < 1)) {
            snprintf(out, size, "port %.*s is out of range 1 to 65535",
                     (int)(digits < 20 ? digits : 20), colon + 1);
            return true;
        }
        host = last + 1;
    }
    return false;
}

/* In words, where the driver's are few or may repeat a secret. */
static void explain(const char *text, const char *driver, const char *said, char *out, size_t size)
{
    static const char *const meanings[][2] = {
        {"Invalid URI Schema", "it begins with neither mongodb:// nor mongodb+srv://"},
        {"Password", "the password has a character that must be percent-encoded"},
        {"Incorrect URI escapes in password",
         "the password has a character that must be percent-encoded"},
        {"Incorrect URI escapes in username",
         "the user name has a character that must be percent-encoded"},
        {"Invalid host string", "a host or its port cannot be read"},
        {"Invalid service name",
         "the name in a mongodb+srv URI has three parts at least, as in cluster0.example.net"},
        {"Deprecated option",
         "an option is given under its old and its new name, with different values"},
        {"A '/' is required", "a / is needed between the hosts and the options"}};
    bool host = strstr(driver, "Invalid host string") != NULL;
    const char *message = host && *said ? said : driver;

    if (host && find_bad_port(text, out, size))
        return;
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (!strncmp(message, meanings[i][0], strlen(meanings[i][0]))) {
            snprintf(out, size, "%s", meanings[i][1]);
            return;
        }
    if (strstr(message, "authentication mechanism requires username"))
        snprintf(out, size, "it asks for a login, and has no user name");
    else
        scrub(message, out, size);
    if (!*out)
        snprintf(out, size, "it cannot be read");
}

static bool fail_malformed(const char *side, const char *reason, tow_error_t *error)
{
    return tow_fail(
        error, TOW_ERROR_OPTION,
        "the URI of the %s is malformed: %s; expected mongodb://HOST[:PORT][,…]/[?OPTIONS], or "
        "mongodb+srv://NAME/[?OPTIONS], with USER:PASSWORD@ before the host where there is a "
        "login, and "
        "characters such as @ : / %% in these percent-encoded",
        side, reason);
}

static void say(const char *begin, const char *name, size_t length, tow_buffer_t *said)
{
    tow_buffer_append(said, begin, strlen(begin));
    tow_buffer_append(said, name, length);
    tow_buffer_append(said, begin + strlen(begin) - 1, 1);
    tow_buffer_append(said, "\n", 1);
}

/* Whether an option of that name is among those before it. */
static bool was_given(const char *options, const char *name, size_t length)
{
    for (const char *at = options; at < name; at += strcspn(at, "&") + 1)
        if (!strncasecmp(at, name, length) && at[length] == '=')
            return true;
    return false;
}

/* What the driver would say of the options, where its log is not ours: the lines that heed() knows.
 * The URI was taken, so it has one ? and no more. */
static void say_of_options(const char *text, tow_buffer_t *said)
{
    const char *options = strchr(text, '?');

    for (const char *at = options ? options + 1 : ""; *at; at += strspn(at, "&")) {
        size_t length = strcspn(at, "&"), name = strcspn(at, "=&");

        if (!is_known(at, name))
            say("Unsupported URI option \"", at, name, said);
        else if (name + 1 >= length)
            say("Empty value provided for \"", at, name, said);
        else if (is_security(at, name) && was_given(options + 1, at, name))
            say("Overwriting previously provided value for '", at, name, said);
        at += length;
    }
}

/* A line about an option that must not be passed over; true where it may. */
static bool heed(const char *text, const char *side, const char *line, tow_error_t *error)
{
    char name[NAME_MOST], shown[NAME_MOST];
    const char *meant;

    if (option_of(line, "Unsupported URI option \"", name) && (meant = find_resembled(name))) {
        show_name(text, name, shown);
        return tow_fail(
            error, TOW_ERROR_OPTION,
            "the URI of the %s has an unknown option, %s, that resembles %s; correct it, or leave "
            "it out: "
            "passed over, it could leave the connection without encryption or the intended login",
            side, shown, meant);
    }
    if (option_of(line, "Empty value provided for \"", name) && is_security(name, strlen(name)))
        return tow_fail(error, TOW_ERROR_OPTION,
                        "option %s of the %s's URI has no value; give it one, or leave it out",
                        name, side);
    if (option_of(line, "Overwriting previously provided value for '", name) &&
        is_security(name, strlen(name)))
        return tow_fail(error, TOW_ERROR_OPTION,
                        "option %s of the %s's URI is given twice; leave one of both out", name,
                        side);
    return true;
}

/* Appends what a line says of something that is passed over. */
static void note(const char *text, const char *line, tow_buffer_t *out)
{
    char name[NAME_MOST], shown[NAME_MOST], words[REASON_MOST];

    if (option_of(line, "Unsupported URI option \"", name)) {
        show_name(text, name, shown);
        snprintf(words, sizeof words, "unknown option %s is ignored", shown);
    } else {
        scrub(line, words, sizeof words);
    }
    if (out->length)
        tow_buffer_append(out, ", ", 2);
    tow_buffer_append(out, words, strlen(words));
}

/* Reads the driver's lines; false: one is about what must not be passed over. */
static bool judge(const char *text, const char *side, char *lines, char **out_unheeded,
                  tow_error_t *error)
{
    tow_buffer_t unheeded = {0};
    char *line, *rest = lines;
    bool ok = true;

    while (ok && (line = strsep(&rest, "\n")))
        if (*line) {
            ok = heed(text, side, line, error);
            note(text, line, &unheeded);
        }
    tow_buffer_append(&unheeded, "", 1);
    if (ok && out_unheeded && unheeded.length > 1)
        *out_unheeded = (char *)unheeded.data;
    else
        tow_buffer_free(&unheeded);
    return ok;
}

/* Options that follow the host without a ? are a database's name to the driver, and those after a ;
 * or a second ? the end of another's value. */
static bool has_lost_options(const mongoc_uri_t *uri, const char *text)
{
    const char *database = mongoc_uri_get_database(uri), *at = strchr(text, '?');

    while (at && (at = strpbrk(at + 1, "?;")))
        if (is_security(at + 1, strcspn(at + 1, "=&")))
            return true;
    return database && strchr(database, '=');
}

mongoc_uri_t *tow_uri_read(const char *text, const char *side, char **out_unheeded,
                           tow_error_t *error)
{
    tow_buffer_t said = {0};
    char reason[REASON_MOST] = "an @ in user or password is not percent-encoded (%40)";
    bson_error_t driver;
    mongoc_uri_t *uri = NULL;
    bool ok = !is_ambiguous(text);

    if (out_unheeded)
        *out_unheeded = NULL;
    if (ok) {
        tow_driver_listen(&said);
        uri = mongoc_uri_new_with_error(text, &driver);
        tow_driver_listen(NULL);
        if (uri && !tow_driver_is_heard())
            say_of_options(text, &said);
    }
    tow_buffer_append(&said, "", 1);
    if (ok && !uri)
        explain(text, driver.message, (char *)said.data, reason, sizeof reason);
    if (uri && has_lost_options(uri, text)) {
        snprintf(reason, sizeof reason,
                 "options begin with a ?, and each further one with a &, as in host/?tls=true&w=1");
        mongoc_uri_destroy(uri);
        uri = NULL;
    }
    if (!uri) {
        fail_malformed(side, reason, error);
    } else if (!judge(text, side, (char *)said.data, out_unheeded, error)) {
        mongoc_uri_destroy(uri);
        uri = NULL;
    }
    tow_buffer_free(&said);
    return uri;
}

bool tow_uri_try(const char *text, const char *side, char **out_unheeded, tow_error_t *error)
{
    mongoc_uri_t *uri = tow_uri_read(text, side, out_unheeded, error);

    if (uri)
        mongoc_uri_destroy(uri);
    return uri != NULL;
}
