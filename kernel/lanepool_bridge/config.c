// SPDX-License-Identifier: GPL-2.0-only
/*
 * The shadow of a function's configuration space: what is accepted, and what drivers
 * read and write. PCI Local Bus 3.0, chapter 6; PCI Express Base 5.0, chapter 7.
 */
#include <linux/pci.h>

#include "internal.h"

static u16 lp_get16(const u8 *from)
{
	return from[0] | from[1] << 8;
}

static u32 lp_get32(const u8 *from)
{
	return lp_get16(from) | (u32)lp_get16(from + 2) << 16;
}

static void lp_put32(u8 *to, u32 value)
{
	to[0] = value;
	to[1] = value >> 8;
	to[2] = value >> 16;
	to[3] = value >> 24;
}

/* Bytes on which the kernel's view of the function rests: only the module writes them. */
static void lp_fix(struct lp_function *fn, u32 offset, u32 length)
{
	bitmap_set(fn->fixed, offset, length);
	memset(fn->write_mask + offset, 0, length);
	memset(fn->clear_mask + offset, 0, length);
}

static int lp_prepare_header(struct lp_function *fn)
{
	u8 *config = fn->config;
	u16 vendor = lp_get16(config + PCI_VENDOR_ID);

	if (vendor == 0 || vendor == 0xffff)
		return -EINVAL;
	/* One function, not a bridge: their own class too, which drivers go by. */
	if (config[PCI_HEADER_TYPE] != PCI_HEADER_TYPE_NORMAL ||
	    config[PCI_CLASS_DEVICE + 1] == PCI_BASE_CLASS_BRIDGE)
		return -EINVAL;
	if (config[PCI_INTERRUPT_PIN])
		return -EINVAL;
	lp_fix(fn, PCI_VENDOR_ID, 4);
	lp_fix(fn, PCI_STATUS, 1);
	lp_fix(fn, PCI_REVISION_ID, 4);
	lp_fix(fn, PCI_HEADER_TYPE, 1);
	lp_fix(fn, PCI_BASE_ADDRESS_0, 24);
	lp_fix(fn, PCI_CARDBUS_CIS, 12);
	lp_fix(fn, PCI_CAPABILITY_LIST, 8);
	lp_fix(fn, PCI_INTERRUPT_PIN, 3);
	memset(config + PCI_BASE_ADDRESS_0, 0, 24);
	/* No expansion ROM. */
	lp_put32(config + PCI_ROM_ADDRESS, 0);
	fn->write_mask[PCI_COMMAND] |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
				       PCI_COMMAND_PARITY;
	fn->write_mask[PCI_COMMAND + 1] |=
		(PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE) >> 8;
	return 0;
}

static void lp_prepare_bars(struct lp_function *fn)
{
	int i;

	for (i = 0; i < LANEPOOL_BRIDGE_BARS; i++) {
		const struct lp_bar *bar = &fn->bars[i];
		u32 at = PCI_BASE_ADDRESS_0 + 4 * i;
		u64 bits;

		if (!bar->size)
			continue;
		bits = bar->bus;
		if (bar->flags & LANEPOOL_BRIDGE_BAR_64BIT)
			bits |= PCI_BASE_ADDRESS_MEM_TYPE_64;
		if (bar->flags & LANEPOOL_BRIDGE_BAR_PREFETCH)
			bits |= PCI_BASE_ADDRESS_MEM_PREFETCH;
		lp_put32(fn->config + at, bits);
		lp_put32(fn->write_mask + at, ~(bar->size - 1));
		if (bar->flags & LANEPOOL_BRIDGE_BAR_64BIT) {
			lp_put32(fn->config + at + 4, bits >> 32);
			lp_put32(fn->write_mask + at + 4, ~(bar->size - 1) >> 32);
		}
	}
}

static int lp_prepare_msi(struct lp_function *fn, u32 at)
{
	u16 control = lp_get16(fn->config + at + PCI_MSI_FLAGS);
	bool wide = control & PCI_MSI_FLAGS_64BIT;
	bool masks = control & PCI_MSI_FLAGS_MASKBIT;
	u32 length = (wide ? 14 : 10) + (masks ? 10 : 0);
	u32 data = at + (wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32);

	if (fn->vector_kind != LANEPOOL_BRIDGE_VECTORS_MSI ||
	    at + length > PCI_CFG_SPACE_SIZE)
		return -EINVAL;
	if (fn->vector_count != 1 << ((control & PCI_MSI_FLAGS_QMASK) >> 1) ||
	    control & (PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE))
		return -EINVAL;
	lp_fix(fn, at + PCI_MSI_FLAGS, length - PCI_MSI_FLAGS);
	fn->write_mask[at + PCI_MSI_FLAGS] =
		PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE;
	lp_put32(fn->write_mask + at + PCI_MSI_ADDRESS_LO, ~3U);
	if (wide)
		lp_put32(fn->write_mask + at + PCI_MSI_ADDRESS_HI, ~0U);
	memset(fn->write_mask + data, 0xff, 2);
	if (masks)
		lp_put32(fn->write_mask + data + 4, ~0U);
	return 0;
}

/* A table of the MSI-X capability lies in one of the BARs, all of it. */
static bool lp_within_bar(struct lp_function *fn, u32 where, u64 bytes)
{
	u32 index = where & PCI_MSIX_TABLE_BIR;
	u64 offset = where & PCI_MSIX_TABLE_OFFSET;

	if (index >= LANEPOOL_BRIDGE_BARS || !fn->bars[index].size)
		return false;
	return bytes <= fn->bars[index].size &&
	       offset <= fn->bars[index].size - bytes;
}

static int lp_prepare_msix(struct lp_function *fn, u32 at)
{
	u16 control;
	u32 vectors;

	if (fn->vector_kind != LANEPOOL_BRIDGE_VECTORS_MSIX ||
	    at + PCI_CAP_MSIX_SIZEOF > PCI_CFG_SPACE_SIZE)
		return -EINVAL;
	control = lp_get16(fn->config + at + PCI_MSIX_FLAGS);
	vectors = (control & PCI_MSIX_FLAGS_QSIZE) + 1;
	if (vectors != fn->vector_count ||
	    control & (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL))
		return -EINVAL;
	if (!lp_within_bar(fn, lp_get32(fn->config + at + PCI_MSIX_TABLE),
			   (u64)vectors * PCI_MSIX_ENTRY_SIZE) ||
	    !lp_within_bar(fn, lp_get32(fn->config + at + PCI_MSIX_PBA),
			   DIV_ROUND_UP(vectors, 64) * 8))
		return -EINVAL;
	lp_fix(fn, at + PCI_MSIX_FLAGS, PCI_CAP_MSIX_SIZEOF - PCI_MSIX_FLAGS);
	fn->write_mask[at + PCI_MSIX_FLAGS + 1] =
		(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
	return 0;
}

static int lp_prepare_express(struct lp_function *fn, u32 at)
{
	u16 flags;
	u8 type;

	if (fn->express || at + PCI_EXP_SLTCAP > PCI_CFG_SPACE_SIZE)
		return -EINVAL;
	flags = lp_get16(fn->config + at + PCI_EXP_FLAGS);
	type = (flags & PCI_EXP_FLAGS_TYPE) >> 4;
	if ((flags & PCI_EXP_FLAGS_VERS) > 1 &&
	    at + PCI_EXP_SLTCAP2 > PCI_CFG_SPACE_SIZE)
		return -EINVAL;
	if (type != PCI_EXP_TYPE_ENDPOINT && type != PCI_EXP_TYPE_LEG_END &&
	    type != PCI_EXP_TYPE_RC_END)
		return -EINVAL;
	fn->express = at;
	fn->express_reset = lp_get32(fn->config + at + PCI_EXP_DEVCAP) &
			    PCI_EXP_DEVCAP_FLR;
	/* Which capabilities there are, and the bit that resets. */
	lp_fix(fn, at + PCI_EXP_FLAGS, 2);
	lp_fix(fn, at + PCI_EXP_DEVCAP, 4);
	fn->write_mask[at + PCI_EXP_DEVCTL + 1] &=
		~(PCI_EXP_DEVCTL_BCR_FLR >> 8);
	return 0;
}

static int lp_prepare_advanced(struct lp_function *fn, u32 at)
{
	if (fn->advanced || at + PCI_CAP_AF_SIZEOF > PCI_CFG_SPACE_SIZE)
		return -EINVAL;
	fn->advanced = at;
	fn->advanced_reset = fn->config[at + PCI_AF_CAP] & PCI_AF_CAP_FLR;
	lp_fix(fn, at + PCI_AF_LENGTH, 3);
	return 0;
}

static int lp_prepare_capability(struct lp_function *fn, u32 at, bool *vectors)
{
	switch (fn->config[at]) {
	case PCI_CAP_ID_MSI:
	case PCI_CAP_ID_MSIX:
		if (*vectors)
			return -EINVAL;
		*vectors = true;
		return fn->config[at] == PCI_CAP_ID_MSI ?
			       lp_prepare_msi(fn, at) :
			       lp_prepare_msix(fn, at);
	case PCI_CAP_ID_EXP:
		return lp_prepare_express(fn, at);
	case PCI_CAP_ID_AF:
		return lp_prepare_advanced(fn, at);
	case PCI_CAP_ID_PM:
	case PCI_CAP_ID_VPD:
	case PCI_CAP_ID_VNDR:
	case PCI_CAP_ID_SSVID:
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int lp_prepare_capabilities(struct lp_function *fn)
{
	DECLARE_BITMAP(seen, PCI_CFG_SPACE_SIZE) = {};
	bool vectors = false;
	u32 at;
	int err;

	if (!(fn->config[PCI_STATUS] & PCI_STATUS_CAP_LIST))
		return fn->vector_count ? -EINVAL : 0;
	for (at = fn->config[PCI_CAPABILITY_LIST]; at; at = fn->config[at + 1]) {
		if (at & 3 || at < PCI_STD_HEADER_SIZEOF || test_bit(at, seen))
			return -EINVAL;
		__set_bit(at, seen);
		lp_fix(fn, at, 2);
		err = lp_prepare_capability(fn, at, &vectors);
		if (err)
			return err;
	}
	return vectors == (fn->vector_count != 0) ? 0 : -EINVAL;
}

/* Those with which nothing happens in the kernel but reading and writing them. */
static bool lp_extended_is_served(u32 id)
{
	switch (id) {
	case PCI_EXT_CAP_ID_ERR:
	case PCI_EXT_CAP_ID_DSN:
	case PCI_EXT_CAP_ID_PWR:
	case PCI_EXT_CAP_ID_VNDR:
	case PCI_EXT_CAP_ID_LTR:
	case PCI_EXT_CAP_ID_SECPCI:
	case PCI_EXT_CAP_ID_DVSEC:
	case PCI_EXT_CAP_ID_DLF:
	case PCI_EXT_CAP_ID_PL_16GT:
		return true;
	default:
		return false;
	}
}

static int lp_prepare_extended(struct lp_function *fn)
{
	DECLARE_BITMAP(seen, LP_CONFIG_BYTES) = {};
	u32 at = PCI_CFG_SPACE_SIZE, header = lp_get32(fn->config + at);

	lp_fix(fn, at, 4);
	if (!header || header == ~0U)
		return 0;
	for (;;) {
		if (at & 3 || at < PCI_CFG_SPACE_SIZE ||
		    at > LP_CONFIG_BYTES - 4 || test_bit(at, seen))
			return -EINVAL;
		__set_bit(at, seen);
		lp_fix(fn, at, 4);
		header = lp_get32(fn->config + at);
		/* An empty list is a header with neither name nor successor. */
		if (PCI_EXT_CAP_ID(header) &&
		    !lp_extended_is_served(PCI_EXT_CAP_ID(header)))
			return -EOPNOTSUPP;
		if (!PCI_EXT_CAP_NEXT(header))
			return 0;
		at = PCI_EXT_CAP_NEXT(header);
	}
}

/* Checks the description in fn->config and its masks; fills in what the module serves. */
int lp_config_prepare(struct lp_function *fn)
{
	int err = lp_prepare_header(fn);

	if (!err)
		err = lp_prepare_capabilities(fn);
	if (!err)
		err = lp_prepare_extended(fn);
	if (!err)
		lp_prepare_bars(fn);
	return err;
}

/* Refuses what would change a fixed byte's fixed bits. */
int lp_config_update(struct lp_function *fn, u32 offset, u32 length,
		     const u8 *data)
{
	unsigned long flags;
	int err = 0;
	u32 i;

	raw_spin_lock_irqsave(&fn->config_lock, flags);
	for (i = 0; i < length; i++)
		if (test_bit(offset + i, fn->fixed) &&
		    data[i] != fn->config[offset + i])
			err = -EPERM;
	if (!err)
		memcpy(fn->config + offset, data, length);
	raw_spin_unlock_irqrestore(&fn->config_lock, flags);
	return err;
}

void lp_config_copy(struct lp_function *fn, u32 offset, u32 length, u8 *data)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&fn->config_lock, flags);
	memcpy(data, fn->config + offset, length);
	raw_spin_unlock_irqrestore(&fn->config_lock, flags);
}

static int lp_config_read(struct pci_bus *bus, unsigned int devfn, int where,
			  int size, u32 *value)
{
	struct lp_function *fn = lp_function_of_bus(bus);
	unsigned long flags;
	int i;

	*value = ~0;
	if (devfn || where < 0 || size < 1 || size > 4 ||
	    where > LP_CONFIG_BYTES - size)
		return PCIBIOS_DEVICE_NOT_FOUND;
	raw_spin_lock_irqsave(&fn->config_lock, flags);
	fn->config_reads++;
	if (!fn->gone && !fn->resetting) {
		*value = 0;
		for (i = 0; i < size; i++)
			*value |= (u32)fn->config[where + i] << (8 * i);
	} else if (fn->gone && where == PCI_COMMAND && size == 4) {
		/*
		 * Who resets it waits for this to be no ones any more, in older
		 * kernels for a minute, with its lock held.
		 */
		*value = 0;
	}
	raw_spin_unlock_irqrestore(&fn->config_lock, flags);
	return PCIBIOS_SUCCESSFUL;
}

static bool lp_covers(u32 at, int where, int size)
{
	return at >= where && at < where + size;
}

/* Whether this write asks for a function level reset. */
static bool lp_is_reset(struct lp_function *fn, int where, int size, u32 value)
{
	u32 at = fn->express + PCI_EXP_DEVCTL + 1;

	if (fn->express_reset && lp_covers(at, where, size) &&
	    value >> (8 * (at - where)) & (PCI_EXP_DEVCTL_BCR_FLR >> 8))
		return true;
	at = fn->advanced + PCI_AF_CTRL;
	return fn->advanced_reset && lp_covers(at, where, size) &&
	       value >> (8 * (at - where)) & PCI_AF_CTRL_FLR;
}

static void lp_config_store(struct lp_function *fn, int where, int size,
			    u32 value)
{
	bool notify = false;
	int i;

	for (i = 0; i < size; i++) {
		u8 written = value >> (8 * i);
		u8 *byte = &fn->config[where + i];
		u8 mask = fn->write_mask[where + i];

		*byte = (*byte & ~mask) | (written & mask);
		*byte &= ~(written & fn->clear_mask[where + i]);
		notify |= fn->notify_mask[where + i] != 0;
	}
	if (notify)
		lp_event_locked(fn, LANEPOOL_BRIDGE_EVENT_CONFIG_WRITE, where,
				size, value);
}

static int lp_config_write(struct pci_bus *bus, unsigned int devfn, int where,
			   int size, u32 value)
{
	struct lp_function *fn = lp_function_of_bus(bus);
	unsigned long flags;

	if (devfn || where < 0 || size < 1 || size > 4 ||
	    where > LP_CONFIG_BYTES - size)
		return PCIBIOS_DEVICE_NOT_FOUND;
	raw_spin_lock_irqsave(&fn->config_lock, flags);
	fn->config_writes++;
	if (!fn->gone && !fn->resetting) {
		lp_config_store(fn, where, size, value);
		/* Nothing has used it before PLUG has ended, nor could the agent end it. */
		if (fn->plugged && lp_is_reset(fn, where, size, value)) {
			fn->resetting = true;
			lp_event_locked(fn, LANEPOOL_BRIDGE_EVENT_RESET, 0, 0, 0);
		}
	}
	raw_spin_unlock_irqrestore(&fn->config_lock, flags);
	return PCIBIOS_SUCCESSFUL;
}

struct pci_ops lp_pci_ops = {
	.read = lp_config_read,
	.write = lp_config_write,
};
