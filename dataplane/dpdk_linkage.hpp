// DPDK 24.11 declares this function without C linkage; what comes first decides. meson.build puts it
// before every source.
#pragma once

struct rte_ring;
extern "C" rte_ring* rte_ring_create_elem(const char* name, unsigned int element_bytes,
                                          unsigned int count, int socket, unsigned int flags);
