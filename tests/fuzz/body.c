/* SPDX-License-Identifier: Apache-2.0 */
/* body.c: any bytes as the body of a start. They are refused with a message, or become options that
 * leave the sides and the notices of the process as they were. */
#include "engine/http/internal.h"
#include "tests/fuzz/fuzz.h"

static const char *const given[][2] = {{"source", "mongodb://u:p@source/"},
                                       {"notify-webhook", "https://hook/"}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tow_options_t *own;
    char token[] = "token", no_text[] = "";
    tow_server_t server = {.token = size & 1 ? token : NULL};
    tow_request_t request = {.server = &server};
    tow_options_t *options;
    tow_error_t error = {0};

    if (!own) {
        own = tow_options_new();
        for (size_t i = 0; i < sizeof given / sizeof *given; i++)
            if (!tow_options_set(own, given[i][0], given[i][1], &error))
                exit(1);
    }
    server.options = own;
    tow_buffer_append(&request.text, data, size);
    tow_buffer_append(&request.text, no_text, 1);
    request.text.length--;
    options = tow_request_parse(&request, &error) ? tow_settings_of(&request, &error) : NULL;
    if (!options)
        HOLDS(error.code == TOW_ERROR_OPTION && *error.message);
    for (size_t i = 0; options && i < sizeof given / sizeof *given; i++) {
        const char *now = tow_options_get(options, given[i][0], 0);

        /* cluster0 and cluster1 may be named the other way round. */
        HOLDS(now ? !strcmp(now, given[i][1])
                  : i == 0 && !strcmp(tow_options_get(options, "destination", 0), given[0][1]));
    }
    if (options && !server.token && tow_options_get(options, "destination", 0))
        HOLDS(!strcmp(tow_options_get(options, "destination", 0), given[0][1]));
    tow_options_destroy(options);
    if (request.body)
        bson_destroy(request.body);
    tow_buffer_free(&request.text);
    return 0;
}
