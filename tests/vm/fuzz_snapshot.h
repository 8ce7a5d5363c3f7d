/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef VD_TESTS_VM_FUZZ_SNAPSHOT_H
#define VD_TESTS_VM_FUZZ_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
