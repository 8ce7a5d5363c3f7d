/* SPDX-License-Identifier: BSD-2-Clause */
#include "mock.h"

#include <fcntl.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "descriptors.h"

struct request {
	struct request *next;
	struct user_header header;
	uint8_t bytes[MOCK_BYTES];
	size_t length;
	int fds[16];
	unsigned fd_count;
};

/* ---- bytes ---------------------------------------------------------------------------------- */

static bool read_all(int fd, void *to, size_t length)
{
	uint8_t *at = to;

	while (length) {
		ssize_t n = read(fd, at, length);

		if (n <= 0)
			return false;
		at += n;
		length -= (size_t)n;
	}
	return true;
}

static bool receive(int fd, struct request *request)
{
	union {
		char bytes[CMSG_SPACE(16 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = {&request->header, sizeof(request->header)};
	struct msghdr into = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes)};
	ssize_t n = recvmsg(fd, &into, MSG_CMSG_CLOEXEC | MSG_WAITALL);

	request->fd_count = 0;
	if (n != sizeof(request->header))
		return false;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&into); c; c = CMSG_NXTHDR(&into, c)) {
		request->fd_count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(request->fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	}
	request->length = request->header.size - sizeof(request->header);
	assert_true(request->length <= sizeof(request->bytes));
	return read_all(fd, request->bytes, request->length);
}

static void send_reply(int fd, struct mock_reply *reply)
{
	union {
		char bytes[CMSG_SPACE(20 * sizeof(int))];
		struct cmsghdr align;
	} control = {.bytes = {0}};
	struct iovec parts[2] = {{&reply->header, sizeof(reply->header)},
				 {reply->bytes, reply->length}};
	struct msghdr from = {.msg_iov = parts, .msg_iovlen = 2};

	if (!reply->header.size)
		reply->header.size = (uint32_t)(sizeof(reply->header) + reply->length);
	if (reply->fd_count) {
		from.msg_control = control.bytes;
		from.msg_controllen = CMSG_SPACE(reply->fd_count * sizeof(int));
		CMSG_FIRSTHDR(&from)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&from)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&from)->cmsg_len = CMSG_LEN(reply->fd_count * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&from)), reply->fds, reply->fd_count * sizeof(int));
	}
	if (sendmsg(fd, &from, MSG_NOSIGNAL) < 0)
		return; /* the client is gone: the next read tells */
}

/* ---- the device ----------------------------------------------------------------------------- */

static void add(struct mock_reply *reply, const void *bytes, size_t length)
{
	memcpy(reply->bytes + reply->length, bytes, length);
	reply->length += length;
}

static void refuse(struct mock_reply *reply, int error)
{
	reply->header.flags |= USER_ERROR;
	reply->header.error = (uint32_t)error;
	reply->length = 0;
}

static void serve(struct mock *mock, struct request *request);

/* Sends a command and waits for the answer; commands of the client's are served meanwhile. */
static int dma(struct mock *mock, bool write, uint64_t address, uint32_t *value)
{
	int fd = mock->twin_fd >= 0 ? mock->twin_fd : mock->fd;
	struct user_dma_access access = {address, 4};
	struct mock_reply command = {
		.header = {.id = 0x7777, .command = write ? USER_DMA_WRITE : USER_DMA_READ},
	};
	struct request *answer = calloc(1, sizeof(*answer));
	int r = -EIO;

	add(&command, &access, sizeof(access));
	if (write)
		add(&command, value, 4);
	send_reply(fd, &command);
	while (!mock->no_thread && receive(fd, answer)) {
		if ((answer->header.flags & USER_TYPE_MASK) == USER_TYPE_COMMAND && mock->nests) {
			serve(mock, answer);
			continue;
		}
		if ((answer->header.flags & USER_TYPE_MASK) == USER_TYPE_COMMAND) {
			answer->next = mock->later;
			mock->later = answer;
			answer = calloc(1, sizeof(*answer));
			continue;
		}
		r = answer->header.flags & USER_ERROR ? -(int)answer->header.error : 0;
		if (!r && !write)
			memcpy(value, answer->bytes + sizeof(access), 4);
		break;
	}
	free(answer);
	return r;
}

static void wrote(struct mock *mock, uint64_t offset)
{
	uint32_t value = (uint32_t)mock->bar[MOCK_VALUE / 8];

	if (offset == MOCK_FIRE)
		mock_fire(mock, VD_IRQ_MSIX, (unsigned)mock->bar[MOCK_FIRE / 8]);
	if (offset != MOCK_GO)
		return;
	mock->dma_error = dma(mock, mock->bar[MOCK_GO / 8] == 2, mock->bar[MOCK_ADDRESS / 8],
			      &value);
	mock->bar[MOCK_VALUE / 8] = value;
	mock->bar[MOCK_RESULT / 8] = (uint32_t)-mock->dma_error;
}

static void access_region(struct mock *mock, const struct request *request,
			  struct mock_reply *reply)
{
	struct user_region_access access;
	bool write = request->header.command == USER_REGION_WRITE;
	uint8_t *bytes = (uint8_t *)mock->bar;
	uint64_t size = MOCK_BAR;

	memcpy(&access, request->bytes, sizeof(access));
	if (access.region == VD_REGION_CONFIG) {
		bytes = mock->config;
		size = sizeof(mock->config);
	}
	if (access.offset > size || access.count > size - access.offset) {
		refuse(reply, EINVAL);
		return;
	}
	if (write)
		memcpy(bytes + access.offset, request->bytes + sizeof(access), access.count);
	add(reply, &access, sizeof(access));
	if (!write)
		add(reply, bytes + access.offset, access.count);
	if (write && access.region == 0)
		wrote(mock, access.offset);
}

static void describe_region(struct mock *mock, const struct request *request,
			    struct mock_reply *reply)
{
	struct user_region_info info;
	unsigned index, count;
	struct user_sparse sparse = {{VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0}, 0, 0};

	memcpy(&info, request->bytes, sizeof(info));
	index = info.index;
	if (index >= VD_REGION_COUNT) {
		refuse(reply, EINVAL);
		return;
	}
	count = mock->area_counts[index];
	sparse.count = count;
	reply->header.flags |= 0;
	info = mock->regions[index];
	info.index = index;
	if (count) {
		info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
		info.argsz = (uint32_t)(sizeof(info) + sizeof(sparse) +
					count * sizeof(struct user_area));
		info.cap_offset = sizeof(info);
	} else {
		info.argsz = sizeof(info);
	}
	if (((struct user_region_info *)(void *)request->bytes)->argsz < info.argsz)
		info.cap_offset = 0;
	add(reply, &info, sizeof(info));
	if (info.cap_offset) {
		add(reply, &sparse, sizeof(sparse));
		add(reply, mock->areas[index], count * sizeof(struct user_area));
	}
	if (mock->region_fds[index] >= 0) {
		reply->fds[0] = mock->region_fds[index];
		reply->fd_count = 1;
	}
}

static void set_irqs(struct mock *mock, struct request *request)
{
	struct user_irq_set set;

	memcpy(&set, request->bytes, sizeof(set));
	pthread_mutex_lock(&mock->lock);
	for (unsigned i = 0; i < request->fd_count; i++) {
		int *fd = set.index < VD_IRQ_COUNT && set.start + i < MOCK_VECTORS
				  ? &mock->irq_fds[set.index][set.start + i] : NULL;

		if (!fd)
			continue;
		if (*fd >= 0)
			close(*fd);
		*fd = request->fds[i];
		request->fds[i] = -1;
	}
	pthread_mutex_unlock(&mock->lock);
}

static void map(struct mock *mock, struct request *request, struct mock_reply *reply)
{
	struct user_dma_map told;

	memcpy(&told, request->bytes, sizeof(told));
	pthread_mutex_lock(&mock->lock);
	if (mock->map_count == MOCK_MAPS) {
		refuse(reply, ENOSPC);
	} else {
		mock->maps[mock->map_count++] =
			(struct mock_map){told, request->fd_count ? request->fds[0] : -1};
		if (request->fd_count)
			request->fds[0] = -1;
	}
	pthread_mutex_unlock(&mock->lock);
}

static void unmap(struct mock *mock, const struct request *request, struct mock_reply *reply)
{
	struct user_dma_unmap told;
	bool found = false;

	memcpy(&told, request->bytes, sizeof(told));
	pthread_mutex_lock(&mock->lock);
	for (unsigned i = 0; i < mock->map_count && !found; i++) {
		struct mock_map *m = &mock->maps[i];

		if (m->told.address != told.address || m->told.size != told.size)
			continue;
		if (m->fd >= 0)
			close(m->fd);
		*m = mock->maps[--mock->map_count];
		found = true;
	}
	pthread_mutex_unlock(&mock->lock);
	if (found)
		add(reply, &told, sizeof(told));
	else
		refuse(reply, ENOENT);
}

static void feature(struct mock *mock, const struct request *request, struct mock_reply *reply)
{
	struct user_feature head;
	struct user_migration can = {mock->migration};
	struct user_device_state state;

	memcpy(&head, request->bytes, sizeof(head));
	add(reply, &head, sizeof(head));
	switch (head.flags & 0xffff) {
	case VFIO_DEVICE_FEATURE_MIGRATION:
		if (!mock->migration)
			refuse(reply, ENOTTY);
		else
			add(reply, &can, sizeof(can));
		break;
	case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
		memcpy(&state, request->bytes + sizeof(head), sizeof(state));
		if (state.state == VFIO_DEVICE_STATE_STOP_COPY)
			mock->saved_at = 0;
		if (state.state == VFIO_DEVICE_STATE_RESUMING)
			mock->saved_length = 0;
		atomic_store(&mock->state, state.state);
		add(reply, &state, sizeof(state));
		break;
	default:
		refuse(reply, ENOTTY);
	}
}

static void migrate(struct mock *mock, const struct request *request, struct mock_reply *reply)
{
	struct user_migration_data head;
	size_t left = mock->saved_length - mock->saved_at;

	memcpy(&head, request->bytes, sizeof(head));
	if (request->header.command == USER_MIGRATION_WRITE) {
		if (mock->saved_length + head.size > sizeof(mock->saved)) {
			refuse(reply, EINVAL);
			return;
		}
		memcpy(mock->saved + mock->saved_length, request->bytes + sizeof(head), head.size);
		mock->saved_length += head.size;
		return;
	}
	if (head.size > left)
		head.size = (uint32_t)left;
	head.argsz = (uint32_t)sizeof(head) + head.size;
	add(reply, &head, sizeof(head));
	add(reply, mock->saved + mock->saved_at, head.size);
	mock->saved_at += head.size;
}

static void say_version(struct mock *mock, struct mock_reply *reply)
{
	int pair[2];

	add(reply, &mock->version, sizeof(mock->version));
	if (mock->json)
		add(reply, mock->json, strlen(mock->json) + 1);
	if (!mock->twin || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return;
	mock->twin_fd = pair[0];
	reply->fds[reply->fd_count++] = pair[1];
}

static void answer(struct mock *mock, struct request *request, struct mock_reply *reply)
{
	struct user_irq_info irq;

	switch (request->header.command) {
	case USER_VERSION:
		say_version(mock, reply);
		break;
	case USER_GET_INFO:
		add(reply, &mock->info, sizeof(mock->info));
		break;
	case USER_GET_REGION_INFO:
		describe_region(mock, request, reply);
		break;
	case USER_GET_IRQ_INFO:
		memcpy(&irq, request->bytes, sizeof(irq));
		irq.flags = VFIO_IRQ_INFO_EVENTFD;
		irq.count = irq.index < VD_IRQ_COUNT ? mock->irqs[irq.index] : 0;
		add(reply, &irq, sizeof(irq));
		break;
	case USER_SET_IRQS:
		set_irqs(mock, request);
		break;
	case USER_REGION_READ:
	case USER_REGION_WRITE:
		access_region(mock, request, reply);
		break;
	case USER_DMA_MAP:
		map(mock, request, reply);
		break;
	case USER_DMA_UNMAP:
		unmap(mock, request, reply);
		break;
	case USER_FEATURE:
		feature(mock, request, reply);
		break;
	case USER_MIGRATION_READ:
	case USER_MIGRATION_WRITE:
		migrate(mock, request, reply);
		break;
	case USER_RESET:
		memset(mock->bar, 0, sizeof(mock->bar));
		break;
	default:
		refuse(reply, ENOSYS);
	}
}

static void serve(struct mock *mock, struct request *request)
{
	struct mock_reply *reply = calloc(1, sizeof(*reply));

	reply->header = request->header;
	reply->header.flags = USER_TYPE_REPLY;
	reply->header.size = 0;
	if (request->header.command < USER_COMMANDS)
		atomic_fetch_add(&mock->commands[request->header.command], 1);
	if (request->header.flags & USER_NO_REPLY)
		atomic_fetch_add(&mock->posted, 1);
	answer(mock, request, reply);
	if (mock->lie)
		mock->lie(mock, &request->header, reply);
	if (!(request->header.flags & USER_NO_REPLY) && !reply->none)
		send_reply(mock->fd, reply);
	if (request->header.command == USER_VERSION && reply->fd_count && mock->twin)
		close(reply->fds[0]);
	for (unsigned i = 0; i < request->fd_count; i++)
		if (request->fds[i] >= 0)
			close(request->fds[i]);
	free(reply);
}

/* What came while an answer was waited for, in order. */
static void serve_later(struct mock *mock)
{
	while (mock->later) {
		struct request **last = &mock->later, *request;

		while ((*last)->next)
			last = &(*last)->next;
		request = *last;
		*last = NULL;
		serve(mock, request);
		free(request);
	}
}

static void *run(void *context)
{
	struct mock *mock = context;
	struct request *request = calloc(1, sizeof(*request));

	while (receive(mock->fd, request)) {
		serve(mock, request);
		serve_later(mock);
	}
	free(request);
	/* Not closed, as the number could be another's by the time it is used. */
	shutdown(mock->fd, SHUT_RDWR);
	return NULL;
}

void mock_serve(struct mock *mock)
{
	struct pollfd fds[2] = {{.fd = mock->fd, .events = POLLIN},
				{.fd = mock->twin_fd, .events = POLLIN}};
	struct request *request = calloc(1, sizeof(*request));

	while (poll(fds, 2, 0) > 0) {
		if (!receive(fds[0].revents ? fds[0].fd : fds[1].fd, request)) {
			shutdown(mock->fd, SHUT_RDWR);
			break;
		}
		if ((request->header.flags & USER_TYPE_MASK) == USER_TYPE_COMMAND)
			serve(mock, request);
	}
	free(request);
}

/* ---- from beginning to end ------------------------------------------------------------------ */

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)value;
	at[1] = (uint8_t)(value >> 8);
}

void mock_init(struct mock *mock)
{
	const uint32_t both = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	int pair[2];

	*mock = (struct mock){
		.json = "{\"capabilities\":{\"max_msg_fds\":3,\"max_data_xfer_size\":1048576}}",
		.version = {USER_MAJOR, USER_MINOR},
		.info = {sizeof(mock->info), VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET, 9, 5},
		.irqs = {1, 0, 4, 1, 1},
		.twin_fd = -1,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.state = VFIO_DEVICE_STATE_RUNNING,
	};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	mock->fd = pair[0];
	mock->client_fd = pair[1];
	for (unsigned i = 0; i < VD_REGION_COUNT; i++)
		mock->region_fds[i] = -1;
	for (unsigned i = 0; i < VD_IRQ_COUNT * MOCK_VECTORS; i++)
		mock->irq_fds[i / MOCK_VECTORS][i % MOCK_VECTORS] = -1;
	mock->regions[0] = (struct user_region_info){.flags = both, .size = 0x1000};
	mock->regions[VD_REGION_CONFIG] = (struct user_region_info){.flags = both, .size = 0x1000};
	put16(mock->config + PCI_VENDOR_ID, 0x1b36);
	put16(mock->config + PCI_DEVICE_ID, 0x0005);
	mock->config[PCI_REVISION_ID] = 7;
}

/* BAR 2: @size bytes of memory in a file. */
void mock_add_memory(struct mock *mock, uint64_t size, bool sealed)
{
	int fd = memfd_create("mock", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	if (sealed)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	mock->region_fds[2] = fd;
	mock->regions[2] = (struct user_region_info){
		.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
			 VFIO_REGION_INFO_FLAG_MMAP,
		.size = size,
	};
}

void mock_start(struct mock *mock)
{
	struct timeval limit = {.tv_usec = 1000};

	if (mock->no_thread) {
		setsockopt(mock->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		setsockopt(mock->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
		return;
	}
	assert_int_equal(pthread_create(&mock->thread, NULL, run, mock), 0);
}

void mock_stop(struct mock *mock)
{
	shutdown(mock->fd, SHUT_RDWR);
	if (mock->twin_fd >= 0)
		shutdown(mock->twin_fd, SHUT_RDWR);
	if (!mock->no_thread)
		pthread_join(mock->thread, NULL);
	close(mock->fd);
	if (mock->twin_fd >= 0)
		close(mock->twin_fd);
	for (unsigned i = 0; i < mock->map_count; i++)
		if (mock->maps[i].fd >= 0)
			close(mock->maps[i].fd);
	for (unsigned i = 0; i < VD_REGION_COUNT; i++)
		if (mock->region_fds[i] >= 0)
			close(mock->region_fds[i]);
	for (unsigned i = 0; i < VD_IRQ_COUNT * MOCK_VECTORS; i++)
		if (mock->irq_fds[i / MOCK_VECTORS][i % MOCK_VECTORS] >= 0)
			close(mock->irq_fds[i / MOCK_VECTORS][i % MOCK_VECTORS]);
}

void mock_fire(struct mock *mock, unsigned index, unsigned vector)
{
	uint64_t one = 1;

	pthread_mutex_lock(&mock->lock);
	if (vector < MOCK_VECTORS && mock->irq_fds[index][vector] >= 0)
		assert_int_equal(write(mock->irq_fds[index][vector], &one, 8), 8);
	pthread_mutex_unlock(&mock->lock);
}

bool mock_find(struct mock *mock, uint64_t address, struct mock_map *found)
{
	bool any = false;

	pthread_mutex_lock(&mock->lock);
	for (unsigned i = 0; i < mock->map_count && !any; i++)
		if (mock->maps[i].told.address == address) {
			*found = mock->maps[i];
			any = true;
		}
	pthread_mutex_unlock(&mock->lock);
	return any;
}

/* ---- the rig -------------------------------------------------------------------------------- */

static struct mock_rig *current;

static void note_log(const struct vd_env *env, enum vd_log_level level, const char *text)
{
	(void)env;
	(void)text;
	if (level == VD_LOG_ERROR)
		atomic_fetch_add(&current->logged, 1);
}

static void begin(struct mock_rig *rig)
{
	rig->slot = add_ram(&rig->f, MOCK_RAM, 0, 64 * PAGE);
	mock_init(&rig->mock);
	rig->config = (struct vd_user_client_config){
		.env = rig->f.env, .host = rig->f.host, .fd = rig->mock.client_fd,
		.mem = rig->f.mem, .space = rig->space, .info = &rig->info, .timeout_ms = 2000,
	};
}

void rig_open(struct mock_rig *rig)
{
	struct vd_dma_config dma;

	*rig = (struct mock_rig){.descriptors = count_descriptors()};
	current = rig;
	fixture_open(&rig->f);
	rig->f.test.env.log = note_log;
	dma = (struct vd_dma_config){.env = rig->f.env, .host = rig->f.host};
	assert_int_equal(vd_dma_space_create(&dma, &rig->space, NULL), 0);
	assert_int_equal(vd_dma_follow(rig->space, rig->f.mem, NULL), 0);
	begin(rig);
}

void rig_renew(struct mock_rig *rig)
{
	vd_device_put(rig->device);
	mock_stop(&rig->mock);
	assert_int_equal(vd_mem_remove_slot(rig->f.mem, rig->slot), 0);
	rig->device = NULL;
	begin(rig);
}

int rig_start(struct mock_rig *rig)
{
	mock_start(&rig->mock);
	return vd_user_client_create(&rig->config, &rig->device, &rig->error);
}

void rig_close(struct mock_rig *rig)
{
	test_env_fail(&rig->f.test, 0, 0);
	vd_device_put(rig->device);
	mock_stop(&rig->mock);
	vd_dma_space_destroy(rig->space);
	fixture_close(&rig->f);
	assert_int_equal(count_descriptors(), rig->descriptors);
}

uint32_t rig_read(struct mock_rig *rig, unsigned region, uint64_t offset)
{
	uint32_t value = 0;

	(void)vd_device_read(rig->device, region, (vd_region_offset){offset}, &value, 4);
	return value;
}

int rig_write(struct mock_rig *rig, unsigned region, uint64_t offset, uint64_t value,
	      size_t length)
{
	return vd_device_write(rig->device, region, (vd_region_offset){offset}, &value, length);
}
