/* SPDX-License-Identifier: BSD-2-Clause */
/* First-stage translation against the privileged manual, and accesses that the soft TLB cannot serve. */
#include "rig.h"

#include <string.h>

#include "../base/test_env.h"

#define OTHER (RIG_DATA + UINT64_C(0x200000))
#define VA UINT64_C(0x40000000)	     /* canonical in every mode */
#define USER_VA UINT64_C(0x10000000) /* of RIG_CODE, for programs in user mode */
#define DEVICE UINT64_C(0x10000000)
#define HOLE UINT64_C(0x20000000)

enum access { LOAD, STORE, FETCH };
static const uint64_t page_faults[] = {LOAD_PAGE, STORE_PAGE, FETCH_PAGE};
static const uint64_t access_faults[] = {LOAD_ACCESS, STORE_ACCESS, FETCH_ACCESS};

#define NO_FAULT UINT64_MAX
#define RETURN JALR(0, 1, 0)

/* A fetch that faults goes on where its caller would. */
static int return_from_fetch(struct rig *rig, struct vd_hart *hart, const struct rig_trap *trap)
{
	(void)rig;
	if (trap->cause == FETCH_PAGE || trap->cause == FETCH_ACCESS)
		vd_hart_set_x(hart, 30, vd_hart_x(hart, 1));
	return 0;
}

static void open_paged(struct rig *rig, unsigned int mode, unsigned int flags)
{
	rig_open(rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB | flags});
	rig->trap = return_from_fetch;
	rig_paging(rig, mode);
	rig_map(rig, USER_VA, RIG_CODE, 0, RIG_V | RIG_R | RIG_X | RIG_U | RIG_AD);
	RIG_LOAD(rig, RIG_CODE, LD(11, 10, 0), END);
	RIG_LOAD(rig, RIG_CODE + 0x100, SD(11, 10, 8), END);
	RIG_LOAD(rig, RIG_CODE + 0x200, JALR(1, 10, 0), END);
	RIG_LOAD(rig, RIG_DATA, RETURN);
	RIG_LOAD(rig, OTHER, RETURN);
}

/* Do one access to @va from the mode in @sstatus. Return: the cause of its fault, or NO_FAULT. */
static uint64_t touch(struct rig *rig, uint64_t va, enum access access, uint64_t sstatus)
{
	uint64_t pc = (sstatus & RIG_SUPERVISOR ? RIG_CODE : USER_VA) + 0x100 * access;
	struct vd_hart *hart = rig_start(rig, 0, pc, sstatus);

	vd_hart_set_x(hart, 10, va);
	rig_run(rig, 0);
	if (!rig->harts[0].trap_count)
		return NO_FAULT;
	rig_expect_trap(rig, 0, rig->harts[0].traps[0].cause, access == STORE ? va + 8 : va,
			access == FETCH ? va : pc);
	return rig->harts[0].traps[0].cause;
}

static void expect(struct rig *rig, uint64_t va, enum access access, uint64_t cause)
{
	uint64_t seen = touch(rig, va, access, RIG_SUPERVISOR);

	if (seen != cause)
		fail_msg("access %d to 0x%llx: cause %lld, not %lld", access,
			 (unsigned long long)va, (long long)seen, (long long)cause);
}

/* "Virtual Address Translation Process", steps 3 and 5 to 8, for a leaf of 4 KiB. */
static bool allowed(uint64_t pte, enum access access, uint64_t sstatus, bool svadu)
{
	bool supervisor = sstatus & RIG_SUPERVISOR;

	if (!(pte & RIG_V) || (!(pte & RIG_R) && (pte & RIG_W)) || !(pte & (RIG_R | RIG_X)))
		return false;
	if (supervisor ? (pte & RIG_U) && (access == FETCH || !(sstatus & RIG_SUM)) : !(pte & RIG_U))
		return false;
	if (access == FETCH && !(pte & RIG_X))
		return false;
	if (access == STORE && !(pte & RIG_W))
		return false;
	if (access == LOAD && !(pte & RIG_R) && !((sstatus & RIG_MXR) && (pte & RIG_X)))
		return false;
	return svadu || ((pte & RIG_A) && (access != STORE || (pte & RIG_D)));
}

/* All leaves, all accesses, all modes: and the entry is changed only where Svadu says so. */
static void check_permissions(unsigned int flags)
{
	static const uint64_t modes[] = {
		RIG_USER, RIG_USER | RIG_MXR, RIG_USER | RIG_SUM, RIG_SUPERVISOR,
		RIG_SUPERVISOR | RIG_SUM, RIG_SUPERVISOR | RIG_MXR,
		RIG_SUPERVISOR | RIG_SUM | RIG_MXR,
	};
	struct rig rig;

	open_paged(&rig, RIG_SV39, flags);
	for (unsigned int bits = 0; bits < 256; bits++) {
		for (unsigned int m = 0; m < sizeof(modes) / sizeof(modes[0]); m++) {
			for (enum access access = LOAD; access <= FETCH; access++) {
				uint64_t entry = rig_map(&rig, VA, RIG_DATA, 0, bits);
				uint64_t before = rig_read64(&rig, entry);
				bool good = allowed(bits, access, modes[m],
						    flags & VD_HART_SVADU);
				uint64_t cause = touch(&rig, VA, access, modes[m]), want = before;

				if (good)
					want |= RIG_A | (access == STORE ? RIG_D : 0);
				if (cause != (good ? NO_FAULT : page_faults[access]) ||
				    rig_read64(&rig, entry) != want)
					fail_msg("pte bits 0x%x, access %d, sstatus 0x%llx: "
						 "cause %lld, pte 0x%llx", bits, access,
						 (unsigned long long)modes[m], (long long)cause,
						 (unsigned long long)rig_read64(&rig, entry));
			}
		}
	}
	rig_close(&rig);
}

static void permissions_follow_the_manual(void **state)
{
	(void)state;
	check_permissions(0);
}

static void with_svadu_accessed_and_dirty_are_set(void **state)
{
	(void)state;
	check_permissions(VD_HART_SVADU);
}

/* A page that was loaded from is in the TLB; the first store must still set D, or fault. */
static void the_first_store_after_loads_is_noticed(void **state)
{
	struct rig rig;
	struct vd_hart *hart;
	uint64_t entry;

	(void)state;
	for (unsigned int svadu = 0; svadu < 2; svadu++) {
		open_paged(&rig, RIG_SV39, svadu ? VD_HART_SVADU : 0);
		entry = rig_map(&rig, VA, RIG_DATA, 0, RIG_V | RIG_R | RIG_W | RIG_A);
		RIG_LOAD(&rig, RIG_CODE, LD(11, 10, 0), LD(11, 10, 0), SD(11, 10, 8),
			 AMOADD_D(12, 10, 11), END);
		hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
		vd_hart_set_x(hart, 10, VA);
		rig_run(&rig, 0);
		assert_int_equal(rig.harts[0].trap_count, svadu ? 0 : 2);
		assert_int_equal(!!(rig_read64(&rig, entry) & RIG_D), svadu);
		rig_close(&rig);
	}
}

/* What a mode could reach does not stay reachable in another. */
static void modes_do_not_share_translations(void **state)
{
	const uint64_t bits = RIG_SUM | RIG_MXR;
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	open_paged(&rig, RIG_SV39, 0);
	rig_map(&rig, VA, RIG_DATA, 0, RIG_V | RIG_X | RIG_U | RIG_AD);
	RIG_LOAD(&rig, RIG_CODE, LD(11, 10, 0), CSRC(CSR_SSTATUS, 9), LD(11, 10, 0),
		 CSRS(CSR_SSTATUS, 9), LD(11, 10, 0), CSRC(CSR_SSTATUS, 12), LD(11, 10, 0), END);
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR | bits);
	vd_hart_set_x(hart, 9, RIG_SUM);
	vd_hart_set_x(hart, 10, VA);
	vd_hart_set_x(hart, 12, RIG_MXR);
	rig_run(&rig, 0);
	assert_int_equal(rig.harts[0].trap_count, 2);
	assert_int_equal(rig.harts[0].traps[0].pc, RIG_CODE + 8);
	assert_int_equal(rig.harts[0].traps[1].pc, RIG_CODE + 24);
	rig_close(&rig);
}

/* ---- shapes of tables ---------------------------------------------------- */

static void superpages_must_be_aligned(void **state)
{
	const uint64_t flags = RIG_V | RIG_R | RIG_W | RIG_X | RIG_AD;

	(void)state;
	for (unsigned int mode = RIG_SV39; mode <= RIG_SV57; mode++) {
		for (unsigned int level = 1; level < mode - 5; level++) {
			uint64_t size = UINT64_C(1) << (12 + 9 * level);
			uint64_t gpa = RIG_DATA & ~(size - 1);
			/* Where the tables of the code are not in the way. */
			uint64_t va = (level == mode - 6 ? size : UINT64_C(1) << (12 + 9 * (mode - 6)));
			struct rig rig;

			open_paged(&rig, mode, 0);
			rig_map(&rig, va, gpa, level, flags);
			for (enum access access = LOAD; access <= FETCH; access++)
				expect(&rig, va + (RIG_DATA - gpa), access, NO_FAULT);
			assert_int_equal(rig_read64(&rig, RIG_DATA), RETURN);
			/* Any bit of the address below the size, the lowest and the highest. */
			rig_map(&rig, va, gpa + RIG_PAGE, level, flags);
			expect(&rig, va + (RIG_DATA - gpa), LOAD, LOAD_PAGE);
			rig_map(&rig, va, gpa + size / 2, level, flags);
			for (enum access access = LOAD; access <= FETCH; access++)
				expect(&rig, va + (RIG_DATA - gpa), access, page_faults[access]);
			rig_close(&rig);
		}
	}
}

/* N and PBMT need extensions that are not there; the rest is reserved for all. */
static void reserved_bits_fault_in_leaves_and_tables(void **state)
{
	struct rig rig;
	uint64_t leaf, table;

	(void)state;
	open_paged(&rig, RIG_SV39, 0);
	leaf = rig_map(&rig, VA, RIG_DATA, 0, RIG_V | RIG_R | RIG_AD);
	table = RIG_TABLES + (VA >> 30) * 8;
	expect(&rig, VA, LOAD, NO_FAULT);
	for (unsigned int bit = 54; bit < 64; bit++) {
		uint64_t good = rig_read64(&rig, leaf);

		rig_write64(&rig, leaf, good | UINT64_C(1) << bit);
		expect(&rig, VA, LOAD, LOAD_PAGE);
		rig_write64(&rig, leaf, good);
		good = rig_read64(&rig, table);
		rig_write64(&rig, table, good | UINT64_C(1) << bit);
		expect(&rig, VA, LOAD, LOAD_PAGE);
		rig_write64(&rig, table, good);
	}
	/* A, D and U of a pointer to a table are reserved; RSW and G are not. */
	for (unsigned int bit = 4; bit < 10; bit++) {
		uint64_t good = rig_read64(&rig, table);
		bool reserved = bit == 4 || bit == 6 || bit == 7;

		rig_write64(&rig, table, good | UINT64_C(1) << bit);
		expect(&rig, VA, LOAD, reserved ? LOAD_PAGE : NO_FAULT);
		rig_write64(&rig, table, good);
	}
	expect(&rig, VA, LOAD, NO_FAULT);
	rig_close(&rig);
}

static void addresses_must_be_canonical(void **state)
{
	(void)state;
	for (unsigned int mode = RIG_SV39; mode <= RIG_SV57; mode++) {
		unsigned int bits = 9 * (mode - 5) + 12;
		uint64_t top = UINT64_C(1) << (bits - 1);
		struct rig rig;

		open_paged(&rig, mode, 0);
		rig_map(&rig, top - RIG_PAGE, RIG_DATA, 0, RIG_V | RIG_R | RIG_W | RIG_X | RIG_AD);
		rig_map(&rig, -top, OTHER, 0, RIG_V | RIG_R | RIG_W | RIG_X | RIG_AD);
		for (enum access access = LOAD; access <= FETCH; access++) {
			expect(&rig, top - RIG_PAGE, access, NO_FAULT);
			expect(&rig, -top, access, NO_FAULT);
			expect(&rig, top, access, page_faults[access]);
			expect(&rig, -top - 16, access, page_faults[access]);
			/* All index bits right, only what lies above them is not. */
			expect(&rig, (UINT64_C(1) << 63) + top - RIG_PAGE, access,
			       page_faults[access]);
			expect(&rig, -top ^ UINT64_C(1) << 63, access, page_faults[access]);
		}
		rig_close(&rig);
	}
}

/* A table or a page where there is no memory is no page fault; one in a trapped area neither. */
static void what_is_not_memory_is_an_access_fault(void **state)
{
	struct rig rig;
	uint64_t leaf, table;

	(void)state;
	open_paged(&rig, RIG_SV39, 0);
	leaf = rig_map(&rig, VA, HOLE, 0, RIG_V | RIG_R | RIG_W | RIG_X | RIG_AD);
	table = RIG_TABLES + (VA >> 30) * 8;
	for (enum access access = LOAD; access <= FETCH; access++)
		expect(&rig, VA, access, access_faults[access]);
	/* Physical addresses have 56 bits, the second stage translates 50. */
	rig_write64(&rig, leaf, ((UINT64_C(1) << 44) - 1) << 10 | RIG_V | RIG_R | RIG_W | RIG_AD);
	expect(&rig, VA, LOAD, LOAD_ACCESS);
	expect(&rig, VA, STORE, STORE_ACCESS);
	rig_write64(&rig, table, HOLE >> 12 << 10 | RIG_V);
	for (enum access access = LOAD; access <= FETCH; access++)
		expect(&rig, VA, access, access_faults[access]);
	/* Bare: straight into the hole. */
	rig.satp = 0;
	for (enum access access = LOAD; access <= FETCH; access++)
		expect(&rig, HOLE, access, access_faults[access]);
	rig_close(&rig);
}

/* ---- accesses across pages ------------------------------------------------- */

static void accesses_across_pages_name_the_page_that_faults(void **state)
{
	const uint64_t rw = RIG_V | RIG_R | RIG_W | RIG_AD;
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	open_paged(&rig, RIG_SV39, 0);
	rig_map(&rig, VA, RIG_DATA, 0, rw);
	rig_map(&rig, VA + RIG_PAGE, OTHER, 0, rw); /* not beside it in memory */
	RIG_LOAD(&rig, RIG_CODE, SD(11, 10, 0), LD(12, 10, 0), LW(13, 10, 2), LHU(14, 10, 3), END);
	for (unsigned int second = 0; second < 2; second++) {
		hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
		vd_hart_set_x(hart, 10, VA + RIG_PAGE - 4);
		vd_hart_set_x(hart, 11, 0x8877665544332211u);
		rig_write64(&rig, RIG_DATA + RIG_PAGE - 8, 0);
		rig_run(&rig, 0);
		if (second)
			break;
		rig_expect_no_trap(&rig, 0);
		assert_int_equal(vd_hart_x(hart, 12), 0x8877665544332211u);
		assert_int_equal(vd_hart_x(hart, 13), 0x66554433);
		assert_int_equal(vd_hart_x(hart, 14), 0x5544);
		assert_int_equal(rig_read64(&rig, OTHER) & UINT32_MAX, 0x88776655);
		rig_map(&rig, VA + RIG_PAGE, OTHER, 0, 0);
	}
	/* The second page has gone: nothing is stored, and its first byte is named. */
	assert_int_equal(rig_read64(&rig, RIG_DATA + RIG_PAGE - 8), 0);
	assert_int_equal(rig.harts[0].trap_count, 4);
	assert_int_equal(rig.harts[0].traps[0].cause, STORE_PAGE);
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(rig.harts[0].traps[i].tval, VA + RIG_PAGE);
		if (i)
			assert_int_equal(rig.harts[0].traps[i].cause, LOAD_PAGE);
	}
	/* The first page has gone: its byte is named. */
	rig_map(&rig, VA, RIG_DATA, 0, 0);
	rig_map(&rig, VA + RIG_PAGE, OTHER, 0, rw);
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 10, VA + RIG_PAGE - 4);
	rig_run(&rig, 0);
	assert_int_equal(rig.harts[0].trap_count, 4);
	assert_int_equal(rig.harts[0].traps[0].tval, VA + RIG_PAGE - 4);
	assert_int_equal(rig.harts[0].traps[3].tval, VA + RIG_PAGE - 1);
	assert_int_equal(rig_read64(&rig, OTHER) & UINT32_MAX, 0x88776655);
	rig_close(&rig);
}

/* Each allocation that the harts' faults make fails once: the guest sees none of it. */
static void a_shortage_in_the_host_is_no_fault_of_the_guest(void **state)
{
	static struct test_env test; /* what is freed late looks at it */
	struct rig rig;
	long step = 0;

	(void)state;
	test_env_init(&test);
	rig_open(&rig, &(struct rig_setup){.env = &test.env, .flags = VD_HART_CHECK_TLB});
	RIG_LOAD(&rig, RIG_CODE, LD(11, 10, 0), SD(11, 10, 8), END);
	do {
		struct vd_hart *hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);

		vd_mmu_zap(rig.mmu, (vd_gpa){0}, UINT64_MAX);
		vd_hart_set_x(hart, 10, OTHER);
		rig.harts[0].polls_max = 1000;
		test_env_fail(&test, ++step, -ENOMEM);
		rig_run(&rig, 0);
		rig_expect_no_trap(&rig, 0);
	} while (test_env_failed(&test));
	test_env_fail(&test, 0, 0);
	assert_true(step > 4 || rig.shadow);
	rig_close(&rig);
	assert_int_equal(test.blocks, 0);
}

/* ---- trapped areas ------------------------------------------------------------ */

struct access_log {
	uint64_t offset[16], value[16];
	unsigned int length[16], count;
};

static int log_access(void *context, uint64_t offset, unsigned int length, uint64_t value)
{
	struct access_log *log = ((struct rig *)context)->test;

	assert_true(log->count < 16);
	log->offset[log->count] = offset;
	log->length[log->count] = length;
	log->value[log->count++] = value;
	return offset == 0x800 ? -EIO : 0;
}

static int device_read(void *context, uint64_t offset, unsigned int length, uint64_t *value)
{
	int rc = log_access(context, offset, length, 0);

	/* The highest bit of every width is set, for what extends its sign. */
	*value = 0xf8f7f6f5f4f3f2f1u & (length == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * length) - 1);
	return rc;
}

static const struct vd_trap_ops device_ops = {device_read, log_access};

static void check_log(const struct access_log *log, unsigned int i, uint64_t offset,
		      unsigned int length, uint64_t value)
{
	assert_int_equal(log->offset[i], offset);
	assert_int_equal(log->length[i], length);
	assert_int_equal(log->value[i], value);
}

static void trapped_accesses_of_all_widths_arrive(void **state)
{
	struct access_log log = {.count = 0};
	struct vd_hart_stats stats;
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB});
	rig.test = &log;
	rig_trap_area(&rig, DEVICE, RIG_PAGE, &device_ops);
	RIG_LOAD(&rig, RIG_CODE, LB(11, 10, 1), LBU(12, 10, 3), LH(13, 10, 2), LHU(14, 10, 6),
		 LW(15, 10, 4), LWU(16, 10, 12), LD(18, 10, 24), SB(9, 10, 5), SH(9, 10, 10),
		 SW(9, 10, 20), SD(9, 10, 32), END);
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 9, 0x1122334455667788u);
	vd_hart_set_x(hart, 10, DEVICE);
	rig_run(&rig, 0);
	rig_expect_no_trap(&rig, 0);
	assert_int_equal(vd_hart_x(hart, 11), 0xfffffffffffffff1u);
	assert_int_equal(vd_hart_x(hart, 12), 0xf1);
	assert_int_equal(vd_hart_x(hart, 13), 0xfffffffffffff2f1u);
	assert_int_equal(vd_hart_x(hart, 14), 0xf2f1);
	assert_int_equal(vd_hart_x(hart, 15), 0xfffffffff4f3f2f1u);
	assert_int_equal(vd_hart_x(hart, 16), 0xf4f3f2f1);
	assert_int_equal(vd_hart_x(hart, 18), 0xf8f7f6f5f4f3f2f1u);
	assert_int_equal(log.count, 11);
	check_log(&log, 0, 1, 1, 0);
	check_log(&log, 3, 6, 2, 0);
	check_log(&log, 5, 12, 4, 0);
	check_log(&log, 6, 24, 8, 0);
	check_log(&log, 7, 5, 1, 0x88);
	check_log(&log, 8, 10, 2, 0x7788);
	check_log(&log, 9, 20, 4, 0x55667788);
	check_log(&log, 10, 32, 8, 0x1122334455667788u);
	vd_hart_stats(hart, &stats);
	assert_int_equal(stats.mmio_reads, 7);
	assert_int_equal(stats.mmio_writes, 4);
	rig_close(&rig);
}

/* Misaligned, atomic, to execute, or refused by the device: the device is not to see the first three. */
static void what_a_trapped_area_refuses_faults(void **state)
{
	static const uint64_t causes[] = {LOAD_MISALIGNED, STORE_MISALIGNED, LOAD_MISALIGNED,
					  STORE_ACCESS, FETCH_ACCESS, LOAD_ACCESS, STORE_ACCESS,
					  LOAD_ACCESS, LOAD_ACCESS};
	static const uint64_t tvals[] = {1, 6, 4, 0, 0, 0x800, 0x800, 0x800, RIG_PAGE};
	struct access_log log = {.count = 0};
	struct rig rig;
	struct vd_hart *hart;

	(void)state;
	rig_open(&rig, &(struct rig_setup){.flags = VD_HART_CHECK_TLB});
	rig.test = &log;
	rig.trap = return_from_fetch;
	rig_trap_area(&rig, DEVICE, RIG_PAGE, &device_ops);
	/* The first load puts the page's address where later ones look first. */
	RIG_LOAD(&rig, RIG_CODE, LW(11, 10, 0), LH(11, 10, 1), SW(11, 10, 6), LD(11, 10, 4),
		 AMOADD_D(11, 10, 11), JALR(1, 10, 0), LW(11, 9, 0), SW(11, 9, 0), LW(11, 9, 0),
		 LW(11, 12, 0), END);
	hart = rig_start(&rig, 0, RIG_CODE, RIG_SUPERVISOR);
	vd_hart_set_x(hart, 9, DEVICE + 0x800);
	vd_hart_set_x(hart, 10, DEVICE);
	vd_hart_set_x(hart, 12, DEVICE + RIG_PAGE);
	rig_run(&rig, 0);
	assert_int_equal(rig.harts[0].trap_count, 9);
	for (unsigned int i = 0; i < 9; i++) {
		assert_int_equal(rig.harts[0].traps[i].cause, causes[i]);
		assert_int_equal(rig.harts[0].traps[i].tval, DEVICE + tvals[i]);
	}
	assert_int_equal(log.count, 4);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(permissions_follow_the_manual),
		cmocka_unit_test(with_svadu_accessed_and_dirty_are_set),
		cmocka_unit_test(the_first_store_after_loads_is_noticed),
		cmocka_unit_test(modes_do_not_share_translations),
		cmocka_unit_test(superpages_must_be_aligned),
		cmocka_unit_test(reserved_bits_fault_in_leaves_and_tables),
		cmocka_unit_test(addresses_must_be_canonical),
		cmocka_unit_test(what_is_not_memory_is_an_access_fault),
		cmocka_unit_test(accesses_across_pages_name_the_page_that_faults),
		cmocka_unit_test(a_shortage_in_the_host_is_no_fault_of_the_guest),
		cmocka_unit_test(trapped_accesses_of_all_widths_arrive),
		cmocka_unit_test(what_a_trapped_area_refuses_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
