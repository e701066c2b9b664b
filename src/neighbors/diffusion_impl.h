/* diffusion_impl.h - between diffusion.c and spectral.c. */
#ifndef FERRY_DIFFUSION_IMPL_H
#define FERRY_DIFFUSION_IMPL_H
#include "diffusion.h"
/* Are all eigenvectors found (dense)? */
bool ferry_diffusion_complete(int64_t rows, const ferry_diffusion_options *options);
/* Rows of the rank with most, when they are dealt by whole blocks. */
int64_t ferry_diffusion_rows(int64_t rows, int ranks);
/* Local. FERRY_E_PLAN when bytes are more than options->memory allows. */
ferry_status ferry_diffusion_fits(int64_t rows, int64_t width, int ranks, const ferry_diffusion_options *options);
int64_t ferry_spectral_bytes(int64_t rows, int64_t width, int ranks, const ferry_diffusion_options *options);
#endif
