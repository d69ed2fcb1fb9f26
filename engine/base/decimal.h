/* SPDX-License-Identifier: Apache-2.0 */
/* decimal.h: numbers as JSON has them, whatever the locale of the program that
 * embeds the library. */
#ifndef TOW_BASE_DECIMAL_H
#define TOW_BASE_DECIMAL_H

#include <locale.h>

/* From here on this thread writes a point into a number, not the comma of a locale, until
 * tow_locale_back is given what this returned. Also of use around libbson,
 * which prints likewise. */
locale_t tow_locale_plain(void);
void tow_locale_back(locale_t before);

#endif
