/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The states of migration (linux/vfio.h, enum vfio_device_mig_state) and the way from one to
 * another. What stands still holds one quiesce of the device. The migration has a lock of its own,
 * outside the device's, as arcs call what takes that.
 */
#include <limits.h>

#include "vfio/migration.h"

#define STATES (VD_MIGRATION_PRE_COPY_P2P + 1u)
#define ARC(state) (1u << VD_MIGRATION_##state)

static const char *const names[STATES] = {
	"ERROR", "STOP", "RUNNING", "STOP_COPY", "RESUMING", "RUNNING_P2P", "PRE_COPY",
	"PRE_COPY_P2P",
};

/* ---- the way ------------------------------------------------------------------------------- */

static const unsigned arcs[STATES] = {
	[VD_MIGRATION_STOP] = ARC(RUNNING_P2P) | ARC(RESUMING) | ARC(STOP_COPY),
	[VD_MIGRATION_RUNNING] = ARC(RUNNING_P2P) | ARC(PRE_COPY),
	[VD_MIGRATION_STOP_COPY] = ARC(STOP),
	[VD_MIGRATION_RESUMING] = ARC(STOP),
	[VD_MIGRATION_RUNNING_P2P] = ARC(RUNNING) | ARC(STOP) | ARC(PRE_COPY_P2P),
	[VD_MIGRATION_PRE_COPY] = ARC(RUNNING) | ARC(PRE_COPY_P2P),
	[VD_MIGRATION_PRE_COPY_P2P] = ARC(PRE_COPY) | ARC(RUNNING_P2P) | ARC(STOP_COPY),
};

/* Of ways that are equally long, the one that starts no copy on its way. */
static const uint8_t preference[] = {
	VD_MIGRATION_RUNNING, VD_MIGRATION_RUNNING_P2P, VD_MIGRATION_STOP, VD_MIGRATION_RESUMING,
	VD_MIGRATION_PRE_COPY, VD_MIGRATION_PRE_COPY_P2P, VD_MIGRATION_STOP_COPY,
};

/* Steps from each state to @to; STATES: there is no way. */
static void measure(unsigned to, unsigned steps[STATES])
{
	for (unsigned i = 0; i < STATES; i++)
		steps[i] = i == to ? 0 : STATES;
	for (unsigned round = 0; round < STATES; round++)
		for (unsigned a = 0; a < STATES; a++)
			for (unsigned b = 0; b < STATES; b++)
				if (arcs[a] >> b & 1 && steps[b] + 1 < steps[a])
					steps[a] = steps[b] + 1;
}

/* Return: the next state, or VD_MIGRATION_ERROR */
static unsigned next_state(unsigned from, unsigned to)
{
	unsigned steps[STATES];

	/* A copy that is complete cannot become one that is not. */
	if (from == VD_MIGRATION_STOP_COPY &&
	    (to == VD_MIGRATION_PRE_COPY || to == VD_MIGRATION_PRE_COPY_P2P))
		return VD_MIGRATION_ERROR;
	measure(to, steps);
	for (size_t i = 0; i < sizeof(preference); i++)
		if (arcs[from] >> preference[i] & 1 && steps[preference[i]] + 1 == steps[from])
			return preference[i];
	return VD_MIGRATION_ERROR;
}

/* ---- one step, lock held ------------------------------------------------------------------- */

/* P2P states as well: what is quiesced does no DMA, so none to its peers. */
static bool stands(unsigned state)
{
	return state != VD_MIGRATION_RUNNING && state != VD_MIGRATION_PRE_COPY;
}

static bool copies_early(unsigned state)
{
	return state == VD_MIGRATION_PRE_COPY || state == VD_MIGRATION_PRE_COPY_P2P;
}

static bool has_session(unsigned state)
{
	return copies_early(state) || state == VD_MIGRATION_STOP_COPY ||
	       state == VD_MIGRATION_RESUMING;
}

static int move_data(struct vd_device *device, unsigned from, unsigned to, struct vd_error *error)
{
	struct device_migration *m = &device->migration;

	if (to == VD_MIGRATION_STOP_COPY)
		return migration_put_rest(device, &m->data);
	if (copies_early(to) && !copies_early(from))
		return migration_put_base(device, &m->data);
	if (from == VD_MIGRATION_RESUMING)
		return migration_take(device, &m->data, error);
	return 0;
}

static int step(struct vd_device *device, unsigned to, struct vd_error *error)
{
	struct device_migration *m = &device->migration;
	unsigned from = m->state;
	int r = 0;

	if (stands(to) && !stands(from))
		r = vd_device_quiesce(device);
	if (r)
		return r;
	r = move_data(device, from, to, error);
	/* Whether it went or not: back to where it has to be. */
	if (stands(r ? to : from) && !stands(r ? from : to))
		vd_device_resume(device);
	if (r)
		return r;
	if (has_session(from) && !has_session(to))
		vd_stream_fini(&m->data);
	m->state = to;
	return 0;
}

/* ---- for transports ------------------------------------------------------------------------ */

static void lock(struct vd_device *device)
{
	device->env->lock(device->env, &device->migration.lock);
}

static void unlock(struct vd_device *device)
{
	device->env->unlock(device->env, &device->migration.lock);
}

bool device_migration_supported(const struct vd_device *device)
{
	return device->ops->save && device->ops->load;
}

int vd_device_migration_set(struct vd_device *device, unsigned state, struct vd_error *error)
{
	struct device_migration *m = &device->migration;
	unsigned next = state;
	int r = 0;

	if (!device_migration_supported(device))
		return vd_error_set(error, -EOPNOTSUPP, "%s: its state cannot be saved",
				    device->name);
	if (state >= STATES || state == VD_MIGRATION_ERROR)
		return vd_error_set(error, -EINVAL, "%s: %u is no state to go to", device->name,
				    state);
	if (error)
		*error = (struct vd_error){0};
	lock(device);
	while (!r && m->state != state) {
		next = next_state(m->state, state);
		r = next == VD_MIGRATION_ERROR ? -EINVAL : step(device, next, error);
	}
	if (r && !(error && error->code))
		vd_error_set(error, r, "%s: no way from state %s to %s: errno %d", device->name,
			     names[m->state], names[state], -r);
	unlock(device);
	return r;
}

unsigned vd_device_migration_state(struct vd_device *device)
{
	unsigned state;

	lock(device);
	state = device->migration.state;
	unlock(device);
	return state;
}

ssize_t vd_device_migration_read(struct vd_device *device, void *buffer, size_t length)
{
	struct device_migration *m = &device->migration;
	ssize_t r = -EINVAL;
	size_t n;

	lock(device);
	if (copies_early(m->state) || m->state == VD_MIGRATION_STOP_COPY) {
		n = m->data.length - m->data.position;
		n = n < length ? n : length;
		n = n < SSIZE_MAX ? n : SSIZE_MAX;
		vd_stream_get(&m->data, buffer, n);
		r = (ssize_t)n;
		/* There will be more, but not now. */
		if (!n && length && copies_early(m->state))
			r = -ENOMSG;
	}
	unlock(device);
	return r;
}

ssize_t vd_device_migration_write(struct vd_device *device, const void *buffer, size_t length)
{
	struct device_migration *m = &device->migration;
	ssize_t r = (ssize_t)length;

	lock(device);
	if (m->state != VD_MIGRATION_RESUMING) {
		r = -EINVAL;
	} else if (length > migration_room(device) - m->data.length) {
		r = -E2BIG;
	} else {
		m->data.env = device->env;
		vd_stream_put(&m->data, buffer, length);
		if (m->data.failed)
			r = -ENOMEM;
		m->data.failed = false;
	}
	unlock(device);
	return r;
}

int vd_device_migration_precopy(struct vd_device *device, uint64_t *initial, uint64_t *dirty)
{
	struct device_migration *m = &device->migration;
	int r = -EINVAL;

	lock(device);
	if (copies_early(m->state)) {
		*initial = m->data.length - m->data.position;
		*dirty = 0;
		r = 0;
	}
	unlock(device);
	return r;
}

uint64_t vd_device_migration_size(struct vd_device *device)
{
	const struct device_migration *m = &device->migration;
	uint64_t size;

	lock(device);
	if (m->state == VD_MIGRATION_STOP_COPY)
		size = m->data.length - m->data.position;
	else if (copies_early(m->state))
		size = m->data.length; /* as if everything changed */
	else
		size = migration_guess(device);
	unlock(device);
	return size;
}

/* ---- from beginning to end ----------------------------------------------------------------- */

void device_migration_init(struct vd_device *device)
{
	struct device_migration *m = &device->migration;

	device->env->lock_init(device->env, &m->lock);
	m->state = VD_MIGRATION_RUNNING;
	m->data = (struct vd_stream){.env = device->env};
}

void device_migration_reset(struct vd_device *device)
{
	struct device_migration *m = &device->migration;
	bool stood;

	lock(device);
	stood = stands(m->state);
	vd_stream_fini(&m->data);
	m->state = VD_MIGRATION_RUNNING;
	if (stood)
		vd_device_resume(device);
	unlock(device);
}

void device_migration_fini(struct vd_device *device)
{
	vd_stream_fini(&device->migration.data);
	device->env->lock_destroy(device->env, &device->migration.lock);
}
