/** plan_impl.h - what the files of the plan share (not installed). */
#ifndef FERRY_PLAN_IMPL_H
#define FERRY_PLAN_IMPL_H
#include "plan.h"
FERRY_BEGIN
/** Local. Where part `part` of `parts` begins when rows that several ranks hold are shared out evenly. */
FERRY_API int64_t ferry_plan_part(int64_t rows, int part, int parts);
/** Local. FERRY_E_FILE unless the file says that it is a plan. */
FERRY_API ferry_status ferry_plan_kind(ferry_stored *stored, const char *path);
FERRY_END
#endif
