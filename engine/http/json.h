/* json.h: text as JSON. */
#ifndef TOW_HTTP_JSON_H
#define TOW_HTTP_JSON_H

/* The text as a JSON string, quotes included. The caller frees it. */
char *tow_json_text(const char *text);

#endif
