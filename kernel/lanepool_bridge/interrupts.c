// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupts: an MSI domain whose messages reach no hardware, and eventfds that stand
 * for them. An eventfd may be signalled in any context, with any lock held, so what it
 * wakes only queues the work that delivers.
 */
#include <linux/file.h>
#include <linux/irq.h>
#include <linux/slab.h>

#include "compat.h"
#include "internal.h"

static void lp_deliver(struct irq_work *work)
{
	struct lp_vector *vector = container_of(work, struct lp_vector, deliver);
	struct lp_function *fn = vector->function;

	if (READ_ONCE(fn->gone) || READ_ONCE(fn->resetting) || !fn->msi_domain ||
	    generic_handle_domain_irq(fn->msi_domain, vector->index))
		atomic64_inc(&fn->vectors_dropped);
	else
		atomic64_inc(&fn->vectors_delivered);
}

static int lp_signalled(wait_queue_entry_t *wait, unsigned int mode, int sync,
			void *key)
{
	struct lp_vector *vector = container_of(wait, struct lp_vector, wait);
	u64 count;

	if (key_to_poll(key) & EPOLLIN) {
		eventfd_ctx_do_read(vector->eventfd, &count);
		irq_work_queue(&vector->deliver);
	}
	return 0;
}

static void lp_enqueue(struct file *file, wait_queue_head_t *head,
		       poll_table *table)
{
	struct lp_vector *vector = container_of(table, struct lp_vector, table);

	add_wait_queue(head, &vector->wait);
}

static void lp_vector_disconnect(struct lp_vector *vector)
{
	u64 count;

	if (!vector->eventfd)
		return;
	eventfd_ctx_remove_wait_queue(vector->eventfd, &vector->wait, &count);
	irq_work_sync(&vector->deliver);
	eventfd_ctx_put(vector->eventfd);
	vector->eventfd = NULL;
}

static int lp_vector_connect(struct lp_vector *vector, s32 fd)
{
	struct eventfd_ctx *eventfd;
	struct file *file;

	lp_vector_disconnect(vector);
	if (fd == -1)
		return 0;
	file = eventfd_fget(fd);
	if (IS_ERR(file))
		return PTR_ERR(file);
	eventfd = eventfd_ctx_fileget(file);
	if (IS_ERR(eventfd)) {
		fput(file);
		return PTR_ERR(eventfd);
	}
	vector->eventfd = eventfd;
	init_waitqueue_func_entry(&vector->wait, lp_signalled);
	init_poll_funcptr(&vector->table, lp_enqueue);
	/* What came before it was connected counts as well. */
	if (vfs_poll(file, &vector->table) & EPOLLIN)
		irq_work_queue(&vector->deliver);
	fput(file);
	return 0;
}

int lp_vectors_create(struct lp_function *fn)
{
	u32 i;

	if (!fn->vector_count)
		return 0;
	fn->vectors = kvcalloc(fn->vector_count, sizeof(*fn->vectors), GFP_KERNEL);
	if (!fn->vectors)
		return -ENOMEM;
	for (i = 0; i < fn->vector_count; i++) {
		fn->vectors[i].function = fn;
		fn->vectors[i].index = i;
		fn->vectors[i].deliver = IRQ_WORK_INIT_HARD(lp_deliver);
	}
	return 0;
}

/* Connects all or, where one is no eventfd, leaves this range unconnected. */
int lp_vectors_set(struct lp_function *fn, u32 start, u32 count, const s32 *fds)
{
	int err = 0;
	u32 i;

	for (i = 0; i < count && !err; i++)
		err = lp_vector_connect(&fn->vectors[start + i], fds[i]);
	if (err)
		for (i = 0; i < count; i++)
			lp_vector_disconnect(&fn->vectors[start + i]);
	return err;
}

void lp_vectors_disconnect(struct lp_function *fn)
{
	u32 i;

	if (!fn->vectors)
		return;
	for (i = 0; i < fn->vector_count; i++) {
		lp_vector_disconnect(&fn->vectors[i]);
		irq_work_sync(&fn->vectors[i].deliver);
	}
}

void lp_vectors_destroy(struct lp_function *fn)
{
	lp_vectors_disconnect(fn);
	kvfree(fn->vectors);
	fn->vectors = NULL;
}

static void lp_irq_ack(struct irq_data *data)
{
}

/* Messages reach nobody: the lender's are the agent's business. */
static void lp_irq_write(struct irq_data *data, struct msi_msg *msg)
{
}

static void lp_irq_compose(struct irq_data *data, struct msi_msg *msg)
{
	memset(msg, 0, sizeof(*msg));
	msg->address_lo = X86_MSI_BASE_ADDRESS_LOW << 20;
	msg->data = data->hwirq;
}

static int lp_irq_retrigger(struct irq_data *data)
{
	struct lp_vector *vector = irq_data_get_irq_chip_data(data);

	irq_work_queue(&vector->deliver);
	return 1;
}

/* Where the eventfd is signalled is where it is delivered. */
static int lp_irq_affinity(struct irq_data *data, const struct cpumask *mask,
			   bool force)
{
	irq_data_update_effective_affinity(data, mask);
	return IRQ_SET_MASK_OK_DONE;
}

static struct irq_chip lp_irq_chip = {
	.name = "lanepool",
	.irq_ack = lp_irq_ack,
	.irq_write_msi_msg = lp_irq_write,
	.irq_compose_msi_msg = lp_irq_compose,
	.irq_retrigger = lp_irq_retrigger,
	.irq_set_affinity = lp_irq_affinity,
};

#ifdef LP_MSI_PARENT_DOMAINS
static int lp_msi_alloc(struct irq_domain *domain, unsigned int irq,
			unsigned int count, void *arg)
{
	struct lp_function *fn = domain->host_data;
	u32 first = ((msi_alloc_info_t *)arg)->desc->msi_index;
	unsigned int i;

	if (first >= fn->vector_count || count > fn->vector_count - first)
		return -ENOSPC;
	/* The simple handler would lose what comes while one is handled. */
	for (i = 0; i < count; i++)
		irq_domain_set_info(domain, irq + i, first + i, &lp_irq_chip,
				    &fn->vectors[first + i], handle_edge_irq,
				    NULL, "edge");
	return 0;
}

static void lp_msi_free(struct irq_domain *domain, unsigned int irq,
			unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		irq_domain_reset_irq_data(irq_domain_get_irq_data(domain, irq + i));
}

static const struct irq_domain_ops lp_msi_ops = {
	.alloc = lp_msi_alloc,
	.free = lp_msi_free,
};

static bool lp_msi_describe(struct device *dev, struct irq_domain *domain,
			    struct irq_domain *parent,
			    struct msi_domain_info *info)
{
	if (!msi_lib_init_dev_msi_info(dev, domain, parent, info))
		return false;
	info->chip->irq_write_msi_msg = lp_irq_write;
	return true;
}

static const struct msi_parent_ops lp_msi_parent_ops = {
	.supported_flags = MSI_GENERIC_FLAGS_MASK | MSI_FLAG_PCI_MSIX |
			   MSI_FLAG_MULTI_PCI_MSI,
	.required_flags = MSI_FLAG_USE_DEF_DOM_OPS | MSI_FLAG_USE_DEF_CHIP_OPS,
	.chip_flags = MSI_CHIP_FLAG_SET_ACK,
	/* Interrupt remapping leaves alone what is not a plain PCI/MSI domain. */
	.bus_select_token = DOMAIN_BUS_VMD_MSI,
	.bus_select_mask = MATCH_PCI_MSI,
	.prefix = "lanepool-",
	.init_dev_msi_info = lp_msi_describe,
};

static struct irq_domain *lp_msi_domain_make(struct lp_function *fn)
{
	struct irq_domain_info info = {
		.fwnode = fn->msi_node,
		.size = fn->vector_count,
		.ops = &lp_msi_ops,
		.host_data = fn,
	};

	return msi_create_parent_irq_domain(&info, &lp_msi_parent_ops);
}
#else
static irq_hw_number_t lp_msi_number(struct msi_domain_info *info,
				     msi_alloc_info_t *arg)
{
	return arg->hwirq;
}

static void lp_msi_describe(msi_alloc_info_t *arg, struct msi_desc *desc)
{
	arg->desc = desc;
	arg->hwirq = desc->msi_index;
}

static int lp_msi_prepare(struct irq_domain *domain, struct device *dev,
			  int count, msi_alloc_info_t *arg)
{
	if (count > lp_function_of(dev)->vector_count)
		return -ENOSPC;
	memset(arg, 0, sizeof(*arg));
	return 0;
}

static int lp_msi_init(struct irq_domain *domain, struct msi_domain_info *info,
		       unsigned int irq, irq_hw_number_t number,
		       msi_alloc_info_t *arg)
{
	struct lp_function *fn = info->data;

	if (number >= fn->vector_count)
		return -EINVAL;
	/* The simple handler would lose what comes while one is handled. */
	irq_domain_set_info(domain, irq, number, info->chip, &fn->vectors[number],
			    handle_edge_irq, NULL, "edge");
	return 0;
}

static struct msi_domain_ops lp_msi_ops = {
	.get_hwirq = lp_msi_number,
	.set_desc = lp_msi_describe,
	.msi_prepare = lp_msi_prepare,
	.msi_init = lp_msi_init,
};

static struct irq_domain *lp_msi_domain_make(struct lp_function *fn)
{
	struct irq_domain *domain;

	fn->msi_info.flags = MSI_FLAG_USE_DEF_DOM_OPS | MSI_FLAG_USE_DEF_CHIP_OPS |
			     MSI_FLAG_MULTI_PCI_MSI | MSI_FLAG_PCI_MSIX;
	fn->msi_info.ops = &lp_msi_ops;
	fn->msi_info.chip = &lp_irq_chip;
	fn->msi_info.data = fn;
	domain = pci_msi_create_irq_domain(fn->msi_node, &fn->msi_info, NULL);
	/* Interrupt remapping leaves alone what is not a plain PCI/MSI domain. */
	if (domain)
		irq_domain_update_bus_token(domain, DOMAIN_BUS_VMD_MSI);
	return domain;
}
#endif

int lp_msi_domain_create(struct lp_function *fn)
{
	if (!fn->vector_count)
		return 0;
	fn->msi_node = irq_domain_alloc_named_id_fwnode("lanepool-msi",
							fn->sysdata.domain);
	if (!fn->msi_node)
		return -ENOMEM;
	fn->msi_domain = lp_msi_domain_make(fn);
	if (!fn->msi_domain) {
		irq_domain_free_fwnode(fn->msi_node);
		fn->msi_node = NULL;
		return -ENOMEM;
	}
	return 0;
}

void lp_msi_domain_destroy(struct lp_function *fn)
{
	if (!fn->msi_domain)
		return;
	lp_vectors_disconnect(fn);
	irq_domain_remove(fn->msi_domain);
	irq_domain_free_fwnode(fn->msi_node);
	fn->msi_domain = NULL;
	fn->msi_node = NULL;
}
