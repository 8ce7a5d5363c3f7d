/* SPDX-License-Identifier: BSD-2-Clause */
/* Random requests for interrupts against a plain model. */
#include "irqs_rig.h"

struct model {
	int on; /* -1: none */
	unsigned enabled; /* MSI */
	bool set[VD_IRQ_COUNT][VECTORS], pending[VECTORS];
	bool asserted, masked, disabled;
	uint64_t due[VD_IRQ_COUNT][VECTORS];
};

static void model_intx(struct model *m)
{
	if (m->on != VD_IRQ_INTX || !m->asserted || m->masked)
		return;
	m->masked = true;
	m->due[VD_IRQ_INTX][0] += m->set[VD_IRQ_INTX][0];
}

static void model_unmask(struct model *m)
{
	if (m->on == VD_IRQ_INTX && !m->disabled) {
		m->masked = false;
		model_intx(m);
	}
}

static void model_raise(struct model *m, unsigned index, unsigned vector)
{
	if (index == VD_IRQ_INTX) {
		m->asserted = true;
		model_intx(m);
		return;
	}
	/* MSI: the enabled ones, rounded up to a power of two */
	if (index == VD_IRQ_MSI && m->on == VD_IRQ_MSI)
		vector %= m->enabled > 2 ? 4 : m->enabled;
	if (m->set[index][vector]) {
		m->due[index][vector]++;
	} else if (index == VD_IRQ_MSIX && m->on == VD_IRQ_MSIX) {
		m->pending[vector] = true;
	}
}

static void model_off(struct model *m, unsigned index)
{
	memset(m->set[index], 0, sizeof(m->set[index]));
	if (m->on == (int)index) {
		m->on = -1;
		m->masked = false;
		memset(m->pending, 0, sizeof(m->pending));
	}
}

/* A request of one action and one data type whose range exists. @give: bit i: a descriptor. */
static int model_set(struct model *m, uint32_t type, uint32_t action, unsigned index,
		     unsigned start, unsigned count, unsigned give)
{
	bool single = index >= VD_IRQ_ERR, on = m->on == (int)index;
	bool none = m->on < 0;

	if (index != VD_IRQ_INTX && action != TRIGGER)
		return -ENOTTY;
	if (action != TRIGGER) {
		if (!on || count != 1)
			return -EINVAL;
		if (type == EVENTFD)
			return action == MASK ? -ENOTTY : 0; /* -1: nothing to take away */
		if (type == BOOL && !(give & 1))
			return 0;
		if (action == MASK)
			m->masked = true;
		else
			model_unmask(m);
		return 0;
	}
	if (type == NONE && !count) {
		if (single ? !m->set[index][0] : !on)
			return -EINVAL;
		model_off(m, index);
		return 0;
	}
	if ((index == VD_IRQ_INTX || single) && count != 1)
		return -EINVAL;
	if (!single && !on && !none)
		return -EINVAL;
	if (type != EVENTFD) {
		if (single ? type == NONE && !m->set[index][0] : !on)
			return -EINVAL;
		for (unsigned i = 0; i < count; i++)
			if ((type == NONE || give >> i & 1) && m->set[index][start + i] &&
			    !(index == VD_IRQ_INTX && m->disabled))
				m->due[index][start + i]++;
		return 0;
	}
	if (!single && !on) {
		if (!(start + count))
			return -ERANGE;
		m->on = (int)index;
		m->enabled = start + count;
		m->masked = m->disabled;
	}
	for (unsigned i = 0; i < count && index == VD_IRQ_MSI; i++)
		if (give >> i & 1 && start + i >= m->enabled)
			return -EINVAL;
	for (unsigned i = 0; i < count; i++) {
		m->set[index][start + i] = give >> i & 1;
		if (index == VD_IRQ_MSIX && m->pending[start + i] && give >> i & 1) {
			m->pending[start + i] = false;
			m->due[index][start + i]++;
		}
	}
	model_intx(m);
	return 0;
}

static void random_request(struct client *c, struct model *m)
{
	static const uint32_t types[] = {NONE, BOOL, EVENTFD, EVENTFD};
	static const uint32_t actions[] = {TRIGGER, TRIGGER, TRIGGER, MASK, UNMASK, UNMASK};
	unsigned index = (unsigned)(test_random(test_state()) % VD_IRQ_COUNT);
	uint32_t type = types[test_random(test_state()) % 4];
	uint32_t action = actions[test_random(test_state()) % 6];
	unsigned start = (unsigned)(test_random(test_state()) % counts[index]);
	unsigned count = (unsigned)(test_random(test_state()) % (counts[index] - start + 1));
	unsigned give = (unsigned)test_random(test_state());
	uint8_t bools[VECTORS];
	int fds[VECTORS], r, expected;

	if (test_random(test_state()) % 4 == 0 && m->on >= 0)
		index = (unsigned)m->on, type = NONE, action = TRIGGER, start = count = 0;
	if (action == UNMASK && type == EVENTFD)
		give = 0;
	for (unsigned i = 0; i < VECTORS; i++) {
		bools[i] = give >> i & 1;
		fds[i] = give >> i & 1 && i < count ? c->fds[index][start + i] : -1;
	}
	expected = model_set(m, type, action, index, start, count, give);
	r = vd_device_set_irqs(c->device, type | action, index, start, count, bools, fds);
	if (r != expected)
		fail_msg("flags 0x%x index %u start %u count %u: %d, not %d", type | action, index,
			 start, count, r, expected);
}

static void random_step(struct client *c, struct model *m)
{
	unsigned what = (unsigned)(test_random(test_state()) % 8);
	unsigned index = (unsigned)(test_random(test_state()) % VD_IRQ_COUNT);
	unsigned vector = (unsigned)(test_random(test_state()) % counts[index]);

	if (what < 4) {
		random_request(c, m);
	} else if (what < 6) {
		raise_one(c, index, vector);
		model_raise(m, index, vector);
	} else if (what == 6) {
		set_level(c, false);
		m->asserted = false;
	} else {
		bool disable = !m->disabled;

		disable_intx(c, disable);
		m->disabled = disable;
		if (disable)
			m->masked = true;
		else
			model_unmask(m);
	}
}

static void test_random_requests(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct model m = {.on = -1};
		struct client c;

		test_start(seed);
		client_open(&c);
		for (unsigned step = 0; step < 400; step++) {
			random_step(&c, &m);
			for (unsigned i = 0; i < VD_IRQ_COUNT; i++)
				for (unsigned v = 0; v < counts[i]; v++) {
					assert_int_equal(arrived(&c, i, v), m.due[i][v]);
					m.due[i][v] = 0;
				}
		}
		client_close(&c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_random_requests, test_seed_print),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
