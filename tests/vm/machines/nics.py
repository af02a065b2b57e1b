"""A virtual machine whose NICs belong to DPDK: emulated PCI devices behind an emulated IOMMU, on
vfio-pci, and huge pages. docs/deployment.md says the same to an operator of real ones.
"""

from .machine import Machine, Nic

HUGE_PAGES = 320  # of 2 MiB: what the smallest gateway of the suite wants, and room
MEMORY = 2 * HUGE_PAGES + 640


class NicMachine(Machine):
    """virtio-net with two queues and RSS as NICs 0 and 1, e1000 as NICs 2 and 3, both pairs on the links
    wan and lan."""

    VIRTIO, E1000 = (0, 1), (2, 3)

    def __init__(self, image, directory, namespace):
        spread = "rss=on,hash=on,rx_queue_size=1024"
        nics = [Nic(link, queues=2, options=spread) for link in ("wan", "lan")]
        nics += [Nic(link, model="e1000") for link in ("wan", "lan")]
        super().__init__(image, directory, namespace, nics, memory=MEMORY, processors=2, nodes=2, iommu=True,
                         kernel_options=f"intel_iommu=on iommu=pt hugepages={HUGE_PAGES}")
        # An IOMMU that does not remap interrupts, as the emulated one under translation, counts as
        # unsafe: any device could raise any interrupt. Here there is nobody to protect.
        self.run("modprobe vfio_iommu_type1 allow_unsafe_interrupts=1 && modprobe vfio-pci && "
                 "mkdir -p /dev/hugepages && mount -t hugetlbfs huge /dev/hugepages", timeout=60)
        for number in range(len(nics)):
            self._bind(self.pci_address(number))

    def _bind(self, address):
        """To vfio-pci, whatever driver has it: what dpdk-devbind.py does."""
        device = f"/sys/bus/pci/devices/{address}"
        self.run(f"test ! -e {device}/driver || echo {address} > {device}/driver/unbind; "
                 f"echo vfio-pci > {device}/driver_override && "
                 f"echo {address} > /sys/bus/pci/drivers_probe && "
                 f"test $(basename $(readlink {device}/driver)) = vfio-pci")
