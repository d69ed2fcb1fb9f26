/* token.c: see token.h. */
#include "engine/http/token.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/memory.h"

enum { TOKEN_BYTES = 32, TOKEN_MOST = 512 };

static char *own_path(void)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (state && *state)
        return tow_format("%s/towline/token", state);
    return tow_format("%s/.local/state/towline/token", home && *home ? home : "/tmp");
}

/* True with NULL: there is no such file. */
static bool read_token(const char *path, char **out, tow_error_t *error)
{
    char line[TOKEN_MOST + 1];
    FILE *file = fopen(path, "re");
    struct stat facts;
    size_t length;

    *out = NULL;
    if (!file && errno == ENOENT)
        return true;
    if (!file)
        return tow_fail_errno(error, TOW_ERROR_OPTION, "--token-file: cannot read %s", path);
    if (fstat(fileno(file), &facts) || facts.st_mode & 077) {
        fclose(file);
        return tow_fail(error, TOW_ERROR_OPTION,
                        "--token-file: others may read %s; make it yours alone with chmod 600", path);
    }
    length = fread(line, 1, TOKEN_MOST, file);
    fclose(file);
    line[length] = '\0';
    length = strcspn(line, " \t\r\n");
    if (length < 16)
        return tow_fail(error, TOW_ERROR_OPTION,
                        "--token-file: the first word of %s is no token; expected 16 letters or more",
                        path);
    *out = tow_format("%.*s", (int)length, line);
    return true;
}

static bool make_folders(const char *path)
{
    char *folder = tow_strdup(path);
    bool ok = true;

    for (char *slash = strchr(folder + 1, '/'); ok && slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        ok = mkdir(folder, 0700) == 0 || errno == EEXIST;
        *slash = '/';
    }
    free(folder);
    return ok;
}

/* Written beside its place and linked there, so that of two processes that make it one wins, and nobody
 * ever reads half a token. */
static bool make_token(const char *path, tow_error_t *error)
{
    char *temporary = tow_format("%s.%ld", path, (long)getpid());
    unsigned char random[TOKEN_BYTES];
    char text[2 * TOKEN_BYTES + 2];
    bool ok = make_folders(path) && RAND_bytes(random, sizeof random) == 1;
    int file = ok ? open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;

    for (size_t i = 0; i < sizeof random; i++)
        snprintf(text + 2 * i, 3, "%02x", random[i]);
    text[2 * TOKEN_BYTES] = '\n';
    /* Synced: after a reboot an empty file would refuse every start. */
    ok = file >= 0 && write(file, text, 2 * TOKEN_BYTES + 1) == 2 * TOKEN_BYTES + 1 && fsync(file) == 0 &&
         (link(temporary, path) == 0 || errno == EEXIST);
    if (!ok)
        tow_fail_errno(error, TOW_ERROR_CONTROL,
                       "cannot write the token %s; give --token-file FILE, or set XDG_STATE_HOME", path);
    if (file >= 0) {
        close(file);
        unlink(temporary);
    }
    free(temporary);
    return ok;
}

bool tow_token_load(const tow_options_t *options, char **out, tow_error_t *error)
{
    const char *given = tow_options_get(options, "token-file", 0);
    char *path;
    bool ok;

    *out = NULL;
    if (!strcmp(tow_options_get(options, "no-token", 0), "true"))
        return true;
    path = given ? tow_strdup(given) : own_path();
    ok = read_token(path, out, error);
    if (ok && !*out && given)
        ok = tow_fail(error, TOW_ERROR_OPTION,
                      "--token-file: there is no %s; write a secret of 16 letters or more into it", path);
    else if (ok && !*out)
        ok = make_token(path, error) && read_token(path, out, error) &&
             (*out || tow_fail(error, TOW_ERROR_CONTROL, "the token %s vanished", path));
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

bool tow_token_fits(const char *token, const char *authorization)
{
    static const char scheme[] = "Bearer ";
    size_t length = strlen(token);

    return authorization && !strncasecmp(authorization, scheme, sizeof scheme - 1) &&
           strlen(authorization + sizeof scheme - 1) == length &&
           CRYPTO_memcmp(authorization + sizeof scheme - 1, token, length) == 0;
}
