/** progress.h - how far the work is, on stderr of rank 0, and the watchdog of --stall-timeout. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H
#include <cellferry.h>

typedef enum progress_style { PROGRESS_AUTO, PROGRESS_BAR, PROGRESS_PLAIN, PROGRESS_NONE } progress_style;

/* Local. Listens to the library (log.h). AUTO: a bar when stderr is a terminal, else plain lines. */
void progress_start(progress_style style);
/* Local. Work whose notes say "error 3.1e-2" is done when that has fallen to `threshold`, not at its last iteration. */
void progress_goal(double threshold);
/* Local. Ends a bar's line; call before anything else is printed. */
void progress_end(void);
/* Local. From now on rank 0 ends the job when nothing is heard for so many seconds; 0: off. world is borrowed until
 * watch_end. FERRY_E_RUN when no thread can be started. */
ferry_status watch_start(const ferry_world *world, double seconds);
void watch_end(void);
/* Local. A sign of life beside the library's: a stage begins. */
void watch_stage(const char *name);
#endif
