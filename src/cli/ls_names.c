/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of PCI devices, by way of libpci, which is asked for nothing else. */
#include "cli/ls.h"

#ifdef VD_HAVE_LIBPCI

#include <pci/pci.h>

/* It warns of a list that it cannot read: then there are numbers only. */
static void keep_quiet(char *message, ...)
{
	(void)message;
}

/* One for the whole program: the list is read once. Never pci_init(): that looks at devices. */
static struct pci_access *names(void)
{
	static struct pci_access *access;

	if (!access) {
		access = pci_alloc();
		access->warning = keep_quiet;
		access->debug = keep_quiet;
	}
	return access;
}

#define FLAGS (PCI_LOOKUP_NO_NUMBERS | PCI_LOOKUP_NO_HWDB)

bool ls_name_device(unsigned vendor, unsigned device, char *text, size_t room)
{
	return pci_lookup_name(names(), text, (int)room,
			       (int)(PCI_LOOKUP_VENDOR | PCI_LOOKUP_DEVICE | FLAGS), vendor,
			       device) == text && *text != '<';
}

bool ls_name_class(unsigned class_code, char *text, size_t room)
{
	return pci_lookup_name(names(), text, (int)room, (int)(PCI_LOOKUP_CLASS | FLAGS),
			       class_code >> 8) == text && *text != '<';
}

#else

bool ls_name_device(unsigned vendor, unsigned device, char *text, size_t room)
{
	(void)vendor;
	(void)device;
	(void)text;
	(void)room;
	return false;
}

bool ls_name_class(unsigned class_code, char *text, size_t room)
{
	(void)class_code;
	(void)text;
	(void)room;
	return false;
}

#endif
