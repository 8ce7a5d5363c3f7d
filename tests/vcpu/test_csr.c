/* SPDX-License-Identifier: BSD-2-Clause */
/* Which control and status registers there are, for whom, and what their fields hold. */
#include "rig.h"

#include "vcpu/riscv/hart.h"

enum operation { WRITE = 1, SET = 2, CLEAR = 3 };

#define ONES UINT64_MAX

static uint64_t csr_read(struct rig *rig, unsigned int csr)
{
	uint64_t value = 0;

	assert_int_equal(vd_csr_access(rig->harts[0].hart, csr, false, SET, 0, &value), CSR_OK);
	return value;
}

/* Return: what it reads as afterwards. */
static uint64_t csr_write(struct rig *rig, unsigned int csr, uint64_t operand)
{
	uint64_t old;

	assert_int_not_equal(vd_csr_access(rig->harts[0].hart, csr, true, WRITE, operand, &old),
			     CSR_ILLEGAL);
	return csr_read(rig, csr);
}

static bool supervisor_has(unsigned int csr)
{
	return csr == 0x100 || (csr >= 0x104 && csr <= 0x106) || csr == 0x10a ||
	       (csr >= 0x140 && csr <= 0x144) || csr == 0x14d || csr == 0x150 || csr == 0x151 ||
	       csr == 0x15c || csr == 0x180 || csr == 0xdb0;
}

static void check_existence(struct rig *rig, bool supervisor, bool floating, bool counters)
{
	struct vd_hart *hart = rig->harts[0].hart;

	for (unsigned int csr = 0; csr < 4096; csr++) {
		bool is_float = csr >= 1 && csr <= 3, is_counter = csr >= 0xc00 && csr <= 0xc02;
		bool exists = (is_float && floating) ||
			      (is_counter && (supervisor || counters)) ||
			      (supervisor && supervisor_has(csr));
		bool writable = exists && csr >> 10 != 3;
		uint64_t value;

		if ((vd_csr_access(hart, csr, false, SET, 0, &value) == CSR_OK) != exists)
			fail_msg("CSR 0x%x: read", csr);
		if ((vd_csr_access(hart, csr, true, SET, 0, &value) != CSR_ILLEGAL) != writable)
			fail_msg("CSR 0x%x: write", csr);
	}
}

static void only_these_registers_exist(void **state)
{
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, NULL);
	hart = rig.harts[0].hart;
	csr_write(&rig, CSR_SISELECT, 0x70); /* so that sireg exists */
	check_existence(&rig, true, false, true);
	csr_write(&rig, CSR_SSTATUS, RIG_FLOAT);
	check_existence(&rig, true, true, true);
	csr_write(&rig, CSR_SCOUNTEREN, 7);
	hart->privilege = PRIV_U;
	check_existence(&rig, false, true, true);
	hart->scounteren = 0;
	check_existence(&rig, false, true, false);
	rig_close(&rig);
}

static void each_counter_has_its_enable(void **state)
{
	struct rig rig;
	struct vd_hart *hart;
	uint64_t value;

	(void)state;
	rig_open(&rig, NULL);
	hart = rig.harts[0].hart;
	hart->privilege = PRIV_U;
	for (unsigned int bit = 0; bit < 3; bit++) {
		hart->scounteren = 1u << bit;
		for (unsigned int csr = 0; csr < 3; csr++)
			assert_int_equal(vd_csr_access(hart, CSR_CYCLE + csr, false, SET, 0,
						       &value) == CSR_OK, csr == bit);
	}
	rig_close(&rig);
}

static void fields_hold_what_they_may(void **state)
{
	const uint64_t uxl = UINT64_C(2) << 32, dirty = UINT64_C(3) << 13 | UINT64_C(1) << 63;
	struct rig rig;

	(void)state;
	rig_open(&rig, NULL);
	/* SIE, SPIE, SPP, FS, SUM, MXR; any use of floating point counts as dirty. */
	assert_int_equal(csr_write(&rig, CSR_SSTATUS, ONES), 0xc0122 | dirty | uxl);
	assert_int_equal(csr_write(&rig, CSR_SSTATUS, RIG_FLOAT), dirty | uxl);
	assert_int_equal(csr_write(&rig, CSR_SSTATUS, 0), uxl);
	assert_int_equal(csr_write(&rig, CSR_SIE, ONES), 0x222);
	assert_int_equal(csr_write(&rig, CSR_SIP, ONES), 2);
	assert_int_equal(csr_write(&rig, CSR_SIP, 0), 0);
	assert_int_equal(csr_write(&rig, CSR_STVEC, ONES) & 2, 0);
	assert_int_equal(csr_write(&rig, CSR_SCOUNTEREN, ONES), 7);
	assert_int_equal(csr_write(&rig, CSR_SSCRATCH, ONES), ONES);
	assert_int_equal(csr_write(&rig, CSR_SEPC, ONES), ONES - 1);
	assert_int_equal(csr_write(&rig, CSR_SCAUSE, INTERRUPT(9)), INTERRUPT(9));
	assert_int_equal(csr_write(&rig, CSR_STVAL, ONES), ONES);
	assert_int_equal(csr_write(&rig, CSR_STIMECMP, 12345), 12345);
	rig_close(&rig);
}

/* Modes that are not there leave satp as it was; there are no ASIDs; bare is all zeros. */
static void satp_takes_known_modes_only(void **state)
{
	const uint64_t ppn = (UINT64_C(1) << 44) - 1;
	struct rig rig;

	(void)state;
	rig_open(&rig, NULL);
	for (uint64_t mode = 0; mode < 16; mode++) {
		uint64_t before = csr_write(&rig, CSR_SATP, UINT64_C(8) << 60 | 5);
		uint64_t after = csr_write(&rig, CSR_SATP,
					   mode << 60 | UINT64_C(0x7777) << 44 | ppn);

		if (mode >= 8 && mode <= 10)
			assert_int_equal(after, mode << 60 | ppn);
		else
			assert_int_equal(after, mode ? before : 0);
	}
	rig_close(&rig);
}

static void set_and_clear_change_their_bits(void **state)
{
	struct rig rig;
	uint64_t old;

	(void)state;
	rig_open(&rig, NULL);
	csr_write(&rig, CSR_SSCRATCH, 0xf0);
	vd_csr_access(rig.harts[0].hart, CSR_SSCRATCH, true, SET, 0x0f, &old);
	assert_int_equal(old, 0xf0);
	vd_csr_access(rig.harts[0].hart, CSR_SSCRATCH, true, CLEAR, 0x3c, &old);
	assert_int_equal(old, 0xff);
	assert_int_equal(csr_read(&rig, CSR_SSCRATCH), 0xc3);
	/* Flags and rounding mode are parts of fcsr. */
	csr_write(&rig, CSR_SSTATUS, RIG_FLOAT);
	assert_int_equal(csr_write(&rig, CSR_FCSR, ONES), 0xff);
	assert_int_equal(csr_write(&rig, 2 /* frm */, 3), 3);
	assert_int_equal(csr_write(&rig, CSR_FFLAGS, 0x11), 0x11);
	assert_int_equal(csr_read(&rig, CSR_FCSR), 0x71);
	rig_close(&rig);
}

/* The forms of the instructions: which of them read, write, or do neither. */
static void instructions_read_and_write_as_they_say(void **state)
{
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, NULL);
	RIG_LOAD(&rig, RIG_CODE, CSRRW(11, CSR_SSCRATCH, 10), CSRRS(12, CSR_SSCRATCH, 0),
		 insn_i(INSN_SYSTEM, 6, 13, 3, CSR_SSCRATCH) /* csrrsi */,
		 insn_i(INSN_SYSTEM, 7, 14, 8, CSR_SSCRATCH) /* csrrci */,
		 insn_i(INSN_SYSTEM, 5, 15, 31, CSR_SSCRATCH) /* csrrwi */,
		 CSRRW(16, CSR_SSCRATCH, 16), CSRR(18, CSR_SSCRATCH),
		 /* 28: the second writes, if nothing */ CSRR(19, CSR_CYCLE),
		 CSRRS(19, CSR_CYCLE, 10), CSRRW(19, CSR_CYCLE, 0), END);
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 10, 0x1008);
	vd_hart_set_x(hart, 16, 0x77);
	rig_run(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 11), 0);
	assert_int_equal(vd_hart_x(hart, 12), 0x1008);
	assert_int_equal(vd_hart_x(hart, 13), 0x1008);
	assert_int_equal(vd_hart_x(hart, 14), 0x100b);
	assert_int_equal(vd_hart_x(hart, 15), 0x1003);
	assert_int_equal(vd_hart_x(hart, 16), 31);
	assert_int_equal(vd_hart_x(hart, 18), 0x77);
	assert_int_equal(rig.harts[0].trap_count, 2);
	assert_int_equal(rig.harts[0].traps[0].pc, RIG_CODE + 32);
	assert_int_equal(rig.harts[0].traps[0].cause, ILLEGAL);
	assert_int_equal(rig.harts[0].traps[0].tval, CSRRS(19, CSR_CYCLE, 10));
	assert_int_equal(rig.harts[0].traps[1].pc, RIG_CODE + 36);
	rig_close(&rig);
}

/* instret counts exactly, through slow paths and page boundaries; time never goes back. */
static void counters_count(void **state)
{
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, NULL);
	RIG_LOAD(&rig, RIG_CODE + 0xff0, CSRR(11, CSR_INSTRET), CSRR(12, CSR_CYCLE),
		 CSRR(13, CSR_TIME), LD(18, 10, 0) /* a miss */, NOP /* the next page */,
		 FENCE_I, CSRW(CSR_SSCRATCH, 0), CSRR(14, CSR_INSTRET), CSRR(15, CSR_CYCLE),
		 CSRR(16, CSR_TIME), END);
	hart = rig_start(&rig, 0, RIG_CODE + 0xff0, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 10, RIG_DATA);
	rig_run(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 14) - vd_hart_x(hart, 11), 7);
	assert_int_equal(vd_hart_x(hart, 15) - vd_hart_x(hart, 12), 7);
	assert_true(vd_hart_x(hart, 16) >= vd_hart_x(hart, 13));
	assert_true(vd_hart_time(hart) >= vd_hart_x(hart, 16));
	rig_close(&rig);
}

static void without_fs_floating_point_is_illegal(void **state)
{
	const uint32_t code[] = {
		insn_i(INSN_LOAD_FP, 3, 1, 10, 0), insn_s(INSN_STORE_FP, 3, 10, 1, 0),
		insn_i(INSN_LOAD_FP, 2, 1, 10, 0), insn_s(INSN_STORE_FP, 2, 10, 1, 0),
		insn_r(INSN_OP_FP, 0, 1, 1, 1, 1) /* fadd.d */,
		insn_r(INSN_OP_FP, 0, 0x71, 11, 1, 0) /* fmv.x.d */,
		insn_r4(INSN_MADD, 0, 1, 1, 1, 1, 1), CSRR(11, CSR_FCSR), ADDI(17, 0, 0), ECALL,
	};
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, NULL);
	rig_write(&rig, RIG_CODE, code, sizeof(code));
	for (unsigned int on = 0; on < 2; on++) {
		hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR | (on ? RIG_FLOAT : 0));
		vd_hart_set_x(hart, 10, RIG_DATA);
		rig_run(&rig, 0);
		assert_int_equal(rig.harts[0].trap_count, on ? 0 : 8);
		for (unsigned int i = 0; i < rig.harts[0].trap_count; i++) {
			assert_int_equal(rig.harts[0].traps[i].cause, ILLEGAL);
			assert_int_equal(rig.harts[0].traps[i].tval, code[i]);
			assert_int_equal(rig.harts[0].traps[i].pc, RIG_CODE + 4 * i);
		}
	}
	rig_close(&rig);
}

/* What M mode has set in mip for S mode stays when S mode, or M mode through sip, writes SSIP. */
static void sip_writes_leave_machine_bits_alone(void **state)
{
	const uint64_t mip = 0x344, timer = 1 << 5, software = 1 << 1;
	struct rig rig;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.flags = VD_HART_MACHINE});
	assert_int_equal(csr_write(&rig, mip, timer), timer);
	assert_int_equal(csr_write(&rig, CSR_SIP, software), timer | software);
	assert_int_equal(csr_write(&rig, CSR_SIP, 0), timer);
	assert_int_equal(csr_write(&rig, mip, 0), 0);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_these_registers_exist),
		cmocka_unit_test(each_counter_has_its_enable),
		cmocka_unit_test(fields_hold_what_they_may),
		cmocka_unit_test(satp_takes_known_modes_only),
		cmocka_unit_test(set_and_clear_change_their_bits),
		cmocka_unit_test(instructions_read_and_write_as_they_say),
		cmocka_unit_test(counters_count),
		cmocka_unit_test(without_fs_floating_point_is_illegal),
		cmocka_unit_test(sip_writes_leave_machine_bits_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
