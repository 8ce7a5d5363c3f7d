/* SPDX-License-Identifier: BSD-2-Clause */
/* The client with servers that lie, hang, and die. */
#include "mock.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/user/client.h"

static struct mock_rig rig;

/* ---- lies that are told at the beginning ------------------------------------------------------ */

typedef void (*lie_fn)(struct mock *mock, const struct user_header *asked,
		       struct mock_reply *reply);

static void put32(struct mock_reply *reply, size_t at, uint32_t value)
{
	memcpy(reply->bytes + at, &value, 4);
}

static void put64(struct mock_reply *reply, size_t at, uint64_t value)
{
	memcpy(reply->bytes + at, &value, 8);
}

static uint32_t get32(const struct mock_reply *reply, size_t at)
{
	uint32_t value;

	memcpy(&value, reply->bytes + at, 4);
	return value;
}

#define LIE(name, wanted, statement)                                                               \
	static void name(struct mock *mock, const struct user_header *asked,                       \
			 struct mock_reply *reply)                                                 \
	{                                                                                          \
		(void)mock;                                                                        \
		(void)reply;                                                                       \
		if (asked->command == (wanted)) {                                                  \
			statement;                                                                 \
		}                                                                                  \
	}

LIE(short_version, USER_VERSION, reply->length = 2)
LIE(other_major, USER_VERSION, reply->bytes[0] = 1)
LIE(newer_minor, USER_VERSION, reply->bytes[2] = 9)
LIE(no_nul, USER_VERSION, reply->length--)
LIE(refused_version, USER_VERSION, reply->length = 0; reply->header.flags |= USER_ERROR)
LIE(no_pci, USER_GET_INFO, put32(reply, 4, 0))
LIE(few_regions, USER_GET_INFO, put32(reply, 8, 7))
LIE(short_info, USER_GET_INFO, reply->length = 8)
LIE(long_info, USER_GET_INFO, reply->length = 64)
LIE(huge_info, USER_GET_INFO, reply->length = sizeof(reply->bytes) - 64)
LIE(short_region, USER_GET_REGION_INFO, reply->length = 16)
LIE(other_region, USER_GET_REGION_INFO, put32(reply, 8, get32(reply, 8) + 1))
LIE(endless_region, USER_GET_REGION_INFO, put64(reply, 16, UINT64_MAX))
LIE(small_config, USER_GET_REGION_INFO,
    if (get32(reply, 8) == VD_REGION_CONFIG) put64(reply, 16, 64))
LIE(large_config, USER_GET_REGION_INFO,
    if (get32(reply, 8) == VD_REGION_CONFIG) put64(reply, 16, 1u << 20))
LIE(many_vectors, USER_GET_IRQ_INFO, put32(reply, 12, 2049))
LIE(other_irq, USER_GET_IRQ_INFO, put32(reply, 8, 77))
LIE(short_irq, USER_GET_IRQ_INFO, reply->length = 4)
LIE(irqs_refused, USER_SET_IRQS, reply->header.flags |= USER_ERROR; reply->header.error = EBUSY)
LIE(irqs_long, USER_SET_IRQS, reply->length = 100)
LIE(memory_refused, USER_DMA_MAP, reply->header.flags |= USER_ERROR)
LIE(reset_refused, USER_RESET, reply->header.flags |= USER_ERROR; reply->header.error = 70000)
LIE(size_too_small, USER_GET_INFO, reply->header.size = 4)
LIE(size_too_large, USER_GET_INFO, reply->header.size = UINT32_MAX)
LIE(no_type, USER_GET_INFO, reply->header.flags = 7)
LIE(other_id, USER_GET_INFO, reply->header.id++)
LIE(other_command, USER_GET_INFO, reply->header.command = USER_RESET)
LIE(silent, USER_GET_INFO, reply->none = true)
LIE(hangs_up, USER_GET_REGION_INFO, shutdown(mock->fd, SHUT_RDWR))
LIE(half_a_message, USER_GET_INFO, reply->header.size = 4096)

static const struct {
	const char *name;
	lie_fn lie;
	int expected; /* 0: any error */
} lies[] = {
	{"short version", short_version, -EPROTO}, {"other major", other_major, -EPROTO},
	{"newer minor", newer_minor, -EPROTO}, {"no NUL", no_nul, -EPROTO},
	{"refused version", refused_version, -EIO}, {"no PCI", no_pci, -EPROTO},
	{"few regions", few_regions, -EPROTO}, {"short info", short_info, -EPROTO},
	{"long info", long_info, -EPROTO}, {"huge info", huge_info, -EPROTO},
	{"short region", short_region, -EPROTO}, {"other region", other_region, -EPROTO},
	{"endless region", endless_region, -EPROTO}, {"small config", small_config, -EPROTO},
	{"large config", large_config, -EPROTO}, {"many vectors", many_vectors, -EPROTO},
	{"other irq", other_irq, -EPROTO}, {"short irq", short_irq, -EPROTO},
	{"irqs refused", irqs_refused, -EBUSY}, {"irqs long", irqs_long, -EIO},
	{"memory refused", memory_refused, -EIO}, {"reset refused", reset_refused, -EIO},
	{"size too small", size_too_small, -EPROTO}, {"size too large", size_too_large, -EPROTO},
	{"no type", no_type, -EPROTO}, {"other id", other_id, -ETIMEDOUT},
	{"other command", other_command, -ETIMEDOUT}, {"silent", silent, -ETIMEDOUT},
	{"hangs up", hangs_up, -ECONNRESET}, {"half a message", half_a_message, -ETIMEDOUT},
};

static void test_lies_at_the_beginning(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		int r;

		rig_open(&rig);
		rig.mock.lie = lies[i].lie;
		rig.config.timeout_ms = 30;
		r = rig_start(&rig);
		if (r != lies[i].expected || !rig.error.text[0])
			fail_msg("%s: %d (%s)", lies[i].name, r, rig.error.text);
		assert_null(rig.device);
		rig_close(&rig);
	}
}

/* ---- capabilities ---------------------------------------------------------------------------- */

static const struct {
	const char *text;
	int expected;
} texts[] = {
	{"{}", 0},
	{"", -EPROTO},
	{"{", -EPROTO},
	{"[]", -EPROTO},
	{"7", -EPROTO},
	{"{\"capabilities\":7}", -EPROTO},
	{"{\"capabilities\":{\"max_msg_fds\":\"many\"}}", -EPROTO},
	{"{\"capabilities\":{\"max_msg_fds\":-1}}", -EPROTO},
	{"{\"capabilities\":{\"max_msg_fds\":99999999999999999999999}}", 0},
	{"{\"capabilities\":{\"max_msg_fds\":1.5}}", -EPROTO},
	{"{\"capabilities\":{\"max_data_xfer_size\":0}}", -EPROTO},
	{"{\"capabilities\":{\"max_data_xfer_size\":4294967296}}", 0},
	{"{\"capabilities\":{\"max_dma_maps\":0}}", -EPROTO},
	{"{\"capabilities\":{\"pgsizes\":65536}}", -EPROTO},
	{"{\"capabilities\":{\"pgsizes\":69632}}", 0},
	{"{\"capabilities\":{\"twin_socket\":1}}", -EPROTO},
	{"{\"capabilities\":{\"twin_socket\":{}}}", 0},
	{"{\"capabilities\":{\"twin_socket\":{\"supported\":false,\"fd_index\":0}}}", 0},
	{"{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}", -EPROTO},
	{"{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":16}}}", -EPROTO},
	{"{\"a\":[[[[[[[[[[[[[[]]]]]]]]]]]]]]}", -EPROTO},
	{"\xff\xfe{}", -EPROTO},
};

static void test_capabilities(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct vd_user_client_info info;
		int twin, r = user_client_capabilities(texts[i].text, strlen(texts[i].text) + 1,
						       &info, &twin, NULL);

		if (r != texts[i].expected)
			fail_msg("%s: %d", texts[i].text, r);
		assert_true(info.fds_max <= USER_FDS_MAX);
		assert_true(info.transfer_max <= CLIENT_TRANSFER_MAX);
	}
}

static void test_huge_capabilities(void **state)
{
	static char text[60000];

	(void)state;
	memset(text, ' ', sizeof(text) - 1);
	text[0] = '{';
	text[sizeof(text) - 2] = '}';
	rig_open(&rig);
	rig.mock.json = text;
	assert_int_equal(rig_start(&rig), 0);
	rig_close(&rig);
	memset(text, '[', sizeof(text) - 1);
	rig_open(&rig);
	rig.mock.json = text;
	assert_int_equal(rig_start(&rig), -EPROTO);
	rig_close(&rig);
}

/* A second socket is announced, but another descriptor comes, or none. */
static void test_second_socket_that_is_none(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		rig_open(&rig);
		rig.mock.twin = i;
		rig.mock.json = "{\"capabilities\":{\"twin_socket\":{\"supported\":true,"
				"\"fd_index\":1}}}";
		assert_int_equal(rig_start(&rig), -EPROTO);
		rig_close(&rig);
	}
}

/* ---- what is said of memory ------------------------------------------------------------------ */

LIE(no_descriptor, USER_GET_REGION_INFO, reply->fd_count = 0)
LIE(two_descriptors, USER_GET_REGION_INFO, if (reply->fd_count) {
	reply->fds[1] = reply->fds[0];
	reply->fd_count = 2;
})
LIE(unaligned_offset, USER_GET_REGION_INFO, put64(reply, 24, 12))
LIE(far_offset, USER_GET_REGION_INFO, put64(reply, 24, UINT64_MAX & ~(PAGE - 1)))
LIE(capability_loop, USER_GET_REGION_INFO, if (reply->length > 32) {
	put32(reply, 32, 99);
	put32(reply, 36, 32);
})
LIE(capability_outside, USER_GET_REGION_INFO, if (reply->length > 32) put32(reply, 12, 4090))
LIE(capability_far, USER_GET_REGION_INFO, if (reply->length > 32) put32(reply, 12, UINT32_MAX))
LIE(many_areas, USER_GET_REGION_INFO, if (reply->length > 32) put32(reply, 40, UINT32_MAX))
LIE(no_areas, USER_GET_REGION_INFO, if (reply->length > 32) put32(reply, 40, 0))
LIE(area_outside, USER_GET_REGION_INFO, if (reply->length > 32) put64(reply, 48, 8 * PAGE))
LIE(area_wraps, USER_GET_REGION_INFO, if (reply->length > 32) {
	put64(reply, 48, 2 * PAGE);
	put64(reply, 56, UINT64_MAX & ~(PAGE - 1));
})
LIE(area_unaligned, USER_GET_REGION_INFO, if (reply->length > 32) put64(reply, 48, 8))
LIE(area_empty, USER_GET_REGION_INFO, if (reply->length > 32) put64(reply, 56, 0))
LIE(areas_overlap, USER_GET_REGION_INFO, if (reply->length > 64) put64(reply, 64, PAGE))
/* A page that is shared, which the region leaves; by who never offered such pages. */
static void crossing(struct mock *mock, const struct user_header *asked, struct mock_reply *reply)
{
	(void)mock;
	if (asked->command == USER_GET_REGION_INFO && reply->length > 32) {
		put32(reply, 32, USER_CAPABILITY_SHARED_PAGE | 1u << 16);
		put32(reply, 36, 0);
		put64(reply, 24, 0x800);
	}
}
LIE(argsz_huge, USER_GET_REGION_INFO, put32(reply, 0, UINT32_MAX))
LIE(argsz_small, USER_GET_REGION_INFO, put32(reply, 0, 0))

static const struct {
	const char *name;
	lie_fn lie;
} memory_lies[] = {
	{"no descriptor", no_descriptor}, {"two descriptors", two_descriptors},
	{"unaligned offset", unaligned_offset}, {"far offset", far_offset},
	{"capability loop", capability_loop}, {"capability outside", capability_outside},
	{"capability far", capability_far}, {"many areas", many_areas}, {"no areas", no_areas},
	{"area outside", area_outside}, {"area wraps", area_wraps},
	{"area unaligned", area_unaligned}, {"area empty", area_empty},
	{"areas overlap", areas_overlap}, {"page crossed", crossing}, {NULL, argsz_huge}, {NULL, argsz_small},
};

/* Trapped, with the reason, and it works all the same. */
static void test_lies_about_memory(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(memory_lies) / sizeof(memory_lies[0]); i++) {
		struct vd_host_object *object;
		uint64_t offset;

		rig_open(&rig);
		mock_add_memory(&rig.mock, 8 * PAGE, true);
		rig.mock.area_counts[2] = 2;
		rig.mock.areas[2][0] = (struct user_area){PAGE, PAGE};
		rig.mock.areas[2][1] = (struct user_area){4 * PAGE, 2 * PAGE};
		rig.mock.lie = memory_lies[i].lie;
		/* What was not asked for is not had: it may say so all the same. */
		rig.mock.json = "{\"capabilities\":{\"max_msg_fds\":8,\"page_offset\":true}}";
		rig.config.page_offset = i & 1;
		if (rig_start(&rig))
			fail_msg("%s: %s", memory_lies[i].name, rig.error.text);
		if (memory_lies[i].name && !rig.info.trapped[2])
			fail_msg("%s: is mapped", memory_lies[i].name);
		if (rig.info.trapped[2])
			assert_int_equal(vd_device_map_area(rig.device, 2, PAGE, PAGE, &object,
							    &offset), -EOPNOTSUPP);
		assert_int_equal(rig_write(&rig, 2, 0x10, 5, 4), 0);
		assert_int_equal(rig_read(&rig, 2, 0x10), 5);
		rig_close(&rig);
	}
}

static void test_memory_shorter_than_said(void **state)
{
	(void)state;
	rig_open(&rig);
	mock_add_memory(&rig.mock, 8 * PAGE, false);
	rig.mock.regions[2].size = 16 * PAGE;
	assert_int_equal(rig_start(&rig), 0);
	assert_non_null(rig.info.trapped[2]);
	rig_close(&rig);
}

/* No lock on its size: only with the fault guard; and then it may be cut at any time. */
static void test_memory_that_is_cut(void **state)
{
	(void)state;
	rig_open(&rig);
	mock_add_memory(&rig.mock, 8 * PAGE, false);
	assert_int_equal(rig_start(&rig), -EPERM);
	rig_close(&rig);
	rig_open(&rig);
	assert_int_equal(vd_host_guard_install(NULL), 0);
	mock_add_memory(&rig.mock, 8 * PAGE, false);
	assert_int_equal(rig_start(&rig), 0);
	assert_int_equal(rig_write(&rig, 2, 6 * PAGE, 9, 4), 0);
	assert_int_equal(rig_read(&rig, 2, 6 * PAGE), 9);
	assert_int_equal(ftruncate(rig.mock.region_fds[2], (off_t)PAGE), 0);
	(void)rig_read(&rig, 2, 6 * PAGE);
	(void)rig_write(&rig, 2, 6 * PAGE, 10, 4);
	assert_int_equal(rig_read(&rig, 0, MOCK_VALUE), 0);
	rig_close(&rig);
	vd_host_guard_uninstall();
}

/* ---- later ----------------------------------------------------------------------------------- */

LIE(other_offset, USER_REGION_READ, put64(reply, 0, 8))
LIE(other_region_read, USER_REGION_READ, put32(reply, 8, 3))
LIE(other_count, USER_REGION_READ, put32(reply, 12, 3))
LIE(short_read, USER_REGION_READ, reply->length -= 1)
LIE(long_read, USER_REGION_READ, reply->length += 4096)
LIE(late, USER_REGION_READ, reply->none = true)
LIE(dies, USER_REGION_READ, reply->none = true; shutdown(mock->fd, SHUT_RDWR))
LIE(surplus, USER_REGION_READ, {
	for (reply->fd_count = 0; reply->fd_count < 20; reply->fd_count++)
		reply->fds[reply->fd_count] = mock->fd;
})

static const lie_fn later[] = {other_offset, other_region_read, other_count, short_read, long_read,
			       late, dies, surplus};

static void test_lies_later(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
		uint64_t began;

		rig_open(&rig);
		rig.config.timeout_ms = 50;
		assert_int_equal(rig_start(&rig), 0);
		rig.mock.lie = later[i];
		began = rig.f.env->clock_ns(rig.f.env);
		assert_int_equal(rig_read(&rig, 0, MOCK_VALUE), UINT32_MAX);
		/* From now on at once. */
		for (unsigned k = 0; k < 100; k++)
			assert_int_equal(rig_read(&rig, VD_REGION_CONFIG, 0), UINT32_MAX);
		assert_true(rig.f.env->clock_ns(rig.f.env) - began < UINT64_C(2000000000));
		assert_int_not_equal(rig_write(&rig, 0, MOCK_VALUE, 1, 4), 0);
		assert_int_equal(atomic_load(&rig.logged), 1);
		assert_int_equal(vd_device_reset(rig.device, VD_RESET_FUNCTION), 0);
		assert_int_equal(vd_device_quiesce(rig.device), 0);
		rig_close(&rig);
	}
}

/* Some of what comes with an answer is nobody's. */
LIE(one_too_many, USER_REGION_READ, reply->fds[0] = mock->fd; reply->fd_count = 1)

static void test_surplus_descriptors_are_closed(void **state)
{
	(void)state;
	rig_open(&rig);
	assert_int_equal(rig_start(&rig), 0);
	rig.mock.lie = one_too_many;
	for (unsigned i = 0; i < 3000; i++)
		assert_int_equal(rig_read(&rig, 0, MOCK_VALUE), 0);
	rig_close(&rig);
}

static unsigned errors;

static void error_sink(void *context, enum vd_irq_index index, unsigned vector, bool on)
{
	(void)context;
	(void)index;
	(void)vector;
	errors += on;
}

static void test_death_is_told(void **state)
{
	struct pollfd fd = {.events = POLLIN};

	(void)state;
	errors = 0;
	rig_open(&rig);
	assert_int_equal(rig_start(&rig), 0);
	vd_device_set_sink(rig.device, VD_IRQ_ERR, error_sink, NULL);
	shutdown(rig.mock.fd, SHUT_RDWR);
	fd.fd = vd_device_poll_fd(rig.device);
	assert_int_equal(poll(&fd, 1, 5000), 1);
	vd_device_poll(rig.device);
	assert_int_equal(errors, 1);
	assert_int_equal(vd_device_poll_fd(rig.device), -1);
	assert_int_equal(atomic_load(&rig.logged), 1);
	/* Nobody has the memory any more. */
	assert_int_equal(vd_host_object_move(rig.f.ram, 0, PAGE, true), 0);
	assert_int_equal(vd_mem_remove_slot(rig.f.mem, rig.slot), 0);
	rig_close(&rig);
}

/* It goes on living, but keeps what it has: so do we. */
LIE(keeps_memory, USER_DMA_UNMAP, reply->none = true)
LIE(refuses_unmap, USER_DMA_UNMAP, reply->length = 0; reply->header.flags |= USER_ERROR;
    reply->header.error = EBUSY)

static void test_memory_is_not_given_back(void **state)
{
	static const lie_fn kinds[] = {keeps_memory, refuses_unmap};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		rig_open(&rig);
		rig.config.timeout_ms = 20;
		add_ram(&rig.f, 16 * MOCK_RAM, 64 * PAGE, PAGE);
		assert_int_equal(rig_start(&rig), 0);
		rig.mock.lie = kinds[i];
		assert_int_equal(vd_mem_remove_slot(rig.f.mem, rig.slot), 0);
		assert_int_equal(atomic_load(&rig.logged), 1);
		assert_int_equal(rig_read(&rig, 0, MOCK_VALUE), UINT32_MAX);
		/* The other one it still has mapped. */
		assert_int_equal(vd_host_object_move(rig.f.ram, 64 * PAGE, PAGE, true), -EBUSY);
		rig_close(&rig);
	}
}

static void stop_reading(struct mock *mock, const struct user_header *asked,
			 struct mock_reply *reply)
{
	(void)reply;
	if (asked->command == USER_REGION_WRITE)
		pthread_mutex_lock(&mock->lock); /* which the test holds */
	if (asked->command == USER_REGION_WRITE)
		pthread_mutex_unlock(&mock->lock);
}

static void test_server_that_stops_reading(void **state)
{
	unsigned writes = 0;

	(void)state;
	rig_open(&rig);
	rig.config.timeout_ms = 50;
	assert_int_equal(rig_start(&rig), 0);
	pthread_mutex_lock(&rig.mock.lock);
	rig.mock.lie = stop_reading;
	while (!rig_write(&rig, 0, MOCK_VALUE, 1, 8))
		assert_true(++writes < 100000);
	assert_int_equal(atomic_load(&rig.logged), 1);
	pthread_mutex_unlock(&rig.mock.lock);
	rig_close(&rig);
}

/* Asks for memory without end, and never answers. */
static void floods(struct mock *mock, const struct user_header *asked, struct mock_reply *reply)
{
	struct {
		struct user_header header;
		struct user_dma_access access;
	} command = {{1, USER_DMA_READ, sizeof(command), 0, 0}, {MOCK_RAM, 4096}};

	if (asked->command != USER_REGION_READ)
		return;
	reply->none = true;
	while (send(mock->fd, &command, sizeof(command), MSG_NOSIGNAL) > 0)
		;
}

static void test_flood(void **state)
{
	(void)state;
	rig_open(&rig);
	rig.config.timeout_ms = 100;
	assert_int_equal(rig_start(&rig), 0);
	rig.mock.lie = floods;
	assert_int_equal(rig_read(&rig, 0, MOCK_VALUE), UINT32_MAX);
	assert_int_equal(atomic_load(&rig.logged), 1);
	rig_close(&rig);
}

/* Commands that make no sense are refused, and that is all. */
static void asks_nonsense(struct mock *mock, const struct user_header *asked,
			  struct mock_reply *reply)
{
	static const struct {
		uint16_t command;
		uint32_t length;
		uint64_t address, count;
	} nonsense[] = {
		{USER_DMA_READ, 0, 0, 0}, {USER_DMA_READ, 16, MOCK_RAM, 0},
		{USER_DMA_READ, 16, MOCK_RAM, UINT64_MAX}, {USER_DMA_READ, 16, MOCK_RAM, 1u << 21},
		{USER_DMA_WRITE, 16, MOCK_RAM, 64}, {USER_DMA_READ, 8, MOCK_RAM, 0},
		{USER_DMA_WRITE, 16, UINT64_MAX, 1}, {USER_RESET, 0, 0, 0}, {99, 0, 0, 0},
		{USER_DMA_READ, 16, UINT64_MAX - 4, 4096},
		{USER_DMA_READ, 16, MOCK_RAM, CLIENT_TRANSFER_MAX + 4096},
	};

	if (asked->command != USER_REGION_READ)
		return;
	for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
		struct {
			struct user_header header;
			uint64_t address, count;
		} message = {{1, nonsense[i].command, 16 + nonsense[i].length, 0, 0},
			     nonsense[i].address, nonsense[i].count};
		struct {
			struct user_header header;
		} answer;

		if (send(mock->fd, &message, message.header.size, MSG_NOSIGNAL) < 0 ||
		    recv(mock->fd, &answer, sizeof(answer), MSG_WAITALL) != sizeof(answer) ||
		    answer.header.size != sizeof(answer) ||
		    !(answer.header.flags & USER_ERROR) || !answer.header.error)
			put32(reply, 16, 0xbad);
	}
}

static void test_nonsense(void **state)
{
	struct vd_slot_config slot;

	(void)state;
	rig_open(&rig);
	/* More memory than one message can have. */
	slot = ram_slot(&rig.f, MOCK_RAM + 64 * PAGE, 0, RAM_PAGES * PAGE);
	slot.object = rig.f.other;
	add_slot(&rig.f, &slot);
	assert_int_equal(rig_start(&rig), 0);
	rig.mock.lie = asks_nonsense;
	assert_int_equal(rig_read(&rig, 0, MOCK_VALUE), 0);
	assert_int_equal(atomic_load(&rig.logged), 0);
	rig_close(&rig);
}

/* ---- states ---------------------------------------------------------------------------------- */

LIE(state_larger, USER_MIGRATION_READ, put32(reply, 4, 1u << 30))
LIE(state_smaller, USER_MIGRATION_READ, put32(reply, 4, 1))
LIE(state_short, USER_MIGRATION_READ, reply->length = 4)
LIE(state_empty, USER_MIGRATION_READ, reply->length = 0)
LIE(feature_long, USER_FEATURE, reply->length += 8)
LIE(feature_short, USER_FEATURE, reply->length = 4)
LIE(state_refused, USER_FEATURE, reply->header.flags |= USER_ERROR; reply->header.error = EBUSY)

/* Has more to say whenever it is asked. */
static void state_endless(struct mock *mock, const struct user_header *asked,
			  struct mock_reply *reply)
{
	struct user_migration_data head = {sizeof(head) + 4096, 4096};

	(void)mock;
	if (asked->command != USER_MIGRATION_READ)
		return;
	memcpy(reply->bytes, &head, sizeof(head));
	reply->length = sizeof(head) + 4096;
}

static void test_lies_about_states(void **state)
{
	static const lie_fn kinds[] = {state_larger, state_smaller, state_short, state_empty,
				       feature_long, feature_short, state_refused};

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct vd_stream stream = {.env = rig.f.env};

		rig_open(&rig);
		stream.env = rig.f.env;
		rig.mock.migration = VFIO_MIGRATION_STOP_COPY;
		rig.mock.saved_length = 40;
		assert_int_equal(rig_start(&rig), 0);
		rig.mock.lie = kinds[i];
		assert_int_not_equal(vd_device_save(rig.device, &stream), 0);
		assert_true(stream.failed);
		vd_stream_fini(&stream);
		rig_close(&rig);
	}
	/* The end is what is shorter than was asked for. */
	rig_open(&rig);
	rig.mock.migration = VFIO_MIGRATION_STOP_COPY;
	assert_int_equal(rig_start(&rig), 0);
	rig.mock.lie = state_endless;
	for (unsigned i = 0; i < 2; i++) {
		struct vd_stream stream = {.env = rig.f.env};

		assert_int_equal(vd_device_save(rig.device, &stream), 0);
		vd_stream_fini(&stream);
	}
	rig_close(&rig);
}

/* A state that it does not take: it is reset. */
LIE(load_refused, USER_MIGRATION_WRITE, reply->header.flags |= USER_ERROR)

static void test_state_is_refused(void **state)
{
	struct vd_stream stream = {.env = NULL};

	(void)state;
	rig_open(&rig);
	stream.env = rig.f.env;
	rig.mock.migration = VFIO_MIGRATION_STOP_COPY;
	rig.mock.saved_length = 40;
	assert_int_equal(rig_start(&rig), 0);
	assert_int_equal(vd_device_save(rig.device, &stream), 0);
	rig.mock.lie = load_refused;
	assert_int_equal(vd_device_load(rig.device, &stream, NULL), -EIO);
	assert_int_equal(atomic_load(&rig.mock.commands[USER_RESET]), 2);
	assert_int_equal(atomic_load(&rig.mock.state), VFIO_DEVICE_STATE_RUNNING);
	assert_int_equal(rig_read(&rig, 0, MOCK_VALUE), 0);
	/* Cut off. */
	rig.mock.lie = NULL;
	stream.length -= 4;
	stream.position = 0;
	assert_int_not_equal(vd_device_load(rig.device, &stream, NULL), 0);
	vd_stream_fini(&stream);
	rig_close(&rig);
}

static void test_nobody_there(void **state)
{
	struct vd_error error = {.text = ""};
	struct vd_device *device = NULL;

	(void)state;
	rig_open(&rig);
	rig.config.path = "/nonexistent/socket";
	assert_int_equal(vd_user_client_create(&rig.config, &device, &error), -ENOENT);
	assert_non_null(strstr(error.text, "/nonexistent/socket"));
	close(rig.mock.client_fd);
	mock_start(&rig.mock);
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lies_at_the_beginning),
		cmocka_unit_test(test_capabilities),
		cmocka_unit_test(test_huge_capabilities),
		cmocka_unit_test(test_second_socket_that_is_none),
		cmocka_unit_test(test_lies_about_memory),
		cmocka_unit_test(test_memory_shorter_than_said),
		cmocka_unit_test(test_memory_that_is_cut),
		cmocka_unit_test(test_lies_later),
		cmocka_unit_test(test_surplus_descriptors_are_closed),
		cmocka_unit_test(test_death_is_told),
		cmocka_unit_test(test_memory_is_not_given_back),
		cmocka_unit_test(test_server_that_stops_reading),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_lies_about_states),
		cmocka_unit_test(test_state_is_refused),
		cmocka_unit_test(test_nobody_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
