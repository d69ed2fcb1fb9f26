/* SPDX-License-Identifier: Apache-2.0 */
/* uri.c: any text as a connection string. What may be shown of it holds no password, is made of
 * what is harmless, and shown again is the same. */
#include <ctype.h>

#include "engine/base/text.h"
#include "engine/base/uri.h"
#include "tests/fuzz/fuzz.h"

static const char secret[] = "hunter2secret";

/* A part of the input as text without the characters of `not`. */
static void take(fuzz_bytes_t *bytes, const char * not, char *out, size_t size)
{
    const uint8_t *part;
    size_t length = fuzz_part(bytes, size - 1, &part), used = 0;

    for (size_t i = 0; i < length; i++)
        if (part[i] && !strchr(not, part[i]))
            out[used++] = (char)part[i];
    out[used] = '\0';
}

/* In a message, in quotes. */
static void expect_unsaid(const char *text)
{
    char said[700];

    snprintf(said, sizeof said, "--job: '%s' is no name", text);
    tow_hide_credentials(said);
    HOLDS(!strstr(said, secret));
    tow_hide_credentials(said);
    HOLDS(!strstr(said, secret));
}

static void expect_hidden(const char *text)
{
    char *copy = strdup(text), *shown = tow_uri_shown(text), *again = tow_uri_shown(shown);
    char *address = tow_uri_address(text), *site = tow_uri_site(text), *line;

    HOLDS(!strstr(shown, secret) && !strstr(address, secret) && !strstr(site, secret));
    HOLDS(!strcmp(shown, again));
    for (const char *at = shown; *at; at++)
        HOLDS(isprint((unsigned char)*at));
    tow_hide_credentials(copy);
    line = tow_printable(copy);
    HOLDS(strlen(copy) <= strlen(text));
    if (!strchr(text, '\''))
        expect_unsaid(text);
    for (const char *at = line; *at; at++)
        HOLDS((unsigned char)*at >= 0x20 && *at != 0x7f);
    free(line);
    free(copy);
    free(site);
    free(address);
    free(again);
    free(shown);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_bytes_t bytes = {data, size};
    uint8_t kind = fuzz_byte(&bytes);
    char user[64], rest[64], after[256], text[600];

    take(&bytes, "/?#@", user, sizeof user);
    take(&bytes, "/?#@", rest, sizeof rest);
    take(&bytes, "", after, sizeof after);
    switch (kind % 4) {
    case 0: /* a password, as it should be written */
        snprintf(text, sizeof text, "mongodb://%s:%s%s@%s", user, secret, rest, after);
        break;
    case 1: /* its @ was forgotten */
        for (char *at = after; *at; at++)
            if (*at == '@')
                *at = 'a';
        snprintf(text, sizeof text, "mongodb+srv://%s:%s%s%s", user, secret, rest, after);
        break;
    case 2: /* an option that nobody knows */
        snprintf(text, sizeof text, "mongodb://h/?x%s=%s&%s", secret[0] == *user ? "" : "y", secret,
                 rest);
        break;
    default: /* anything */
        snprintf(text, sizeof text, "%s%s", kind & 4 ? "mongodb://" : "", after);
        break;
    }
    /* The fuzzer learns the secret from the comparison, and puts it where it is none. */
    if (!strstr(user, secret) && !strstr(rest, secret) && !strstr(after, secret))
        expect_hidden(text);
    return 0;
}
