/* SPDX-License-Identifier: Apache-2.0 */
/* text.h: foreign text, such as names, documents and messages of servers, on its way to a terminal,
 * a log line, a table or a mail. Everything of that kind goes through tow_printable. */
#ifndef TOW_BASE_TEXT_H
#define TOW_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One line that moves no cursor, changes no colour, and reads in the order in which it is written:
 * control characters (below 0x20, 0x7f, U+0080 to U+009f), line and paragraph separators, marks of
 * direction and bytes that are not UTF-8 become \xNN, byte by byte. Owned by the caller. */
char *tow_printable(const char *text);

/* Those rules, for others who write text (json.h). The length of the character that begins here and
 * its code; 0: it is not UTF-8. */
size_t tow_text_decode(const char *text, uint32_t *out);
bool tow_text_is_plain(uint32_t code);

/* In every address of the text (SCHEME://USER:PASSWORD@HOST) what stands before the @ becomes
 * asterisks, in place. Of a connection string, also of a mail server's, remains what tow_uri_shown
 * shows: one that cannot be read is hidden with all that may belong to it. A net below those who
 * are to print none. */
void tow_hide_credentials(char *text);

/* A size for people, "1.5 GB", in decimal units; returns `out`. */
char *tow_bytes_text(double bytes, char out[32]);

/* How many letters two names differ by, for "did you mean"; a small letter is its large one, and
 * two that changed places count as one. Much, where `b` is longer than 48. */
size_t tow_text_distance(const char *a, const char *b);

#endif
