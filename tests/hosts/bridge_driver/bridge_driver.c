// SPDX-License-Identifier: GPL-2.0-only
/*
 * A driver for functions that tests inject by lanepool_bridge and that are no device at
 * all: it uses what the kernel offers to drivers (masks, every kind of DMA memory,
 * interrupts, power states), so that tests see what the module makes of it. It takes
 * functions of vendor 1b36, device 00ee. Tests command it by files in sysfs:
 *
 *   masks       "BITS": both masks of the device are set to that many bits
 *   map         "KIND DIRECTION": a buffer is mapped; read: where. KIND is single,
 *               list, pages, coherent or resource; DIRECTION to, from or both
 *   fill        a number: the buffer is filled with bytes of it, beginning with it
 *   check       a number: EIO unless the buffer holds the bytes that fill would put in
 *   sync        "device" or "cpu"
 *   unmap       gives it back
 *   word        read: the first word of the first BAR; a number: it is put there
 *   interrupts  read: how many have come to each vector
 *   power       "3": to D3hot and back
 *   suspended   read: how often it was suspended
 *
 * With the parameter busy it maps, copies, syncs and frees all the time.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#define TEST_VENDOR	0x1b36
#define TEST_DEVICE	0x00ee
#define TEST_VECTORS	32
/* Odd, so that a mapping begins and ends within pages. */
#define TEST_OFFSET	300
#define TEST_BYTES	5000
#define TEST_PIECES	3

static bool busy;
module_param(busy, bool, 0644);
MODULE_PARM_DESC(busy, "use DMA memory all the time");

enum test_kind { KIND_NONE, KIND_SINGLE, KIND_LIST, KIND_PAGES, KIND_COHERENT, KIND_RESOURCE };

static const char * const kind_names[] = {
	[KIND_NONE] = "none", [KIND_SINGLE] = "single", [KIND_LIST] = "list",
	[KIND_PAGES] = "pages", [KIND_COHERENT] = "coherent",
	[KIND_RESOURCE] = "resource",
};

struct test_buffer {
	enum test_kind kind;
	enum dma_data_direction dir;
	u8 *memory;		/* TEST_BYTES of it count; of the kind's own, or the driver's */
	dma_addr_t address;
	struct page *pages;
	void *coherent;
	struct scatterlist list[TEST_PIECES];
	int mapped;
};

struct test_device {
	struct pci_dev *pdev;
	struct mutex lock;	/* one command at a time */
	struct test_buffer buffer;
	u8 *own;
	void __iomem *registers;
	int vectors;
	atomic_t interrupts[TEST_VECTORS];
	atomic_t suspended;
	struct task_struct *worker;
};

static irqreturn_t test_interrupt(int irq, void *data)
{
	atomic_inc(data);
	return IRQ_HANDLED;
}

static void buffer_unmap(struct test_device *test, struct test_buffer *b)
{
	struct device *dev = &test->pdev->dev;

	switch (b->kind) {
	case KIND_SINGLE:
		dma_unmap_single(dev, b->address, TEST_BYTES, b->dir);
		break;
	case KIND_LIST:
		dma_unmap_sg(dev, b->list, TEST_PIECES, b->dir);
		break;
	case KIND_PAGES:
		dma_free_pages(dev, 2 * PAGE_SIZE, b->pages, b->address, b->dir);
		break;
	case KIND_COHERENT:
		dma_free_coherent(dev, 3 * PAGE_SIZE, b->coherent, b->address);
		break;
	default:
		return;
	}
	b->kind = KIND_NONE;
	b->memory = NULL;
}

static int buffer_map_list(struct test_device *test, struct test_buffer *b)
{
	u32 piece = TEST_BYTES / TEST_PIECES, i;

	sg_init_table(b->list, TEST_PIECES);
	for (i = 0; i < TEST_PIECES; i++)
		sg_set_buf(&b->list[i], b->memory + i * piece,
			   i < TEST_PIECES - 1 ? piece : TEST_BYTES - i * piece);
	b->mapped = dma_map_sg(&test->pdev->dev, b->list, TEST_PIECES, b->dir);
	b->address = sg_dma_address(b->list);
	return b->mapped ? 0 : -ENOMEM;
}

/* b->kind is set if and only if it succeeds. own is memory for kinds that bring none. */
static int buffer_map(struct test_device *test, struct test_buffer *b,
		      enum test_kind kind, enum dma_data_direction dir, u8 *own)
{
	struct device *dev = &test->pdev->dev;
	int err = -ENOMEM;

	b->dir = dir;
	b->memory = own;
	switch (kind) {
	case KIND_SINGLE:
		b->address = dma_map_single(dev, own, TEST_BYTES, dir);
		err = dma_mapping_error(dev, b->address);
		break;
	case KIND_LIST:
		err = buffer_map_list(test, b);
		break;
	case KIND_PAGES:
		b->pages = dma_alloc_pages(dev, 2 * PAGE_SIZE, &b->address, dir,
					   GFP_KERNEL);
		if (b->pages) {
			b->memory = page_address(b->pages);
			err = 0;
		}
		break;
	case KIND_COHERENT:
		b->coherent = dma_alloc_coherent(dev, 3 * PAGE_SIZE, &b->address,
						 GFP_KERNEL);
		if (b->coherent) {
			b->memory = b->coherent;
			err = 0;
		}
		break;
	case KIND_RESOURCE:
		b->address = dma_map_resource(dev, pci_resource_start(test->pdev, 0),
					      PAGE_SIZE, dir, 0);
		err = dma_mapping_error(dev, b->address);
		if (!err)
			dma_unmap_resource(dev, b->address, PAGE_SIZE, dir, 0);
		return err;
	default:
		return -EINVAL;
	}
	if (!err)
		b->kind = kind;
	return err;
}

static void buffer_sync(struct test_device *test, struct test_buffer *b,
			bool to_device)
{
	struct device *dev = &test->pdev->dev;

	if (b->kind == KIND_LIST) {
		if (to_device)
			dma_sync_sg_for_device(dev, b->list, TEST_PIECES, b->dir);
		else
			dma_sync_sg_for_cpu(dev, b->list, TEST_PIECES, b->dir);
	} else if (b->kind == KIND_SINGLE || b->kind == KIND_PAGES) {
		if (to_device)
			dma_sync_single_for_device(dev, b->address, TEST_BYTES,
						   b->dir);
		else
			dma_sync_single_for_cpu(dev, b->address, TEST_BYTES,
						b->dir);
	}
}

static int test_work(void *data)
{
	struct test_device *test = data;
	struct test_buffer b = {};
	u8 *own = kmalloc(TEST_OFFSET + TEST_BYTES, GFP_KERNEL);
	unsigned int round = 0;

	while (own && !kthread_should_stop()) {
		enum test_kind kind = KIND_SINGLE + round % 4;

		round++;
		if (buffer_map(test, &b, kind, round % 3, own + TEST_OFFSET)) {
			msleep(20);
			continue;
		}
		buffer_sync(test, &b, false);
		memset(b.memory, round, TEST_BYTES);
		buffer_sync(test, &b, true);
		buffer_unmap(test, &b);
		usleep_range(100, 1000);
	}
	while (!kthread_should_stop())
		msleep(20);
	kfree(own);
	return 0;
}

static struct test_device *test_of(struct device *dev)
{
	return pci_get_drvdata(to_pci_dev(dev));
}

static u8 *test_own(struct test_device *test)
{
	return test->own + TEST_OFFSET;
}

/* What the buffer's commands are about. */
static u8 *test_memory(struct test_device *test)
{
	struct test_buffer *b = &test->buffer;

	return b->kind == KIND_NONE ? test_own(test) : b->memory;
}

static ssize_t masks_store(struct device *dev, struct device_attribute *attr,
			   const char *text, size_t size)
{
	u32 bits;
	int err = kstrtou32(text, 0, &bits);

	if (!err)
		err = bits && bits <= 64 ?
			dma_set_mask_and_coherent(dev, DMA_BIT_MASK(bits)) :
			-EINVAL;
	return err ? err : size;
}
static DEVICE_ATTR_WO(masks);

static ssize_t map_store(struct device *dev, struct device_attribute *attr,
			 const char *text, size_t size)
{
	struct test_device *test = test_of(dev);
	struct test_buffer *b = &test->buffer;
	enum dma_data_direction dir;
	char kind[16], way[16];
	int found, err;

	if (sscanf(text, "%15s %15s", kind, way) != 2)
		return -EINVAL;
	found = match_string(kind_names, ARRAY_SIZE(kind_names), kind);
	dir = way[0] == 't' ? DMA_TO_DEVICE :
	      way[0] == 'f' ? DMA_FROM_DEVICE : DMA_BIDIRECTIONAL;
	if (found < 0)
		return found;
	mutex_lock(&test->lock);
	err = b->kind == KIND_NONE ? buffer_map(test, b, found, dir, test_own(test)) :
				     -EBUSY;
	mutex_unlock(&test->lock);
	return err ? err : size;
}

static ssize_t map_show(struct device *dev, struct device_attribute *attr, char *text)
{
	struct test_device *test = test_of(dev);
	struct test_buffer *b = &test->buffer;
	struct scatterlist *entry;
	ssize_t done = 0;
	int i;

	mutex_lock(&test->lock);
	if (b->kind == KIND_LIST)
		for_each_sg(b->list, entry, b->mapped, i)
			done += sysfs_emit_at(text, done, "%pad %u\n",
					      &sg_dma_address(entry),
					      sg_dma_len(entry));
	else if (b->kind != KIND_NONE)
		done = sysfs_emit(text, "%pad %u\n", &b->address, TEST_BYTES);
	mutex_unlock(&test->lock);
	return done;
}
static DEVICE_ATTR_RW(map);

static ssize_t fill_store(struct device *dev, struct device_attribute *attr,
			  const char *text, size_t size)
{
	struct test_device *test = test_of(dev);
	u32 first, i;
	int err = kstrtou32(text, 0, &first);

	if (err)
		return err;
	mutex_lock(&test->lock);
	for (i = 0; i < TEST_BYTES; i++)
		test_memory(test)[i] = first + i;
	mutex_unlock(&test->lock);
	return size;
}
static DEVICE_ATTR_WO(fill);

static ssize_t check_store(struct device *dev, struct device_attribute *attr,
			   const char *text, size_t size)
{
	struct test_device *test = test_of(dev);
	u32 first, i;
	int err = kstrtou32(text, 0, &first);

	mutex_lock(&test->lock);
	for (i = 0; !err && i < TEST_BYTES; i++)
		if (test_memory(test)[i] != (u8)(first + i))
			err = -EIO;
	mutex_unlock(&test->lock);
	return err ? err : size;
}
static DEVICE_ATTR_WO(check);

static ssize_t sync_store(struct device *dev, struct device_attribute *attr,
			  const char *text, size_t size)
{
	struct test_device *test = test_of(dev);

	mutex_lock(&test->lock);
	buffer_sync(test, &test->buffer, text[0] == 'd');
	mutex_unlock(&test->lock);
	return size;
}
static DEVICE_ATTR_WO(sync);

static ssize_t unmap_store(struct device *dev, struct device_attribute *attr,
			   const char *text, size_t size)
{
	struct test_device *test = test_of(dev);

	mutex_lock(&test->lock);
	buffer_unmap(test, &test->buffer);
	mutex_unlock(&test->lock);
	return size;
}
static DEVICE_ATTR_WO(unmap);

static ssize_t word_show(struct device *dev, struct device_attribute *attr, char *text)
{
	return sysfs_emit(text, "%u\n", ioread32(test_of(dev)->registers));
}

static ssize_t word_store(struct device *dev, struct device_attribute *attr,
			  const char *text, size_t size)
{
	u32 value;
	int err = kstrtou32(text, 0, &value);

	if (err)
		return err;
	iowrite32(value, test_of(dev)->registers);
	return size;
}
static DEVICE_ATTR_RW(word);

static ssize_t interrupts_show(struct device *dev, struct device_attribute *attr,
			       char *text)
{
	struct test_device *test = test_of(dev);
	ssize_t done = 0;
	int i;

	for (i = 0; i < test->vectors; i++)
		done += sysfs_emit_at(text, done, "%d ",
				      atomic_read(&test->interrupts[i]));
	return done;
}
static DEVICE_ATTR_RO(interrupts);

static ssize_t power_store(struct device *dev, struct device_attribute *attr,
			   const char *text, size_t size)
{
	struct pci_dev *pdev = to_pci_dev(dev);
	int err;

	pci_save_state(pdev);
	err = pci_set_power_state(pdev, PCI_D3hot);
	if (!err)
		err = pci_set_power_state(pdev, PCI_D0);
	pci_restore_state(pdev);
	return err ? err : size;
}
static DEVICE_ATTR_WO(power);

static ssize_t suspended_show(struct device *dev, struct device_attribute *attr,
			      char *text)
{
	return sysfs_emit(text, "%d\n", atomic_read(&test_of(dev)->suspended));
}
static DEVICE_ATTR_RO(suspended);

static struct attribute *test_attrs[] = {
	&dev_attr_masks.attr, &dev_attr_map.attr, &dev_attr_fill.attr,
	&dev_attr_check.attr, &dev_attr_sync.attr, &dev_attr_unmap.attr,
	&dev_attr_word.attr, &dev_attr_interrupts.attr, &dev_attr_power.attr,
	&dev_attr_suspended.attr, NULL,
};

static const struct attribute_group test_group = {
	.name = "test", .attrs = test_attrs,
};

static const struct attribute_group *test_groups[] = { &test_group, NULL };

static int test_request_irqs(struct test_device *test)
{
	struct pci_dev *pdev = test->pdev;
	int err, i;

	test->vectors = pci_alloc_irq_vectors(pdev, 1, TEST_VECTORS,
					      PCI_IRQ_MSI | PCI_IRQ_MSIX);
	if (test->vectors < 0)
		return test->vectors;
	for (i = 0; i < test->vectors; i++) {
		err = request_irq(pci_irq_vector(pdev, i), test_interrupt, 0,
				  "bridge_driver", &test->interrupts[i]);
		if (err)
			goto fail;
	}
	return 0;
fail:
	while (i--)
		free_irq(pci_irq_vector(pdev, i), &test->interrupts[i]);
	pci_free_irq_vectors(pdev);
	return err;
}

static void test_free_irqs(struct test_device *test)
{
	int i;

	for (i = 0; i < test->vectors; i++)
		free_irq(pci_irq_vector(test->pdev, i), &test->interrupts[i]);
	pci_free_irq_vectors(test->pdev);
}

static int test_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct test_device *test;
	int err;

	test = devm_kzalloc(&pdev->dev, sizeof(*test), GFP_KERNEL);
	if (!test)
		return -ENOMEM;
	test->own = devm_kmalloc(&pdev->dev, TEST_OFFSET + TEST_BYTES, GFP_KERNEL);
	if (!test->own)
		return -ENOMEM;
	test->pdev = pdev;
	mutex_init(&test->lock);
	pci_set_drvdata(pdev, test);
	err = pcim_enable_device(pdev);
	if (err)
		return err;
	err = pcim_iomap_regions(pdev, BIT(0), "bridge_driver");
	if (err)
		return err;
	test->registers = pcim_iomap_table(pdev)[0];
	pci_set_master(pdev);
	/* Failing that, there is no DMA, which map tells. */
	dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	err = test_request_irqs(test);
	if (err)
		return err;
	if (busy)
		test->worker = kthread_run(test_work, test, "bridge_driver");
	if (IS_ERR(test->worker)) {
		err = PTR_ERR(test->worker);
		test_free_irqs(test);
		return err;
	}
	pm_runtime_put_noidle(&pdev->dev);
	return 0;
}

static void test_remove(struct pci_dev *pdev)
{
	struct test_device *test = pci_get_drvdata(pdev);

	pm_runtime_get_noresume(&pdev->dev);
	if (test->worker)
		kthread_stop(test->worker);
	buffer_unmap(test, &test->buffer);
	test_free_irqs(test);
}

static int test_suspend(struct device *dev)
{
	atomic_inc(&test_of(dev)->suspended);
	return 0;
}

static int test_resume(struct device *dev)
{
	return 0;
}

static const struct dev_pm_ops test_power = {
	SYSTEM_SLEEP_PM_OPS(test_suspend, test_resume)
	RUNTIME_PM_OPS(test_suspend, test_resume, NULL)
};

static const struct pci_device_id test_ids[] = {
	{ PCI_DEVICE(TEST_VENDOR, TEST_DEVICE) },
	{ }
};

static struct pci_driver test_driver = {
	.name = "bridge_driver",
	.id_table = test_ids,
	.probe = test_probe,
	.remove = test_remove,
	.dev_groups = test_groups,
	.driver.pm = pm_ptr(&test_power),
};
module_pci_driver(test_driver);

MODULE_DESCRIPTION("Driver for functions that tests of lanepool_bridge inject");
MODULE_AUTHOR("the lanepool project");
MODULE_LICENSE("GPL");
