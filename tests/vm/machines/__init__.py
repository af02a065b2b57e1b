"""Virtual machines for what network namespaces cannot show: NICs on the PCI bus, another kernel."""
