/* SPDX-License-Identifier: BSD-2-Clause */
/* The first message: versions, JSON of all kinds, and who says something else first. */
#include "rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <json-c/json.h>

/* What the server replies, checked as a client would. */
static struct json_object *reply_json(const struct wire *w)
{
	struct json_object *o, *capabilities;

	assert_true(w->length > 4);
	assert_int_equal(w->payload[w->length - 1], 0);
	assert_int_equal(strlen((char *)w->payload + 4), w->length - 5);
	o = json_tokener_parse((char *)w->payload + 4);
	assert_non_null(o);
	assert_true(json_object_object_get_ex(o, "capabilities", &capabilities));
	json_object_get(capabilities);
	json_object_put(o);
	return capabilities;
}

static uint64_t number(struct json_object *from, const char *name)
{
	struct json_object *o;

	assert_true(json_object_object_get_ex(from, name, &o));
	assert_true(json_object_is_type(o, json_type_int));
	return json_object_get_uint64(o);
}

static bool has(struct json_object *from, const char *name)
{
	return json_object_object_get_ex(from, name, NULL);
}

/* As QEMU says it, and what it checks in the reply. */
static void as_qemu(void **state)
{
	static const char json[] =
		"{\"capabilities\": {\"max_msg_fds\": 16, \"max_data_xfer_size\": 1048576, "
		"\"pgsizes\": 4096, \"max_dma_maps\": 65535, \"migration\": {\"pgsize\": 4096, "
		"\"max_bitmap_size\": 268435456}, \"write_multiple\": true}}";
	struct json_object *capabilities;
	struct user_version version;
	struct rig rig;
	struct wire w;

	(void)state;
	rig_serve(&rig);
	wire_open(&w, rig.path);
	assert_int_equal(wire_hello(&w, 0, json), 0);
	memcpy(&version, w.payload, sizeof(version));
	assert_int_equal(version.major, 0);
	assert_int_equal(version.minor, 0);
	capabilities = reply_json(&w);
	assert_true(number(capabilities, "max_msg_fds") <= 16);
	assert_true(number(capabilities, "max_data_xfer_size") <= 64u << 20);
	assert_true(number(capabilities, "max_dma_maps") <= 65535);
	assert_int_equal(number(capabilities, "pgsizes"), 4096);
	assert_true(has(capabilities, "write_multiple"));
	assert_false(has(capabilities, "twin_socket"));
	json_object_put(capabilities);
	assert_int_equal(w.twin, -1);
	/* Once only. */
	assert_int_equal(wire_hello(&w, 0, json), -EINVAL);
	assert_int_equal(probe_get(&w, 0), 0);
	wire_close(&w);
	rig_close(&rig);
}

static void versions(void **state)
{
	static const uint16_t minors[] = {0, 1, 2, 1000, UINT16_MAX};
	struct user_version version;
	struct rig rig;
	struct wire w;

	(void)state;
	rig_serve(&rig);
	for (size_t i = 0; i < sizeof(minors) / sizeof(minors[0]); i++) {
		wire_open(&w, rig.path);
		assert_int_equal(wire_hello(&w, minors[i], NULL), 0);
		memcpy(&version, w.payload, sizeof(version));
		assert_int_equal(version.minor, minors[i] ? 1 : 0);
		json_object_put(reply_json(&w));
		wire_close(&w);
	}
	wire_open(&w, rig.path);
	version = (struct user_version){1, 0};
	assert_int_equal(wire_call(&w, USER_VERSION, &version, sizeof(version), NULL, 0, false),
			 -ENOTSUP);
	assert_int_equal(wire_receive(&w, w.fd), -ECONNRESET);
	wire_close(&w);
	assert_int_equal(rig_stats(&rig).refused, 1);
	rig_close(&rig);
}

static void twin_socket(void **state)
{
	struct rig rig;
	struct wire w;

	(void)state;
	rig_serve(&rig);
	wire_open(&w, rig.path);
	assert_int_equal(wire_hello(&w, 1, "{\"capabilities\":{\"twin_socket\":"
				    "{\"supported\":true}}}"), 0);
	assert_true(w.twin >= 0);
	assert_non_null(strstr((char *)w.payload + 4,
			       "\"twin_socket\":{\"supported\":true,\"fd_index\":0}"));
	json_object_put(reply_json(&w));
	wire_close(&w);
	/* Who can take no descriptor gets none. */
	wire_open(&w, rig.path);
	assert_int_equal(wire_hello(&w, 1, "{\"capabilities\":{\"twin_socket\":"
				    "{\"supported\":true},\"max_msg_fds\":0}}"), 0);
	assert_int_equal(w.twin, -1);
	wire_close(&w);
	wire_open(&w, rig.path);
	assert_int_equal(wire_hello(&w, 1, "{\"capabilities\":{\"twin_socket\":"
				    "{\"supported\":false}}}"), 0);
	assert_int_equal(w.twin, -1);
	wire_close(&w);
	rig_close(&rig);
}

static const char *const good[] = {
	"{}",
	"{\"capabilities\":{}}",
	" { \"capabilities\" : { \"max_msg_fds\" : 0 } } ",
	"{\"capabilities\":{\"max_msg_fds\":18446744073709551615}}",
	"{\"capabilities\":{\"max_data_xfer_size\":18446744073709551615,\"pgsizes\":1}}",
	"{\"capabilities\":{\"unknown\":[1,2,{\"a\":null}]},\"other\":1}",
	"{\"capabilities\":{\"twin_socket\":{}}}",
	"{\"capabilities\":{\"max_msg_fds\":1,\"max_msg_fds\":2}}",
};

static const char *const bad[] = {
	"", " ", "x", "null", "1", "[]", "\"\"", "true", "{", "}", "{\"capabilities\":", "{\"a\"}",
	"{\"capabilities\":1}", "{\"capabilities\":[]}", "{\"capabilities\":null}",
	"{\"capabilities\":{\"max_msg_fds\":-1}}", "{\"capabilities\":{\"max_msg_fds\":1.5}}",
	"{\"capabilities\":{\"max_msg_fds\":\"8\"}}", "{\"capabilities\":{\"max_msg_fds\":[8]}}",
	"{\"capabilities\":{\"max_msg_fds\":null}}", "{\"capabilities\":{\"max_msg_fds\":true}}",
	"{\"capabilities\":{\"max_data_xfer_size\":0}}",
	"{\"capabilities\":{\"max_data_xfer_size\":-9223372036854775808}}",
	"{\"capabilities\":{\"max_dma_maps\":{}}}", "{\"capabilities\":{\"pgsizes\":\"\"}}",
	"{\"capabilities\":{\"write_multiple\":1}}", "{\"capabilities\":{\"twin_socket\":true}}",
	"{\"capabilities\":{\"twin_socket\":{\"supported\":1}}}",
	"{\"capabilities\":{\"a\":[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]}}",
	"\xff\xfe", "{\"capabilities\":{\"max_msg_fds\":99999999999999999999999999999999e999}}",
};

static void json_of_all_kinds(void **state)
{
	struct rig rig;
	struct wire w;

	(void)state;
	rig_serve(&rig);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		wire_open(&w, rig.path);
		if (wire_hello(&w, 1, good[i]))
			fail_msg("refused: %s", good[i]);
		assert_int_equal(probe_get(&w, 0), 0);
		wire_close(&w);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		wire_open(&w, rig.path);
		if (wire_hello(&w, 1, bad[i]) != -EINVAL)
			fail_msg("not refused: %s", bad[i]);
		assert_int_equal(wire_receive(&w, w.fd), -ECONNRESET);
		wire_close(&w);
	}
	rig_close(&rig);
}

/* Without its NUL, or with several; in a message that is too long. */
static void json_without_an_end(void **state)
{
	static const char text[] = "\0\0\1\0{\"capabilities\":{}}\0{}";
	struct rig rig;
	struct wire w;
	char *huge = calloc(1, 1 << 20);

	(void)state;
	assert_non_null(huge);
	rig_serve(&rig);
	wire_open(&w, rig.path);
	assert_int_equal(wire_call(&w, USER_VERSION, text, 23, NULL, 0, false), -EINVAL);
	wire_close(&w);
	wire_open(&w, rig.path);
	assert_int_equal(wire_call(&w, USER_VERSION, text, sizeof(text), NULL, 0, false), -EINVAL);
	wire_close(&w);
	wire_open(&w, rig.path);
	assert_int_equal(wire_call(&w, USER_VERSION, text, 24, NULL, 0, false), 0);
	wire_close(&w);
	memset(huge, ' ', 1 << 20);
	wire_open(&w, rig.path);
	assert_int_equal(wire_call(&w, USER_VERSION, huge, 100000, NULL, 0, false), -ECONNRESET);
	wire_close(&w);
	assert_int_equal(rig_stats(&rig).cut_off, 1);
	free(huge);
	rig_close(&rig);
}

static void something_else_first(void **state)
{
	static const unsigned char zeroes[64];
	struct rig rig;
	struct wire w;

	(void)state;
	rig_serve(&rig);
	for (unsigned command = 0; command < 25; command++) {
		if (command == USER_VERSION)
			continue;
		wire_open(&w, rig.path);
		assert_int_equal(wire_call(&w, command, zeroes, sizeof(zeroes), NULL, 0, false),
				 -EINVAL);
		assert_int_equal(wire_receive(&w, w.fd), -ECONNRESET);
		wire_close(&w);
	}
	rig_close(&rig);
}

/* Many that connect and say nothing keep nobody out, and take no more than so many descriptors. */
static void strangers(void **state)
{
	struct wire strangers[40], w;
	struct rig rig;

	(void)state;
	rig_serve(&rig);
	for (unsigned i = 0; i < 40; i++)
		wire_open(&strangers[i], rig.path);
	wire_introduce(&w, rig.path);
	assert_int_equal(probe_get(&w, 0), 0);
	assert_int_equal(wire_receive(&strangers[0], strangers[0].fd), -ECONNRESET);
	assert_true(rig_stats(&rig).refused >= 8);
	/* The last one is still heard. */
	assert_int_equal(wire_hello(&strangers[39], 1, NULL), -EBUSY);
	for (unsigned i = 0; i < 40; i++)
		wire_close(&strangers[i]);
	wire_close(&w);
	rig_close(&rig);
}

/* E3: who asks for offsets of BARs within pages is told that it gets them; nobody else is. */
static void page_offsets_for_those_who_ask(void **state)
{
	static const char *const json[] = {
		"{\"capabilities\": {\"page_offset\": true}}",
		"{\"capabilities\": {\"page_offset\": false}}",
		"{\"capabilities\": {\"max_msg_fds\": 4}}",
	};
	struct json_object *capabilities;
	struct rig rig;

	(void)state;
	rig_serve(&rig);
	for (unsigned i = 0; i < 3; i++) {
		struct wire w;

		wire_open(&w, rig.path);
		assert_int_equal(wire_hello(&w, 0, json[i]), 0);
		capabilities = reply_json(&w);
		assert_int_equal(has(capabilities, "page_offset"), i == 0);
		json_object_put(capabilities);
		wire_close(&w);
	}
	rig_close(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(page_offsets_for_those_who_ask),
		cmocka_unit_test(as_qemu),
		cmocka_unit_test(versions),
		cmocka_unit_test(twin_socket),
		cmocka_unit_test(json_of_all_kinds),
		cmocka_unit_test(json_without_an_end),
		cmocka_unit_test(something_else_first),
		cmocka_unit_test(strangers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
