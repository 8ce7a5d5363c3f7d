/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between the scenario, which is the same on every architecture, and the port: a small hypervisor
 * that owns one processor and runs one internal VM at a time.
 */
#ifndef VIADUCT_PORT_H
#define VIADUCT_PORT_H

#include <viaduct/internal.h>

/* ---- print.c --------------------------------------------------------------------------------- */

void port_put(const char *text);
/* One line of TAP: "ok N - text" or "not ok N - text". Return: @good. */
bool port_result(bool good, const char *text);

/* The printf subset of vd_error_set(), which writes into the text of an error; 250 characters. */
#define port_print(...)                                                                            \
	do {                                                                                       \
		struct vd_error text_;                                                             \
                                                                                                   \
		vd_error_set(&text_, 0, __VA_ARGS__);                                              \
		port_put(text_.text);                                                              \
	} while (0)

#define port_test(good, ...)                                                                       \
	({                                                                                         \
		bool good_ = (good);                                                               \
		struct vd_error text_;                                                             \
                                                                                                   \
		vd_error_set(&text_, 0, __VA_ARGS__);                                              \
		port_result(good_, text_.text);                                                    \
	})
void port_skip(const char *what, const char *why);
/* The plan, and how many failed. */
unsigned port_plan(void);

/* ---- env.c ----------------------------------------------------------------------------------- */

/* Over the heap between the linker's marks. */
const struct vd_env *port_env(void);
/* Blocks that are allocated now. */
unsigned long port_blocks(void);

/* ---- the architecture: board.c, guest.c, table.c --------------------------------------------- */

void port_putc(char c);
uint64_t port_clock_ns(void);
_Noreturn void port_off(void);

/*
 * @format, @page_shift: of the second stage; @format NULL: this processor has none such, @why
 */
struct port_format {
	const char *name;
	const struct vd_mmu_format *format;
	unsigned page_shift;
	const char *why;
};

/* The @index-th that shall be tried. Return: false when there are no more. */
bool port_format(unsigned index, struct port_format *format);

/*
 * Physical addresses of the board. The guest's image lies in RAM at guest_text, guest_data.
 * @ranges: the memory map, own ones included
 * @large: 1 GiB, aligned to it; @ragged: begins and ends at no boundary of a block
 * @reserved: RAM of another kind, right behind RAM
 * @hole: nothing is there
 */
struct port_board {
	const struct vd_physical_range *ranges;
	uint32_t count;
	uint64_t uart, rtc, device_length;
	uint64_t own, own_device;
	uint64_t large, large_length, ragged, ragged_length, reserved, hole;
};

const struct port_board *port_board(void);

/* Before a guest runs on the table, and whenever it lost entries. */
void port_stage2(const struct port_format *format, void *root);
void port_flush(void *context, uint64_t start, uint64_t length);

/*
 * A run of entries as the port's own walker finds them, from the bits in memory and nothing else.
 * @marked: as parts of larger translations: the contiguous bit, Svnapot
 * @type: "normal", "device-nGnRE" and so on, in the words of the architecture
 */
struct port_run {
	uint64_t input, output, size, count;
	unsigned level, access;
	bool marked;
	const char *type;
};

/* Calls @fn for runs of leaves alike, by address. */
void port_each(const struct port_format *format, const void *root,
	       void (*fn)(void *context, const struct port_run *run), void *context);

/* Registers of a guest at its first instruction. */
struct port_call {
	uint64_t pc, stack, argument[3];
	uint64_t handler; /* its trap vector, or UINT64_MAX */
	bool own_tables;  /* it will turn a first stage of its own on */
};

/* The root of a first stage: 512 blocks of 1 GiB, some one to one, and two at PORT_ALIAS. */
#define PORT_ALIAS (UINT64_C(200) << 30)
void port_first_stage(uint64_t table[512], uint64_t first, uint64_t second);

enum port_exit_kind { PORT_RETURNED, PORT_ABORTED, PORT_TICKED, PORT_STRAYED };

struct port_exit {
	enum port_exit_kind kind;
	uint64_t value;	   /* returned */
	uint64_t syndrome; /* ESR_EL2, scause */
	uint64_t handler;  /* where an abort would be taken now */
	struct vd_internal_abort abort;
};

/* All exceptions that can be masked are, at the first instruction. */
void port_start(const struct port_call *call);
/* Until the next exit; the timer fires at @deadline. */
void port_enter(uint64_t deadline, struct port_exit *exit);
/* Makes it take the abort it exited with. */
void port_inject(const struct port_exit *exit);

/* ---- the guest: firmware.c, guest.S ---------------------------------------------------------- */

/* What a handler of the guest saw, in its own registers. */
struct guest_record {
	uint64_t taken, syndrome, address, pc;
};

/* EFI_TIME, and a variable store, cut to what is shown. */
struct guest_time {
	uint16_t year;
	uint8_t month, day, hour, minute, second, pad;
};

#define GUEST_VARIABLE_BYTES 32u

/* The arguments and results of a service, in the guest's data. */
struct guest_block {
	struct guest_time time;
	char name[GUEST_VARIABLE_BYTES];
	char value[GUEST_VARIABLE_BYTES];
	uint64_t size;
};

#define GUEST_SUCCESS UINT64_C(0)
#define GUEST_BUFFER_TOO_SMALL (UINT64_C(1) << 63 | 5)
#define GUEST_NOT_FOUND (UINT64_C(1) << 63 | 14)
#define GUEST_ABORTED (UINT64_C(1) << 63 | 21)

extern struct guest_record guest_record;
extern struct guest_block guest_block;
extern uint64_t guest_table[512];
extern char guest_text[], guest_text_end[], guest_data[], guest_data_end[], guest_stack[];

/* (rtc) -> status; result in guest_block.time */
uint64_t guest_get_time(uint64_t rtc);
/* name in guest_block -> status; result in value and size */
uint64_t guest_get_variable(void);
uint64_t guest_set_variable(void);
/* (uart, text in guest_block.value) -> characters */
uint64_t guest_say(uint64_t uart);
/* (address, length) -> sum of a 64-bit word every 4 KiB after writing one there */
uint64_t guest_touch(uint64_t address, uint64_t length);

/* guest.S: each does one thing, at the label with _pc, with everything masked. */
extern char guest_load[], guest_load_pc[], guest_store[], guest_store_pc[], guest_jump[];
extern char guest_loop[], guest_beg[];
/* (address, root): turns the first stage on, then loads */
extern char guest_load_mapped[], guest_load_mapped_pc[];
/* Trap vectors: note what was seen and return GUEST_ABORTED; go back to where it was; touch again
   what was refused; loop. */
extern char guest_vector[], guest_vector_back[], guest_vector_again[], guest_vector_loop[];

/* ---- ordinary.c ------------------------------------------------------------------------------ */

/* A guest that is none of the internal ones, on the same machine. */
void port_ordinary(const struct port_format *format, struct vd_host *host);

/* Loads of x0, a0 in the modes below the guest's own, each at a label of its own. */
struct port_load {
	const char *what;
	const void *function, *pc;
};
/* The @index-th; NULL when there are no more. */
const struct port_load *port_user_load(unsigned index);

/* ---- scenario.c ------------------------------------------------------------------------------ */

/* All tests for one format. */
void port_scenario(const struct port_format *format);
void port_main(void);

#endif
