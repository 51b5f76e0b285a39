// SPDX-License-Identifier: GPL-2.0-only
/*
 * A native driver for QEMU's teaching device (docs/specs/edu.rst there), as a card
 * of one's own would have: registers, an MSI interrupt, and DMA by both kinds of
 * mapping. Tests command it by files of the device in sysfs:
 *
 *   factorial   a number in; its factorial modulo 2^32 out, by an interrupt
 *   work        a number of rounds in: each computes, moves data to the card and
 *               back through each kind of mapping, and compares. EIO: it differs
 *   interrupts  how many have come
 */
#include <linux/bitops.h>
#include <linux/completion.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>

#define EDU_VENDOR		0x1234
#define EDU_DEVICE		0x11e8

#define EDU_ID			0x00
#define EDU_ID_VALUE		0x010000ed
#define EDU_LIVENESS		0x04
#define EDU_FACTORIAL		0x08
#define EDU_STATUS		0x20
#define EDU_STATUS_INTERRUPT	BIT(7)
#define EDU_INTERRUPTS		0x24
#define EDU_ACKNOWLEDGE		0x64
#define EDU_DMA_SOURCE		0x80
#define EDU_DMA_DESTINATION	0x88
#define EDU_DMA_COUNT		0x90
#define EDU_DMA_COMMAND		0x98
#define EDU_DMA_START		BIT(0)
#define EDU_DMA_TO_MEMORY	BIT(1)
#define EDU_DMA_INTERRUPT	BIT(2)
#define EDU_BUFFER		0x40000
#define EDU_BUFFER_BYTES	4096

/* The card takes a tenth of a second for any transfer. */
#define EDU_WAIT		msecs_to_jiffies(10000)
/* A part of a page is moved, so that what lies around it can be looked at. */
#define EDU_PART_OFFSET		512
#define EDU_PART_BYTES		1536

static unsigned int dma_bits = 28;
module_param(dma_bits, uint, 0444);
MODULE_PARM_DESC(dma_bits, "address bits of the card's DMA engine, as QEMU's dma_mask has");

struct edu {
	struct pci_dev *pdev;
	void __iomem *registers;
	struct mutex lock; /* one command at a time */
	struct completion done;
	atomic_t interrupts;
	u32 factorial;
	void *coherent;
	dma_addr_t coherent_at;
	u8 *buffer; /* mapped for each transfer */
};

static irqreturn_t edu_interrupt(int irq, void *data)
{
	struct edu *edu = data;
	u32 pending = ioread32(edu->registers + EDU_INTERRUPTS);

	/* All ones: the card is gone. */
	if (!pending || pending == ~0U)
		return IRQ_NONE;
	iowrite32(pending, edu->registers + EDU_ACKNOWLEDGE);
	atomic_inc(&edu->interrupts);
	complete(&edu->done);
	return IRQ_HANDLED;
}

static int edu_wait(struct edu *edu)
{
	if (!wait_for_completion_timeout(&edu->done, EDU_WAIT)) {
		pci_err(edu->pdev, "no interrupt\n");
		return -ETIMEDOUT;
	}
	return 0;
}

static int edu_compute(struct edu *edu, u32 number)
{
	int error;

	reinit_completion(&edu->done);
	iowrite32(EDU_STATUS_INTERRUPT, edu->registers + EDU_STATUS);
	iowrite32(number, edu->registers + EDU_FACTORIAL);
	error = edu_wait(edu);
	if (!error)
		edu->factorial = ioread32(edu->registers + EDU_FACTORIAL);
	return error;
}

static int edu_transfer(struct edu *edu, dma_addr_t memory, size_t bytes, bool to_memory)
{
	u64 source = to_memory ? EDU_BUFFER : memory;
	u64 destination = to_memory ? memory : EDU_BUFFER;

	reinit_completion(&edu->done);
	writeq(source, edu->registers + EDU_DMA_SOURCE);
	writeq(destination, edu->registers + EDU_DMA_DESTINATION);
	writeq(bytes, edu->registers + EDU_DMA_COUNT);
	writeq(EDU_DMA_START | EDU_DMA_INTERRUPT | (to_memory ? EDU_DMA_TO_MEMORY : 0),
		     edu->registers + EDU_DMA_COMMAND);
	return edu_wait(edu);
}

static void edu_fill(u8 *data, size_t bytes, u32 seed)
{
	size_t i;

	for (i = 0; i < bytes; i++)
		data[i] = (i * 2654435761U + seed * 40503U) >> 13;
}

static int edu_compare(struct edu *edu, const u8 *data, size_t bytes, u32 seed, const char *what)
{
	u8 *wanted = kmalloc(bytes, GFP_KERNEL);
	int error = 0;

	if (!wanted)
		return -ENOMEM;
	edu_fill(wanted, bytes, seed);
	if (memcmp(data, wanted, bytes)) {
		pci_err(edu->pdev, "%s: what came back is not what was sent\n", what);
		error = -EIO;
	}
	kfree(wanted);
	return error;
}

/* A page through memory that both sides see all the time. */
static int edu_move_coherent(struct edu *edu, u32 seed)
{
	int error;

	edu_fill(edu->coherent, EDU_BUFFER_BYTES, seed);
	error = edu_transfer(edu, edu->coherent_at, EDU_BUFFER_BYTES, false);
	if (error)
		return error;
	memset(edu->coherent, 0xdb, EDU_BUFFER_BYTES);
	error = edu_transfer(edu, edu->coherent_at, EDU_BUFFER_BYTES, true);
	if (error)
		return error;
	return edu_compare(edu, edu->coherent, EDU_BUFFER_BYTES, seed, "coherent memory");
}

/* A part of a page, mapped anew for each direction. */
static int edu_move_mapped(struct edu *edu, u32 seed)
{
	struct device *dev = &edu->pdev->dev;
	u8 *part = edu->buffer + EDU_PART_OFFSET;
	dma_addr_t at;
	int error;
	size_t i;

	edu_fill(part, EDU_PART_BYTES, seed);
	at = dma_map_single(dev, part, EDU_PART_BYTES, DMA_TO_DEVICE);
	if (dma_mapping_error(dev, at))
		return -ENOMEM;
	error = edu_transfer(edu, at, EDU_PART_BYTES, false);
	dma_unmap_single(dev, at, EDU_PART_BYTES, DMA_TO_DEVICE);
	if (error)
		return error;

	memset(edu->buffer, 0xdb, EDU_BUFFER_BYTES);
	at = dma_map_single(dev, part, EDU_PART_BYTES, DMA_FROM_DEVICE);
	if (dma_mapping_error(dev, at))
		return -ENOMEM;
	error = edu_transfer(edu, at, EDU_PART_BYTES, true);
	dma_unmap_single(dev, at, EDU_PART_BYTES, DMA_FROM_DEVICE);
	if (error)
		return error;
	for (i = 0; i < EDU_BUFFER_BYTES; i++) {
		bool inside = i >= EDU_PART_OFFSET && i < EDU_PART_OFFSET + EDU_PART_BYTES;

		if (!inside && edu->buffer[i] != 0xdb) {
			pci_err(edu->pdev, "a byte beside the mapping has changed\n");
			return -EIO;
		}
	}
	return edu_compare(edu, part, EDU_PART_BYTES, seed, "mapped memory");
}

/* One mapping for both directions, which stays while the processor looks at it. */
static int edu_move_both_ways(struct edu *edu, u32 seed)
{
	struct device *dev = &edu->pdev->dev;
	dma_addr_t at;
	int error;

	edu_fill(edu->buffer, EDU_BUFFER_BYTES, seed);
	at = dma_map_single(dev, edu->buffer, EDU_BUFFER_BYTES, DMA_BIDIRECTIONAL);
	if (dma_mapping_error(dev, at))
		return -ENOMEM;
	error = edu_transfer(edu, at, EDU_BUFFER_BYTES, false);
	if (error)
		goto unmap;
	dma_sync_single_for_cpu(dev, at, EDU_BUFFER_BYTES, DMA_BIDIRECTIONAL);
	memset(edu->buffer, 0xdb, EDU_BUFFER_BYTES);
	dma_sync_single_for_device(dev, at, EDU_BUFFER_BYTES, DMA_BIDIRECTIONAL);
	error = edu_transfer(edu, at, EDU_BUFFER_BYTES, true);
	if (error)
		goto unmap;
	dma_sync_single_for_cpu(dev, at, EDU_BUFFER_BYTES, DMA_BIDIRECTIONAL);
	error = edu_compare(edu, edu->buffer, EDU_BUFFER_BYTES, seed, "a mapping that stays");
unmap:
	dma_unmap_single(dev, at, EDU_BUFFER_BYTES, DMA_BIDIRECTIONAL);
	return error;
}

static int edu_round(struct edu *edu, u32 round)
{
	u32 wanted = 1, n;
	int error;

	for (n = 2; n <= 5 + round % 8; n++)
		wanted *= n;
	error = edu_compute(edu, 5 + round % 8);
	if (!error && edu->factorial != wanted) {
		pci_err(edu->pdev, "the factorial of %u is not %u\n", 5 + round % 8, edu->factorial);
		error = -EIO;
	}
	if (!error)
		error = edu_move_coherent(edu, round);
	if (!error)
		error = edu_move_mapped(edu, round + 1);
	if (!error)
		error = edu_move_both_ways(edu, round + 2);
	return error;
}

static ssize_t factorial_store(struct device *dev, struct device_attribute *attr,
			       const char *text, size_t bytes)
{
	struct edu *edu = dev_get_drvdata(dev);
	u32 number;
	int error = kstrtou32(text, 0, &number);

	if (error)
		return error;
	mutex_lock(&edu->lock);
	error = edu_compute(edu, number);
	mutex_unlock(&edu->lock);
	return error ?: bytes;
}

static ssize_t factorial_show(struct device *dev, struct device_attribute *attr, char *text)
{
	struct edu *edu = dev_get_drvdata(dev);

	return sysfs_emit(text, "%u\n", edu->factorial);
}
static DEVICE_ATTR_RW(factorial);

static ssize_t work_store(struct device *dev, struct device_attribute *attr,
			  const char *text, size_t bytes)
{
	struct edu *edu = dev_get_drvdata(dev);
	u32 rounds, round;
	int error = kstrtou32(text, 0, &rounds);

	if (error)
		return error;
	mutex_lock(&edu->lock);
	for (round = 0; round < rounds && !error; round++)
		error = edu_round(edu, round);
	mutex_unlock(&edu->lock);
	return error ?: bytes;
}
static DEVICE_ATTR_WO(work);

static ssize_t interrupts_show(struct device *dev, struct device_attribute *attr, char *text)
{
	struct edu *edu = dev_get_drvdata(dev);

	return sysfs_emit(text, "%d\n", atomic_read(&edu->interrupts));
}
static DEVICE_ATTR_RO(interrupts);

static struct attribute *edu_attrs[] = {
	&dev_attr_factorial.attr,
	&dev_attr_work.attr,
	&dev_attr_interrupts.attr,
	NULL,
};
ATTRIBUTE_GROUPS(edu);

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct edu *edu = devm_kzalloc(&pdev->dev, sizeof(*edu), GFP_KERNEL);
	u32 value;
	int error;

	if (!edu)
		return -ENOMEM;
	edu->pdev = pdev;
	mutex_init(&edu->lock);
	init_completion(&edu->done);
	error = pcim_enable_device(pdev);
	if (error)
		return error;
	error = pcim_iomap_regions(pdev, BIT(0), KBUILD_MODNAME);
	if (error)
		return error;
	edu->registers = pcim_iomap_table(pdev)[0];
	value = ioread32(edu->registers + EDU_ID);
	if (value != EDU_ID_VALUE)
		return dev_err_probe(&pdev->dev, -ENODEV, "says %#x, which is no edu\n", value);
	/* What is written comes back inverted. */
	iowrite32(0x1234abcd, edu->registers + EDU_LIVENESS);
	value = ioread32(edu->registers + EDU_LIVENESS);
	if (value != (u32)~0x1234abcd)
		return dev_err_probe(&pdev->dev, -EIO, "is not alive: %#x\n", value);
	error = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(dma_bits));
	if (error)
		return dev_err_probe(&pdev->dev, error, "no DMA with %u bits\n", dma_bits);
	edu->coherent = dmam_alloc_coherent(&pdev->dev, EDU_BUFFER_BYTES, &edu->coherent_at, GFP_KERNEL);
	edu->buffer = devm_kzalloc(&pdev->dev, EDU_BUFFER_BYTES, GFP_KERNEL);
	if (!edu->coherent || !edu->buffer)
		return -ENOMEM;

	pci_set_master(pdev);
	error = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSI);
	if (error < 0)
		return dev_err_probe(&pdev->dev, error, "no MSI\n");
	error = request_irq(pci_irq_vector(pdev, 0), edu_interrupt, 0, KBUILD_MODNAME, edu);
	if (error) {
		pci_free_irq_vectors(pdev);
		return error;
	}
	pci_set_drvdata(pdev, edu);
	return 0;
}

static void edu_remove(struct pci_dev *pdev)
{
	free_irq(pci_irq_vector(pdev, 0), pci_get_drvdata(pdev));
	pci_free_irq_vectors(pdev);
	/* Nothing is moved into memory that is freed from here on. */
	pci_clear_master(pdev);
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(EDU_VENDOR, EDU_DEVICE) },
	{ }
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name = KBUILD_MODNAME,
	.id_table = edu_ids,
	.probe = edu_probe,
	.remove = edu_remove,
	.dev_groups = edu_groups,
};
module_pci_driver(edu_driver);

MODULE_DESCRIPTION("QEMU's teaching device, for tests of lanepool");
MODULE_AUTHOR("the lanepool project");
MODULE_LICENSE("GPL");
