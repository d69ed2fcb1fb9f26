/* SPDX-License-Identifier: Apache-2.0 */
/* token.c: see token.h. */
#include "engine/http/token.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/file.h"
#include "engine/base/memory.h"

enum { TOKEN_BYTES = 32, TOKEN_LEAST = 16, TOKEN_MOST = 512 };

/* NULL with *error: our user has no folder for it. */
static char *own_path(tow_error_t *error)
{
    char *folder = tow_state_folder();
    char *path = folder ? tow_format("%s/token", folder) : NULL;

    free(folder);
    if (!path)
        tow_fail(error, TOW_ERROR_OPTION,
                 "there is no folder for the token: this user has no home; set HOME or "
                 "XDG_STATE_HOME, or "
                 "give --token-file FILE");
    return path;
}

static bool check_word(const char *path, char *text, tow_error_t *error)
{
    size_t length = strcspn(text, " \t\r\n");

    text[length] = '\0';
    if (length >= TOKEN_LEAST && length <= TOKEN_MOST && !strpbrk(text, "\v\f\x1b\x7f"))
        return true;
    return tow_fail(error, TOW_ERROR_OPTION,
                    "--token-file: the first word of %s is no token; expected 16 to 512 letters",
                    path);
}

/* True with NULL: there is no such file. */
static bool read_token(const char *path, char **out, tow_error_t *error)
{
    *out = NULL;
    if (access(path, F_OK) && errno == ENOENT)
        return true;
    if (!tow_secret_read("token-file", path, out, error))
        return false;
    if (check_word(path, *out, error))
        return true;
    free(*out);
    *out = NULL;
    return false;
}

static void write_hex(const unsigned char *bytes, size_t length, char *out)
{
    for (size_t i = 0; i < length; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

/* In a folder of ours alone, and whole from the first moment on: of two processes that make it one
 * wins. */
static bool make_token(const char *path, tow_error_t *error)
{
    unsigned char random[TOKEN_BYTES];
    char text[2 * TOKEN_BYTES + 2];

    tow_random(random, sizeof random);
    write_hex(random, sizeof random, text);
    text[2 * TOKEN_BYTES] = '\n';
    return tow_file_create(path, text, 2 * TOKEN_BYTES + 1)
               ? true
               : tow_fail_errno(
                     error, TOW_ERROR_CONTROL,
                     "cannot write the token %s; give --token-file FILE, or set XDG_STATE_HOME",
                     path);
}

static bool own_token(const char *path, char **out, tow_error_t *error)
{
    char *folder = tow_format("%.*s", (int)(strrchr(path, '/') - path), path);
    bool ok = tow_folder_make(folder, error);

    free(folder);
    if (!ok) {
        error->code = TOW_ERROR_CONTROL;
        return tow_fail_context(error, "the token's folder");
    }
    return read_token(path, out, error) &&
           (*out || (make_token(path, error) && read_token(path, out, error) &&
                     (*out || tow_fail(error, TOW_ERROR_CONTROL, "the token %s vanished", path))));
}

bool tow_token_load(const tow_options_t *options, char **out, tow_error_t *error)
{
    const char *given = tow_options_get(options, "token-file", 0);
    char *path;
    bool ok;

    *out = NULL;
    if (!strcmp(tow_options_get(options, "no-token", 0), "true"))
        return true;
    if (given)
        return read_token(given, out, error) &&
               (*out || tow_fail(error, TOW_ERROR_OPTION,
                                 "--token-file: there is no %s; write a secret of "
                                 "16 letters or more into it",
                                 given));
    path = own_path(error);
    ok = path && own_token(path, out, error);
    free(path);
    return ok;
}

char *tow_token(const tow_options_t *options, tow_error_t *error)
{
    char *token;

    if (!tow_token_load(options, &token, error))
        return NULL;
    return token ? token : tow_strdup("");
}

char *tow_page_token(void)
{
    unsigned char random[TOKEN_BYTES];
    char text[2 * TOKEN_BYTES + 1];

    tow_random(random, sizeof random);
    write_hex(random, sizeof random, text);
    return tow_format("page-%s", text);
}

char *tow_page_proof(const char *token, const char *nonce)
{
    unsigned char code[EVP_MAX_MD_SIZE];
    char text[2 * EVP_MAX_MD_SIZE + 1];
    unsigned length = 0;

    if (!HMAC(EVP_sha256(), token, (int)strlen(token), (const unsigned char *)nonce, strlen(nonce),
              code, &length))
        abort(); /* it needs memory, and nothing else */
    write_hex(code, length, text);
    return tow_strdup(text);
}

bool tow_token_fits(const char *token, const char *authorization)
{
    static const char scheme[] = "Bearer ";
    size_t length = strlen(token);

    return authorization && !strncasecmp(authorization, scheme, sizeof scheme - 1) &&
           strlen(authorization + sizeof scheme - 1) == length &&
           CRYPTO_memcmp(authorization + sizeof scheme - 1, token, length) == 0;
}
