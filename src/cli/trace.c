/* SPDX-License-Identifier: BSD-2-Clause */
/* `--trace`: events of the lower floors as lines on stderr; errors always. */
#include <stdio.h>
#include <string.h>

#include "cli/run.h"

static const struct {
	const char *name, *format;
	enum vd_trace_event event;
} events[] = {
	{"fault", "fault gpa=0x%llx access=%llu mapped=0x%llx\n", VD_TRACE_FAULT},
	{"zap", "zap   gpa=0x%llx length=0x%llx leaves=%llu\n", VD_TRACE_ZAP},
	{"pin", "pin   iova=0x%llx length=0x%llx access=%llu\n", VD_TRACE_PIN},
	{"mmio", "mmio  gpa=0x%llx length=%llu value=0x%llx\n", VD_TRACE_MMIO},
	{"dma", "dma   iova=0x%llx length=0x%llx access=%llu\n", VD_TRACE_DMA},
};
#define EVENTS (sizeof(events) / sizeof(events[0]))

static void print_event(const struct vd_env *env, enum vd_trace_event event, uint64_t a,
			uint64_t b, uint64_t c)
{
	(void)env;
	for (size_t i = 0; i < EVENTS; i++)
		if (events[i].event == event)
			fprintf(stderr, events[i].format, (unsigned long long)a,
				(unsigned long long)b, (unsigned long long)c);
}

/* Whatever else is said is for programmers. */
static void print_error(const struct vd_env *env, enum vd_log_level level, const char *text)
{
	(void)env;
	if (level == VD_LOG_ERROR)
		complain(0, "%s", text);
}

struct vd_env trace_environment(unsigned wanted)
{
	struct vd_env env = *vd_env_hosted();

	env.log = print_error;
	if (wanted) {
		env.trace_events = wanted;
		env.trace = print_event;
	}
	return env;
}

int trace_parse(const char *text, unsigned *wanted, struct vd_error *error)
{
	while (*text) {
		size_t length = strcspn(text, ","), i = 0;

		if (length == 3 && !strncmp(text, "all", 3)) {
			*wanted = ~0u;
		} else {
			while (i < EVENTS && (strlen(events[i].name) != length ||
					      strncmp(text, events[i].name, length)))
				i++;
			if (i == EVENTS)
				return vd_error_set(error, -EINVAL, "--trace knows fault, zap, "
						    "pin, mmio, dma and all, not '%s'", text);
			*wanted |= events[i].event;
		}
		text += length;
		text += *text == ',';
	}
	return 0;
}
