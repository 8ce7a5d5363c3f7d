/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef VIADUCT_TESTS_TRANSPORT_FUZZ_CLIENT_H
#define VIADUCT_TESTS_TRANSPORT_FUZZ_CLIENT_H

#include <stddef.h>
#include <stdint.h>

/* What inputs have in common is taken down, and must be all. */
void fuzz_client_end(void);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
