/* SPDX-License-Identifier: Apache-2.0 */
/* sink.c: see sink.h. */
#include "engine/base/sink.h"

#include <stdarg.h>
#include <stdio.h>

#include "engine/base/text.h"

void tow_emit(const tow_sink_t *sink, tow_level_t level, const char *name, const char *format, ...)
{
    char message[1200];
    va_list arguments;

    if (!sink || !sink->fn)
        return;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    tow_hide_credentials(message);
    sink->fn(sink->data, level, name, message);
}
