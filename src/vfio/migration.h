/* SPDX-License-Identifier: BSD-2-Clause */
/* A device's state on its way, for the files of this floor that carry it. */
#ifndef VIADUCT_VFIO_MIGRATION_H
#define VIADUCT_VFIO_MIGRATION_H

#include "vfio/device.h"

/* ---- migration.c ---------------------------------------------------------------------------- */

/* device_migration_supported() - needs no lock */
bool device_migration_supported(const struct vd_device *device);

/* ---- migration_data.c: the bytes; lock of the migration held -------------------------------- */

/*
 * migration_put_base() - the whole state, while the device runs on: what comes later is told as
 * what differs from it
 * migration_put_rest() - what completes the stream: all of the state, or what differs from the base
 * that is in @data already
 * Return: 0, -ENOMEM, the device's error; then @data is as it was
 */
int migration_put_base(struct vd_device *device, struct vd_stream *data);
int migration_put_rest(struct vd_device *device, struct vd_stream *data);
/*
 * migration_take() - a whole stream, from who knows whom, into the device. Return: 0; -EINVAL it is
 * incomplete, or none; -ENOMEM; what vd_device_load() returns. On error nothing has changed
 */
int migration_take(struct vd_device *device, const struct vd_stream *data, struct vd_error *error);
/* migration_guess() - how long one is likely to be at most */
uint64_t migration_guess(const struct vd_device *device);
/* migration_room() - most bytes that a stream for this device may have */
uint64_t migration_room(const struct vd_device *device);

#endif
