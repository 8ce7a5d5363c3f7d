/* SPDX-License-Identifier: BSD-2-Clause */
#include "vcpu/riscv/op.h"

const struct op_entry vd_op_table[OP_COUNT] = {
#define ENTRY(name) [OP_##name] = {vd_op_##name},
	OPS_OTHER(ENTRY)
#undef ENTRY
#define ENTRY(name) [OP_##name##_4] = {vd_op_##name##_4}, [OP_##name##_2] = {vd_op_##name##_2},
	OPS_BY_LENGTH(ENTRY)
#undef ENTRY
};
