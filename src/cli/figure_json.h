/** figure_json.h - members of a run record (JSON), for pictures. All Local; texts are borrowed. */
#ifndef CLI_FIGURE_JSON_H
#define CLI_FIGURE_JSON_H
#include "figure.h"

/* Past blanks; past the value that begins at c, at most at the closing NUL. */
const char *figure_json_space(const char *c);
const char *figure_json_past(const char *c);
/* The value of a member of the object at c, NULL if it has none. */
const char *figure_json_member(const char *c, const char *key);
/* A number; NAN if there is none. A text of at most room - 1 bytes; returns out. */
double figure_json_number(const char *object, const char *key);
const char *figure_json_text(char *out, size_t room, const char *object, const char *key);
/* The run record in a file: a record itself, or a result that holds one. Free with free(). */
ferry_status figure_json_record(char **out, const char *path);
#endif
