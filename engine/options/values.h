/* SPDX-License-Identifier: Apache-2.0 */
/* values.h: whether an option may have a value. */
#ifndef TOW_OPTIONS_VALUES_H
#define TOW_OPTIONS_VALUES_H

#include "engine/base/error.h"

/* False: *error, TOW_ERROR_OPTION, says what was expected. */
bool tow_option_check(const tow_option_t *option, const char *value, tow_error_t *error);

#endif
