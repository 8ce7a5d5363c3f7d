/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A 16550A without an interrupt line (TI PC16550D data sheet): the guest's driver polls it, and
 * asks the interrupt identification register what there would be an interrupt for.
 */
#include <stdlib.h>
#include <string.h>

#include "vm/machine.h"

#define IER_RECEIVED 0x01
#define IER_EMPTY 0x02
#define IIR_NONE 0x01
#define IIR_EMPTY 0x02
#define IIR_RECEIVED 0x04
#define LSR_DATA_READY 0x01
#define LSR_EMPTY 0x60
#define LCR_DLAB 0x80
#define MCR_LOOP 0x10

static const char panic_text[] = "Kernel panic - not syncing";

struct uart {
	struct vd_vm *vm;
	pthread_mutex_t lock;
	uint8_t ier, lcr, mcr, scratch, divisor[2], fifo;
	bool became_empty; /* the transmitter, since identification last said so */
	uint8_t input[256];
	unsigned input_head, input_count;
	uint8_t output[128];
	unsigned output_count;
	unsigned panic_matched;
	bool panic;
};

static void flush_locked(struct uart *u)
{
	if (u->output_count && u->vm->config.console_write)
		u->vm->config.console_write(u->vm->config.context, u->output, u->output_count);
	u->output_count = 0;
}

/* Linux reports a panic only in words: they tell a panic's reset from a reboot. */
static void watch_for_panic(struct uart *u, uint8_t byte)
{
	if (byte != (uint8_t)panic_text[u->panic_matched])
		u->panic_matched = 0;
	if (byte == (uint8_t)panic_text[u->panic_matched] &&
	    !panic_text[++u->panic_matched]) {
		u->panic = true;
		u->panic_matched = 0;
	}
}

static void put_locked(struct uart *u, uint8_t byte)
{
	watch_for_panic(u, byte);
	u->output[u->output_count++] = byte;
	if (byte == '\n' || u->output_count == sizeof(u->output))
		flush_locked(u);
}

static uint8_t identify(struct uart *u)
{
	uint8_t fifos = u->fifo & 1 ? 0xc0 : 0;

	if ((u->ier & IER_RECEIVED) && u->input_count)
		return IIR_RECEIVED | fifos;
	if ((u->ier & IER_EMPTY) && u->became_empty) {
		u->became_empty = false;
		return IIR_EMPTY | fifos;
	}
	return IIR_NONE | fifos;
}

static uint8_t read_register(struct uart *u, uint64_t offset)
{
	uint8_t value = 0;

	switch (offset) {
	case 0:
		if (u->lcr & LCR_DLAB)
			return u->divisor[0];
		if (u->input_count) {
			value = u->input[u->input_head];
			u->input_head = (u->input_head + 1) % sizeof(u->input);
			u->input_count--;
		}
		return value;
	case 1:
		return u->lcr & LCR_DLAB ? u->divisor[1] : u->ier;
	case 2:
		return identify(u);
	case 3:
		return u->lcr;
	case 4:
		return u->mcr;
	case 5:
		return LSR_EMPTY | (u->input_count ? LSR_DATA_READY : 0);
	case 6: /* loop-back shows the outputs, as drivers probe for; else ready and carrier */
		if (u->mcr & MCR_LOOP)
			return (uint8_t)((u->mcr & 2) << 3 | (u->mcr & 1) << 5 |
					 (u->mcr & 12) << 4);
		return 0xb0;
	default:
		return u->scratch;
	}
}

static void write_register(struct uart *u, uint64_t offset, uint8_t value)
{
	switch (offset) {
	case 0:
		if (u->lcr & LCR_DLAB)
			u->divisor[0] = value;
		else if (!(u->mcr & MCR_LOOP))
			put_locked(u, value);
		u->became_empty = true;
		break;
	case 1:
		if (u->lcr & LCR_DLAB) {
			u->divisor[1] = value;
			break;
		}
		u->became_empty |= value & ~u->ier & IER_EMPTY;
		u->ier = value & 15;
		break;
	case 2:
		u->fifo = value;
		if (value & 2)
			u->input_count = 0;
		break;
	case 3:
		u->lcr = value;
		break;
	case 4:
		u->mcr = value & 31;
		break;
	case 7:
		u->scratch = value;
		break;
	}
}

static int uart_read(void *context, uint64_t offset, unsigned length, uint64_t *value)
{
	struct uart *u = context;

	(void)length; /* registers are bytes; wider reads see one */
	pthread_mutex_lock(&u->lock);
	*value = read_register(u, offset & 7);
	pthread_mutex_unlock(&u->lock);
	return 0;
}

static int uart_write(void *context, uint64_t offset, unsigned length, uint64_t value)
{
	struct uart *u = context;

	(void)length;
	pthread_mutex_lock(&u->lock);
	write_register(u, offset & 7, (uint8_t)value);
	pthread_mutex_unlock(&u->lock);
	return 0;
}

const struct vd_trap_ops vd_uart_ops = {uart_read, uart_write};

int vd_uart_create(struct vd_vm *vm, struct vd_error *error)
{
	struct uart *u = vd_env_allocate(vm->env, "vm.uart", sizeof(*u), 16);

	if (!u)
		return vd_error_set(error, -ENOMEM, "out of memory for the serial port");
	u->vm = vm;
	pthread_mutex_init(&u->lock, NULL);
	vm->uart = u;
	return 0;
}

void vd_uart_destroy(struct uart *u)
{
	if (!u)
		return;
	pthread_mutex_destroy(&u->lock);
	u->vm->env->release(u->vm->env, u, sizeof(*u));
}

void vd_uart_write(struct uart *u, const uint8_t *bytes, size_t length)
{
	pthread_mutex_lock(&u->lock);
	for (size_t i = 0; i < length; i++)
		put_locked(u, bytes[i]);
	pthread_mutex_unlock(&u->lock);
}

size_t vd_uart_input(struct uart *u, const uint8_t *bytes, size_t length)
{
	size_t taken = 0;

	pthread_mutex_lock(&u->lock);
	while (taken < length && u->input_count < sizeof(u->input)) {
		u->input[(u->input_head + u->input_count) % sizeof(u->input)] = bytes[taken++];
		u->input_count++;
	}
	pthread_mutex_unlock(&u->lock);
	return taken;
}

void vd_uart_flush(struct uart *u)
{
	/* Polled often: do not wait for a hart that is just printing, it flushes itself. */
	if (pthread_mutex_trylock(&u->lock))
		return;
	flush_locked(u);
	pthread_mutex_unlock(&u->lock);
}

void vd_uart_finish(struct uart *u)
{
	pthread_mutex_lock(&u->lock);
	flush_locked(u);
	pthread_mutex_unlock(&u->lock);
}

bool vd_uart_saw_panic(struct uart *u)
{
	bool panic;

	pthread_mutex_lock(&u->lock);
	panic = u->panic;
	pthread_mutex_unlock(&u->lock);
	return panic;
}

/* ---- saving and loading ---- */

void vd_uart_save(struct uart *u, struct vd_stream *stream)
{
	uint8_t registers[8];

	pthread_mutex_lock(&u->lock);
	flush_locked(u); /* what was sent is the console's */
	memcpy(registers, (uint8_t[8]){u->ier, u->lcr, u->mcr, u->scratch, u->divisor[0],
				       u->divisor[1], u->fifo, u->became_empty}, 8);
	vd_stream_put(stream, registers, sizeof(registers));
	vd_stream_put_u64(stream, u->input_count);
	for (unsigned i = 0; i < u->input_count; i++)
		vd_stream_put(stream, &u->input[(u->input_head + i) % sizeof(u->input)], 1);
	vd_stream_put_u64(stream, u->panic_matched);
	vd_stream_put_u64(stream, u->panic);
	pthread_mutex_unlock(&u->lock);
}

bool vd_uart_load(struct uart *u, struct vd_stream *stream)
{
	uint8_t registers[8], input[sizeof(u->input)];
	uint64_t count, matched, panic;

	vd_stream_get(stream, registers, sizeof(registers));
	count = vd_stream_get_u64(stream);
	if (count > sizeof(input))
		return false;
	vd_stream_get(stream, input, count);
	matched = vd_stream_get_u64(stream);
	panic = vd_stream_get_u64(stream);
	if (stream->failed || matched >= sizeof(panic_text) - 1 || panic > 1 ||
	    registers[0] > 15 || registers[2] > 31 || registers[7] > 1)
		return false;
	pthread_mutex_lock(&u->lock);
	u->ier = registers[0];
	u->lcr = registers[1];
	u->mcr = registers[2];
	u->scratch = registers[3];
	u->divisor[0] = registers[4];
	u->divisor[1] = registers[5];
	u->fifo = registers[6];
	u->became_empty = registers[7];
	memcpy(u->input, input, count);
	u->input_head = 0;
	u->input_count = (unsigned)count;
	u->panic_matched = (unsigned)matched;
	u->panic = panic;
	pthread_mutex_unlock(&u->lock);
	return true;
}
