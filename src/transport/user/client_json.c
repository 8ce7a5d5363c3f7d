/* SPDX-License-Identifier: BSD-2-Clause */
/* "VFIO_USER_VERSION": the capabilities in a server's reply. */
#include <json-c/json.h>
#include <string.h>

#include "transport/user/client.h"

/* What a server has to say fits, many times. */
#define TEXT_MAX 65536u
#define DEPTH_MAX 8

static int lie(struct vd_error *error, const char *what)
{
	return vd_error_set(error, -EPROTO, "vfio-user: the server's %s cannot be", what);
}

/* An optional number from @low up; more than @high counts as @high. */
static int get_number(struct json_object *from, const char *name, uint64_t low, uint64_t high,
		      uint64_t *value, struct vd_error *error)
{
	struct json_object *member;
	int64_t number;

	if (!json_object_object_get_ex(from, name, &member))
		return 0;
	number = json_object_get_int64(member);
	if (!json_object_is_type(member, json_type_int) || number < 0 || (uint64_t)number < low)
		return lie(error, name);
	*value = (uint64_t)number > high ? high : (uint64_t)number;
	return 0;
}

static int get_twin(struct json_object *from, bool *supported, int *index, struct vd_error *error)
{
	struct json_object *twin, *member;
	uint64_t number = UINT64_MAX;
	int r;

	*index = -1;
	*supported = false;
	if (!json_object_object_get_ex(from, "twin_socket", &twin))
		return 0;
	if (!json_object_is_type(twin, json_type_object))
		return lie(error, "twin_socket");
	if (!json_object_object_get_ex(twin, "supported", &member) ||
	    !json_object_get_boolean(member))
		return 0;
	r = get_number(twin, "fd_index", 0, UINT32_MAX, &number, error);
	if (r)
		return r;
	/* The specification: abort. */
	if (number >= USER_FDS_MAX)
		return lie(error, "second socket");
	*supported = true;
	*index = (int)number;
	return 0;
}

static int get_all(struct json_object *root, struct vd_user_client_info *info, int *twin_fd,
		   struct vd_error *error)
{
	struct json_object *caps, *member;
	uint64_t pages = 4096;
	int r;

	if (!json_object_is_type(root, json_type_object))
		return lie(error, "version data");
	if (!json_object_object_get_ex(root, "capabilities", &caps))
		return 0;
	if (!json_object_is_type(caps, json_type_object))
		return lie(error, "capabilities");
	r = get_number(caps, "max_msg_fds", 0, USER_FDS_MAX, &info->fds_max, error);
	if (!r)
		r = get_number(caps, "max_data_xfer_size", 8, CLIENT_TRANSFER_MAX,
			       &info->transfer_max, error);
	if (!r)
		r = get_number(caps, "max_dma_maps", 1, USER_DEFAULT_MAPS, &info->maps_max, error);
	if (!r)
		r = get_number(caps, "pgsizes", 1, INT64_MAX, &pages, error);
	if (json_object_object_get_ex(caps, "page_offset", &member))
		info->page_offset = json_object_get_boolean(member);
	/* Slots are made of pages: the smallest that the server takes must not be larger. */
	if (!r && (pages & -pages) > 4096)
		r = vd_error_set(error, -EPROTO, "vfio-user: the server takes memory in pages of "
				 "%llu bytes only", (unsigned long long)(pages & -pages));
	return r ? r : get_twin(caps, &info->twin_socket, twin_fd, error);
}

int user_client_capabilities(const char *text, size_t length, struct vd_user_client_info *info,
			     int *twin_fd, struct vd_error *error)
{
	struct json_tokener *tokener;
	struct json_object *root;
	int r;

	info->fds_max = USER_DEFAULT_FDS;
	info->transfer_max = USER_DEFAULT_TRANSFER;
	info->maps_max = USER_DEFAULT_MAPS;
	*twin_fd = -1;
	if (!length)
		return 0;
	if (length > TEXT_MAX || text[length - 1] != '\0')
		return lie(error, "version data");
	tokener = json_tokener_new_ex(DEPTH_MAX);
	if (!tokener)
		return vd_error_set(error, -ENOMEM, "vfio-user: no memory");
	/* Up to the first NUL, as anybody else would read it. */
	root = json_tokener_parse_ex(tokener, text, (int)strlen(text) + 1);
	if (json_tokener_get_error(tokener) != json_tokener_success)
		r = lie(error, "version data");
	else
		r = get_all(root, info, twin_fd, error);
	json_object_put(root);
	json_tokener_free(tokener);
	return r;
}
