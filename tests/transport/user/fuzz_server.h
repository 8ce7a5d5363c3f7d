/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef VIADUCT_TESTS_TRANSPORT_FUZZ_SERVER_H
#define VIADUCT_TESTS_TRANSPORT_FUZZ_SERVER_H

#include <stddef.h>
#include <stdint.h>

/* What inputs have in common is taken down, and must be all. A test that ends has to. */
void fuzz_server_end(void);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
