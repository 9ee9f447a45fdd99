#include "postern.h"
#include "postern.h" /* twice is once */

int postern_header_is_c11(void);
int postern_header_is_c11(void) { return POSTERN_VERSION_MAJOR; }
