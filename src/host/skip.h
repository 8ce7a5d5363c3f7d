/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef VIADUCT_HOST_SKIP_H
#define VIADUCT_HOST_SKIP_H

#include <stdbool.h>

/*
 * skip_access() - let a thread go on behind the load or store that faulted, in its signal handler
 * @context: the handler's third argument
 *
 * What was to be loaded is zero, what was to be stored is lost, a compare-and-swap has succeeded.
 * Return: false, with nothing changed, if the instruction is not known; always but on x86-64.
 */
bool skip_access(void *context);

#endif
